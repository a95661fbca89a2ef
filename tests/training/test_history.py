"""The table of a training: what was written stays, what was torn goes."""

from unetpipe.training.history import HEADER, History, HistoryRow, read_history

ROWS = [
    HistoryRow(1, 0.1 + 0.2, 1e-3, 0.5),
    HistoryRow(2, 1 / 3, 1e-3, 1.0),
    HistoryRow(3, 2e-17, 1e-4, 1.25, 0.9, 0.30000000000000004),
]


def test_rows_come_back_to_the_bit(tmp_path):
    history = History(tmp_path / "history.csv")
    history.append(ROWS[:2])
    history.append(ROWS[2:])
    assert read_history(history.path) == ROWS


def test_the_header_names_the_columns(tmp_path):
    path = tmp_path / "history.csv"
    History(path).append(ROWS[:1])
    assert path.read_text() == (
        "step,loss,learning_rate,seconds,validation,threshold,averaged\n"
        "1,0.30000000000000004,0.001,0.5,,,\n"
    )


def test_rows_after_the_kept_step_are_cut_off(tmp_path):
    History(tmp_path / "history.csv").append(ROWS)
    again = History(tmp_path / "history.csv", keep=2)
    assert read_history(again.path) == ROWS[:2]
    again.append(ROWS[2:])
    assert read_history(again.path) == ROWS
    assert read_history(History(again.path).path) == []


def test_a_torn_last_line_is_no_row(tmp_path):
    """Also where what is left of it looks like a number: 1.25 torn to 1.2."""
    path = tmp_path / "history.csv"
    History(path).append(ROWS)
    text = path.read_text()
    for cut in range(len(HEADER), len(text)):
        path.write_text(text[:cut])
        found = read_history(path)
        assert found == ROWS[: len(found)]
        assert len(found) == text[len(HEADER) : cut].count("\n")


def test_a_score_is_put_into_the_last_row(tmp_path):
    history = History(tmp_path / "history.csv")
    history.append(ROWS[:2])
    history.amend_last(seconds=9.0, validation=0.5, threshold=None)
    assert read_history(history.path) == [
        ROWS[0],
        HistoryRow(2, 1 / 3, 1e-3, 9.0, 0.5, None),
    ]


def test_there_is_no_history_before_the_first_step(tmp_path):
    assert read_history(tmp_path / "absent.csv") == []
