"""`python -m pipeline.network`: the files of a bridge on the LAN, for systemd-networkd of a host."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.network.lan import files


def main(arguments: list[str] | None = None) -> int:
    """Writes the files, or prints them. Writes over none that is there. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.network", description=__doc__)
    parser.add_argument("bridge", help='name of the bridge, as in nspawn.network.bridge of image.toml: "br0"')
    parser.add_argument("uplink", help='interface that leads to the LAN: "enp1s0"')
    parser.add_argument("--own", default="main", help="name of the host's own link on the bridge (default: main)")
    parser.add_argument("--address", action="append", default=[], help="address/prefix of that; default: by DHCP")
    parser.add_argument("--into", type=Path, help="folder to write them to, such as /etc/systemd/network")
    chosen = parser.parse_args(arguments)
    made = files(chosen.bridge, chosen.uplink, chosen.own, chosen.address)
    if chosen.into is None:
        for name, text in made.items():
            print(f"# {name}\n{text}")
        return 0
    if there := [name for name in made if (chosen.into / name).exists()]:
        print(f"{chosen.into / there[0]}: is there already; nothing was written", file=sys.stderr)
        return 1
    chosen.into.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (chosen.into / name).write_text(text)
        print(f"wrote {chosen.into / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
