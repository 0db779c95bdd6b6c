"""`python -m pipeline.network`: the files of a bridge on the LAN, for systemd-networkd of a host."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.errors import InputError
from pipeline.network.lan import Fixed, files


def main(arguments: list[str] | None = None) -> int:
    """Writes the files, or prints them. Writes over none that is there. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.network", description=__doc__)
    parser.add_argument("bridge", help='name of the bridge, as in nspawn.network.bridge of image.toml: "br0"')
    parser.add_argument("uplink", help='interface that leads to the LAN: "enp1s0"')
    parser.add_argument("--own", default="main", help="name of the host's own link on the bridge (default: main)")
    parser.add_argument("--address", action="append", default=[], help="address/prefix of that; default: by DHCP")
    parser.add_argument("--gateway", action="append", default=[], help='with --address: the default route, or "none"')
    parser.add_argument("--dns", action="append", default=[], help='with --address: a name server, or "none"')
    parser.add_argument("--into", type=Path, help="folder to write them to, such as /etc/systemd/network")
    chosen = parser.parse_args(arguments)
    given = {"--gateway": chosen.gateway, "--dns": chosen.dns}
    if chosen.address and (lacking := [name for name, values in given.items() if not values]):
        # By DHCP it had both until now, and would lose them at its next start.
        parser.error(f'--address needs {" and ".join(lacking)} as well ("none", if there is to be none)')
    if not chosen.address and (more := [name for name, values in given.items() if values]):
        parser.error(f"{more[0]} is for a host with --address; without, DHCP says it")
    gateways, servers = ([one for one in values if one != "none"] for values in given.values())
    try:
        fixed = Fixed(chosen.address, gateways, servers) if chosen.address else None
    except InputError as error:
        parser.error(error.message)
    made = files(chosen.bridge, chosen.uplink, chosen.own, fixed)
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
