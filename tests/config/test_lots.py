"""Which volumes share jobs: by their names, whatever else comes and goes."""

from pathlib import Path

import pytest

from unetpipe.config.checked_run import check_run
from unetpipe.config.layout import Layout
from unetpipe.config.lookups import Lookups
from unetpipe.config.lot_steps import LotSteps
from unetpipe.config.lots import MOST_VOLUMES, SMALL_BYTES, divide, make_lots
from unetpipe.errors import ConfigError

NAMES = [f"well-{number:04}" for number in range(1000)]


def groups(names: list[str], most: int) -> set[tuple[str, ...]]:
    return {tuple(group) for group in divide(names, most).values()}


def run_of(folder: Path, names: list[str], size: int = 9, **values: object) -> Lookups:
    """Return a run that learns from one volume and predicts those that are named."""
    rows = ["taught\ttaught.tif\tlabels.tif\t0\ttrain\tzyx"]
    rows.append(rows[0].replace("0\ttrain", "1\tvalidate"))
    rows += [f"{name}\t{name}.tif\t\t\tpredict\tzyx" for name in names]
    for name in ("taught", "labels", *names):
        with (folder / f"{name}.tif").open("wb") as file:
            file.truncate(size)
    header = "volume\timage\tlabels\tsections\trole\taxes\n"
    (folder / "sheet.tsv").write_text(header + "\n".join(rows))
    given = {"source": str(folder), "volumes": str(folder / "sheet.tsv"), **values}
    return Lookups(check_run(given), Layout("demo"))


def test_every_volume_is_in_one_lot_of_at_most_so_many() -> None:
    found = divide(NAMES, 128)
    assert sorted(name for group in found.values() for name in group) == NAMES
    assert all(len(group) <= 128 for group in found.values())
    assert len(found) < 2.5 * len(NAMES) / 128


@pytest.mark.parametrize("change", ["comes", "goes"])
def test_a_row_more_or_less_changes_one_lot_alone(change: str) -> None:
    for number in range(0, len(NAMES), 50):
        others = [*NAMES, f"new-{number}"]
        if change == "goes":
            others = NAMES[:number] + NAMES[number + 1 :]
        # The one that it is in; at most it splits, or two become one.
        assert len(groups(NAMES, 128) - groups(others, 128)) <= 2
    assert groups(NAMES[::-1], 128) == groups(NAMES, 128)


def test_volumes_that_teach_other_networks_are_in_other_lots() -> None:
    lots = make_lots({"a": ("train unet",), "b": ("of unet",), "c": ("of unet",)}, 9)
    assert sorted(lots.volumes.values()) == [("a",), ("b", "c")]
    assert lots.lot_of["b"] == lots.lot_of["c"] != lots.lot_of["a"]


def test_a_few_volumes_or_large_ones_have_jobs_of_their_own(tmp_path: Path) -> None:
    assert not run_of(tmp_path, NAMES[:9]).lots.volumes
    found = run_of(tmp_path, NAMES[:40])
    assert set(NAMES[:40]) | {"taught"} == set(found.lots.lot_of)
    assert not run_of(tmp_path, NAMES[:40], SMALL_BYTES + 1).lots.volumes
    assert not run_of(tmp_path, NAMES[:40], lots=1).lots.volumes
    assert set(run_of(tmp_path, NAMES[:2], lots=9).lots.lot_of) > set(NAMES[:2])
    wanted = run_of(tmp_path, NAMES[:40], lots=8).lots.volumes.values()
    assert max(map(len, wanted)) <= 8 < MOST_VOLUMES


@pytest.mark.parametrize("section", ["pyramid: parts", "prediction: keep_probability"])
def test_lots_are_refused_with_what_has_jobs_by_volume(
    section: str, tmp_path: Path
) -> None:
    name, key = section.split(": ")
    value: object = 2 if key == "parts" else False
    with pytest.raises(ConfigError, match=f"lots is 9, but {name}.{key}"):
        run_of(tmp_path, NAMES[:2], lots=9, **{name: {key: value}})
    assert not run_of(tmp_path, NAMES[:40], **{name: {key: value}}).lots.volumes


def test_later_jobs_wait_for_the_lot_and_are_told_the_volumes(tmp_path: Path) -> None:
    found = run_of(tmp_path, NAMES[:40])
    of = found.lots.lot_of
    assert found.awaited(found.layout.segmentation) == [
        f"results/demo/lots/unet/{lot}.txt"
        for lot in dict.fromkeys([of["taught"], of[NAMES[0]]])
    ]
    assert found.awaited_training("ingest", "unet") == [
        f"results/demo/lots/{of['taught']}.txt"
    ]
    assert len(found.measured_volumes()) == 41


def test_a_volume_takes_the_steps_of_its_own_jobs(tmp_path: Path) -> None:
    found = run_of(tmp_path, NAMES[:40], export_ctc=True)
    steps, of = LotSteps(found), found.lots.lot_of
    taught = steps.ingesting(of["taught"])["taught"]
    assert [rule for rule, _ in taught] == ["ingest_volume", "compute_weight_map"]
    predicted = steps.predicting("unet", of[NAMES[0]])[NAMES[0]]
    assert [rule for rule, _ in predicted] == [
        *("ingest_volume", "probe_prediction", "plan_prediction"),
        *("predict_part", "predict_part", "finish_prediction", "finish_segmentation"),
        "export_ctc",
    ]
    scored = steps.predicting("unet", of["taught"])["taught"]
    assert "evaluate_prediction" in [rule for rule, _ in scored]
    assert "ingest_volume" not in [rule for rule, _ in scored]
