"""How a machine booted, as read from systemd's chart of it."""

from __future__ import annotations

from pipeline.machine.timing import BootTimes, _in_chart, slower

CHART = r"""<svg><text x="20" y="50">Startup finished in 8.983s (userspace)
graphical.target reached after 8.915s in userspace.</text>
<text class="left" x="410.0" y="14.000">run-lock.mount (1.092s)</text>
<text class="left" x="410.0" y="14.000">network.target</text>
<text class="right" x="410.0" y="14.000">dev-disk-by\x2did.device (1min 2.5s)</text>
<text class="right" x="410.0" y="14.000">a&amp;b.service (828ms)</text></svg>"""


def test_the_units_of_a_chart_are_those_that_took_a_while() -> None:
    assert _in_chart(CHART) == {"run-lock.mount": 1.092, r"dev-disk-by\x2did.device": 62.5, "a&b.service": 0.828}


def test_a_machine_that_boots_later_says_which_units_made_it_so() -> None:
    before = BootTimes(5.0, {"a.service": 1.0, "b.service": 1.0})
    now = BootTimes(6.5, {"a.service": 1.1, "b.service": 1.0, "wait.service": 1.4})
    assert slower(now, before, "12") == "boots 1.5 s later than version 12: wait.service"
    assert slower(before, now, "13") == ""
    assert slower(BootTimes(5.4, {}), before, "12") == ""
