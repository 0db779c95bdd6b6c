"""Containers for tests: the .nspawn file that an image.toml ships, with one command in the place of a boot."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from pipeline.image import Image, load
from pipeline.machine import settings


def image(folder: Path, text: str, name: str = "web") -> Image:
    """The image of a definition, in a folder of tests."""
    made = folder / name
    made.mkdir(exist_ok=True)
    (made / "image.toml").write_text(text)
    return load(made)


@dataclass(frozen=True)
class Container:
    """The tree's container: `name` is another one for each module, for modules run at the same time."""

    name: str
    tree: Path

    @property
    def file(self) -> Path:
        return Path(f"/run/systemd/nspawn/{self.name}.nspawn")

    def argv(self, said: settings.Settings, *command: str, link: bool = False) -> list[str]:
        """The command line that runs a command in the tree under settings; without one, what `parameters` says.

        Without `link` it has no virtual link.
        """
        text = said.nspawn.replace("Boot=yes\n", "" if command else "Boot=no\n")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text if link else text.replace("VirtualEthernet=yes\n", ""))
        return ["systemd-nspawn", "--quiet", "--settings=override", "--register=no", "--keep-unit", "--console=pipe",
                f"--machine={self.name}", f"--directory={self.tree}", *command]  # fmt: skip

    def run(self, said: settings.Settings, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(said, *command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
        )

    def ask(self, folder: Path, text: str, script: str) -> list[str]:
        """The lines that a script of sh prints in the tree under the settings that an image.toml ships."""
        ended = self.run(settings.shipped(image(folder, text)), "/bin/sh", "-c", script)
        assert "ignoring" not in ended.stderr, ended.stderr
        assert ended.returncode == 0, ended
        return ended.stdout.splitlines()
