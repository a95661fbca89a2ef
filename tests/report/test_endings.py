"""What a run that failed says at its end."""

from types import SimpleNamespace

import pytest

from unetpipe.report.endings import describe_failure

LOOKUPS = SimpleNamespace(
    layout=SimpleNamespace(logs="logs", run_page="results/report.html"),
    config=SimpleNamespace(volumes="sheet.tsv"),
)


@pytest.fixture
def run_log(tmp_path):
    job = tmp_path / "ingest_volume/broken.log"
    job.parent.mkdir()
    job.write_text("2026 CRITICAL unetpipe: DataError: it is cut off\n")
    path = tmp_path / "run.log"
    path.write_text(f"Error in rule ingest_volume:\n    jobid: 3\n    log: {job}\n")
    return path


def told(run_log, write, *asked) -> list[str]:
    patterns = {"ingest_volume": f"{run_log.parent}/ingest_volume/{{volume}}.log"}
    return [
        *describe_failure(LOOKUPS, str(run_log), patterns, [*asked, "--cores"], write)
    ]


def test_what_failed_is_told_before_pages_are_written_and_then_where_they_are(run_log):
    patterns = {"ingest_volume": f"{run_log.parent}/ingest_volume/{{volume}}.log"}
    asked = []
    ending = describe_failure(
        LOOKUPS, str(run_log), patterns, [], lambda: not asked.append("pages")
    )
    assert "DataError: it is cut off" in next(ending)
    assert not asked
    (last,) = ending
    assert last.endswith("results/report.html")
    assert asked


def test_an_error_of_the_pages_hides_nothing(run_log):
    def write() -> bool:
        raise KeyError("shape")

    first, last = told(run_log, write)
    assert "broken" in first
    assert last == "No page of what is done: KeyError: 'shape'"


def test_where_no_page_is_written_none_is_told(run_log):
    assert len(told(run_log, lambda: False)) == 1


def test_a_run_that_was_stopped_writes_no_pages(run_log):
    run_log.write_text(f"{run_log.read_text()}Terminating processes on user request\n")
    job = run_log.parent / "ingest_volume/broken.log"
    job.write_text("2026 CRITICAL unetpipe: Interrupted: stopped by Ctrl-C\n")
    assert len(told(run_log, lambda: True)) == 1


def test_a_view_that_was_ended_is_no_failure(run_log):
    """Control-C is its end, as it says; what goes wrong in it is told all the same."""
    assert "broken" in told(run_log, lambda: False, "view")[0]
    run_log.write_text("Terminating processes on user request\n")
    assert told(run_log, lambda: False, "view") == []
    assert told(run_log, lambda: False)[0].startswith("\nSomething stopped")
