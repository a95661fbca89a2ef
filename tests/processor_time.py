"""Which tests cost most, in processor seconds: their own and those of their children.

Seconds on the clock say how busy a machine is; these say what a test asks of it. What
fixtures cost is counted with the first test that uses them; what it takes to import and
collect the tests is told apart. ``--durations 0`` lists all tests, and the file that
UNETPIPE_ACCOUNT names gets a line a test as it ends.
"""

import os
from collections import Counter
from pathlib import Path

import pytest

SLOWEST = 10
_SPENT = "processor_seconds"
_since = 0.0
_collecting: list[float] = []
_spent: Counter[str] = Counter()


def _now() -> float:
    times = os.times()
    return sum((times.user, times.system, times.children_user, times.children_system))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let workers tell what it took them to begin."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["collecting"] = _now()
    elif getattr(session.config.option, "dist", "no") == "no":
        _collecting.append(_now())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    _collecting.append(getattr(node, "workeroutput", {}).get("collecting", 0.0))


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


def pytest_runtest_logreport(report) -> None:
    name = os.environ.get("UNETPIPE_ACCOUNT")
    if not name or "PYTEST_XDIST_WORKER" in os.environ:
        return
    _spent[report.nodeid] += dict(report.user_properties).get(_SPENT, 0.0)
    if report.when == "teardown":
        with Path(name).open("a") as account:
            account.write(f"{_spent[report.nodeid]:.2f}\t{report.nodeid}\n")


def pytest_terminal_summary(terminalreporter) -> None:
    spent: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            own = dict(getattr(report, "user_properties", ()))
            if _SPENT in own:
                spent[report.nodeid] += own[_SPENT]
    began = sum(_collecting)
    terminalreporter.section(
        f"{began:.0f} processor seconds to begin, {spent.total():.0f} in tests, "
        "most of them in"
    )
    for name, seconds in spent.most_common(_how_many(terminalreporter.config)):
        terminalreporter.line(f"{seconds:7.1f}  {name}")


def _how_many(config) -> int:
    """Return how many to list: as many as ``--durations`` asks for, or ten."""
    asked = config.getoption("durations")
    return SLOWEST if asked is None else asked or 10**6
