"""Which tests cost most, in processor seconds: their own and those of their children.

Seconds on the clock say how busy a machine is; these say what a test asks of it. What
fixtures cost is counted with the first test that uses them.
"""

import os
from collections import Counter

import pytest

SLOWEST = 10
_SPENT = "processor_seconds"
_since = 0.0


def _now() -> float:
    times = os.times()
    return sum((times.user, times.system, times.children_user, times.children_system))


def pytest_runtest_logstart() -> None:
    global _since
    _since = _now()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    global _since
    report = yield
    before, _since = _since, _now()
    report.user_properties.append((_SPENT, _since - before))
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    spent: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            own = dict(getattr(report, "user_properties", ()))
            if _SPENT in own:
                spent[report.nodeid] += own[_SPENT]
    terminalreporter.section(f"{spent.total():.0f} processor seconds, most of them in")
    for name, seconds in spent.most_common(_how_many(terminalreporter.config)):
        terminalreporter.line(f"{seconds:7.1f}  {name}")


def _how_many(config) -> int:
    """Return how many to list: as many as ``--durations`` asks for, or ten."""
    asked = config.getoption("durations")
    return SLOWEST if asked is None else asked or 10**6
