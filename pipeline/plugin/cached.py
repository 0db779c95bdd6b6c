"""`--cache-info`: what the cache of this session's place holds. Tests nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipeline import appliance, stored
from pipeline.cache import main
from pipeline.command import BuildLog
from pipeline.plugin.options import Settings
from pipeline.user_cache import exchange

HOME = Path(__file__).parents[2]


def show(chosen: Settings) -> int:
    """Prints it, started inside the appliance where builds run there. Returns the exit status."""
    limits = chosen.wishes.limits
    words = [f"--days={limits.days}", f"--number={limits.number}", f"--size={limits.size}"]
    words += [f"--dataset={chosen.dataset}"] if chosen.dataset and chosen.choice.where == "native" else []
    status = _datasets(chosen, words)
    for line in stored.table(exchange()):
        print(line)
    return status


def _datasets(chosen: Settings, words: list[str]) -> int:
    if chosen.choice.where == "native":
        return main([*words, "info"])
    with BuildLog() as log, appliance.running([appliance.Share(HOME, False)], log=log) as guest:
        argv = ["env", "-C", str(HOME), "PYTHONDONTWRITEBYTECODE=1", "python3", "-m", "pipeline.cache", *words, "info"]
        return subprocess.run(guest.command(argv), stdout=sys.stdout, stderr=sys.stderr).returncode
