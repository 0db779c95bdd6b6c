"""A machine under systemd-nspawn: a tree that commands run in, a machine that boots, and how one speaks to it."""

from pipeline.machine.backend import host
from pipeline.machine.network import Network
from pipeline.machine.nspawn import inside
from pipeline.machine.settings import verified
from pipeline.machine.unit import Machine, leash

__all__ = ["Machine", "Network", "host", "inside", "leash", "verified"]
