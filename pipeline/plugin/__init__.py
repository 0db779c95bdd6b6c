"""Pytest's side of goldspawn: options, images collected as pipelines, blocking, live progress, and the move of a
session into the appliance. This folder and `stages/` are the only code that knows pytest.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from pipeline import channel
from pipeline.channel import INSIDE
from pipeline.errors import GoldspawnError
from pipeline.plugin import options
from pipeline.plugin.collect import ImagesMixin
from pipeline.plugin.hosted import Hosted
from pipeline.plugin.hosts import Hosts, wanted
from pipeline.plugin.inside import Inside
from pipeline.plugin.options import HOSTED
from pipeline.plugin.prepare import Hooks, Prepare
from pipeline.plugin.summary import Summary
from pipeline.plugin.verdict import Verdicts
from pipeline.plugin.whole import Whole


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


def pytest_configure() -> None:
    """Gives pytest-testinfra a further way to hosts: `--hosts=nspawn://NAME`, for a machine that runs here."""
    from testinfra.backend import BACKENDS

    BACKENDS["nspawn"] = "pipeline.machine.backend.NspawnBackend"


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(Hooks)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Sets up the session's plugins, before pytest-xdist reads what it is to do."""
    try:
        chosen = options.settings(config)
        if config.getoption("goldspawn_cache_info"):
            from pipeline.plugin import cached  # starts an appliance, and is seldom wanted

            return cached.show(chosen)
        register = config.pluginmanager.register
        register(ImagesMixin(), "goldspawn-collect")
        register(Whole(config), "goldspawn-whole")
        register(Verdicts(config), "goldspawn-verdicts")
        hosted = HOSTED in getattr(config, "workerinput", {})
        hosts = [] if config.option.collectonly else wanted(config)
        if INSIDE in os.environ:
            register(Inside(config), "goldspawn-inside")
        elif hosts:
            register(Hosts(config, hosts), "goldspawn-hosts")
        else:
            if not hosted and chosen.choice.where == "appliance":
                from pipeline.plugin.outside import Outside  # slow to import, for what it starts

                register(Outside(config), "goldspawn-outside")
            register(Prepare(), "goldspawn-prepare")
        if hosted:
            register(Hosted(config), "goldspawn-hosted")
        elif not channel.available():
            register(Summary(config), "goldspawn-summary")
    except GoldspawnError as error:
        raise pytest.UsageError(str(error)) from error
    return None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """All checks of an image go to one worker (pytest-xdist's own way to say so)."""
    from pipeline.plugin.parallel import ImageScheduling

    return ImageScheduling(config, log) if config.getoption("dist") == "load" else None
