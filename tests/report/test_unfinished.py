"""The notice of what is not done, at the head of a page."""

from unetpipe.report.page.unfinished import is_unfinished, tell_first

PAGE = b"<style>.failed {}</style>\n<header>\n<h1>cells</h1>\n</header>\n"


def failed(volume: str, network: str = "") -> dict[str, str]:
    note = "it is <cut> off"
    return {"volume": volume, "network": network, "step": "ingest_volume", "note": note}


def told(*lines: dict[str, str], num_waiting: int = 0, page: bytes = PAGE) -> str:
    numbers = {"num_volumes": 3, "num_waiting": num_waiting}
    return tell_first(page, lines, **numbers, sheet="sheet.tsv").decode()


def test_one_volume_is_told_as_one_and_several_as_several():
    one, two = told(failed("a")), told(failed("a"), failed("b"))
    assert "1 of 3 volumes failed<" in one
    assert "is of it." in one
    assert "mend the cause and" in one
    assert "before its rows in sheet.tsv" in one
    assert "it is &lt;cut&gt; off" in one
    assert "2 of 3 volumes failed<" in two
    assert "is of them." in two
    assert "mend the causes and" in two
    assert "before their rows" in two


def test_a_volume_that_several_networks_miss_is_counted_once():
    assert "1 of 3 volumes failed<" in told(failed("a", "unet"), failed("a", "deep"))


def test_what_is_not_made_yet_is_no_failure():
    page = told(num_waiting=1)
    assert "1 prediction not made yet<" in page
    assert "failed<" not in page
    assert "1 of 3 volumes failed; 2 predictions not made" in told(
        failed("a"), num_waiting=2
    )


def test_a_notice_takes_the_place_of_the_one_before_and_goes(tmp_path):
    first = told(failed("a"))
    second = told(failed("b"), page=first.encode())
    assert second == told(failed("b"))
    assert told(page=second.encode()) == PAGE.decode()
    page = tmp_path / "report.html"
    assert not is_unfinished(page)
    page.write_text(second)
    assert is_unfinished(page)
    page.write_bytes(PAGE)
    assert not is_unfinished(page)
