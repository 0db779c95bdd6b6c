"""The stages of a build, each a pytest fixture in a module of its own, in this order. pytest takes them from here."""

from stages.place import build, image, place

from stages.dataset import dataset  # isort: skip
from stages.bootstrap import bootstrap  # isort: skip
from stages.cycles import cycles  # isort: skip
from stages.profile import profile  # isort: skip
from stages.boot import boot  # isort: skip
from stages.machinectl import machinectl, verify  # isort: skip
from stages.acceptance import machine  # isort: skip
from stages.disposable import disposable, disposable_machine, disposable_network  # isort: skip
from stages.ready import subject  # isort: skip
from stages.attended import attended  # isort: skip
from stages.network import network, peer  # isort: skip
from stages.snapshot import snapshot  # isort: skip

__all__ = [
    "attended",
    "boot",
    "bootstrap",
    "build",
    "cycles",
    "dataset",
    "disposable",
    "disposable_machine",
    "disposable_network",
    "image",
    "machine",
    "machinectl",
    "network",
    "peer",
    "place",
    "profile",
    "snapshot",
    "subject",
    "verify",
]
