"""A machine under systemd-nspawn: a tree that commands run in, a machine that boots, and how one speaks to it."""

from pipeline.machine.backend import host
from pipeline.machine.nspawn import inside, settings_file
from pipeline.machine.unit import Machine

__all__ = ["Machine", "host", "inside", "settings_file"]
