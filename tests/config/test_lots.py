"""Which volumes share jobs: by their names, whatever else comes and goes."""

from pathlib import Path

import pytest

from unetpipe.config.awaited import Awaited
from unetpipe.config.checked_run import check_run
from unetpipe.config.described import Described
from unetpipe.config.layout import Layout
from unetpipe.config.lookups import PREDICTED_ROLES, SCORED_ROLES, Lookups
from unetpipe.config.lot_steps import LotSteps
from unetpipe.config.lots import (
    MOST_VOLUMES,
    SMALL_BYTES,
    Lots,
    divide_into_lots,
    find_lots,
    make_lots,
)
from unetpipe.errors import ConfigError
from unetpipe.records.lots import FinishedLot

NAMES = [f"well-{number:04}" for number in range(1000)]


def groups(names: list[str], most: int) -> set[tuple[str, ...]]:
    return {tuple(group) for group in divide_into_lots(names, most).values()}


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


def lots_of(*given: object, **values: object) -> Lots:
    return find_lots(run_of(*given, **values))


def test_every_volume_is_in_one_lot_of_at_most_so_many() -> None:
    found = divide_into_lots(NAMES, 128)
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
    assert not lots_of(tmp_path, NAMES[:9]).volumes
    found = run_of(tmp_path, NAMES[:40])
    assert set(NAMES[:40]) | {"taught"} == set(find_lots(found).lot_of)
    assert not lots_of(tmp_path, NAMES[:40], SMALL_BYTES + 1).volumes
    assert not lots_of(tmp_path, NAMES[:40], lots=1).volumes
    assert set(lots_of(tmp_path, NAMES[:2], lots=9).lot_of) > set(NAMES[:2])
    wanted = lots_of(tmp_path, NAMES[:40], lots=8).volumes.values()
    assert max(map(len, wanted)) <= 8 < MOST_VOLUMES


@pytest.mark.parametrize("section", ["pyramid: parts", "prediction: keep_probability"])
def test_lots_are_refused_with_what_has_jobs_by_volume(
    section: str, tmp_path: Path
) -> None:
    name, key = section.split(": ")
    value: object = 2 if key == "parts" else False
    with pytest.raises(ConfigError, match=f"lots is 9, but {name}.{key}"):
        run_of(tmp_path, NAMES[:2], lots=9, **{name: {key: value}})
    assert not lots_of(tmp_path, NAMES[:40], **{name: {key: value}}).volumes


def test_later_jobs_wait_for_the_lot_and_are_told_the_volumes(tmp_path: Path) -> None:
    found = run_of(tmp_path, NAMES[:40])
    awaited = Awaited(Described(found), find_lots(found))
    of = awaited.lots.lot_of
    assert awaited.predicted(found.layout.segmentation) == [
        f"results/demo/lots/unet/{lot}.txt"
        for lot in dict.fromkeys([of["taught"], of[NAMES[0]]])
    ]
    assert awaited.training("ingest", "unet") == [
        f"results/demo/lots/{of['taught']}.txt"
    ]
    assert len(found.measured_volumes()) == 41
    shared = awaited.shared_folders()
    assert {"results/demo/volumes/taught", "results/demo/unet/taught"} < set(shared)


def test_a_volume_takes_the_steps_of_its_own_jobs(tmp_path: Path) -> None:
    found = run_of(tmp_path, NAMES[:40], export_ctc=True)
    lots = find_lots(found)
    steps, of = LotSteps(found, lots), lots.lot_of
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


def test_a_network_more_leaves_the_lots_of_the_others_as_they_are(
    tmp_path: Path,
) -> None:
    """Else what waits for them, such as every training, would begin again."""
    one = run_of(tmp_path, NAMES[:40])
    deep = {"deep": {"network": {"depth": 3}}, "unet": {}}
    two = run_of(tmp_path, NAMES[:40], variants=deep)
    assert len(two.networks) == 2
    assert find_lots(two).volumes == find_lots(one).volumes


def test_a_run_keeps_its_lots_as_its_originals_go(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = run_of(tmp_path, NAMES[:40])
    volumes_of_lots = find_lots(found).volumes
    for lot, volumes in volumes_of_lots.items():
        done = FinishedLot(volumes=volumes, failed={}, seconds=1, num_steps_done=1)
        done.write(Path(found.layout.ingested_lot.format(lot=lot)))
    for path in tmp_path.glob("*.tif"):
        path.unlink()
    assert find_lots(Lookups(found.run, found.layout)).volumes == volumes_of_lots


def test_who_is_tried_again_has_a_network_that_predicts_it(tmp_path: Path) -> None:
    found = run_of(tmp_path, NAMES[:40])
    lots = find_lots(found)
    steps, of = LotSteps(found, lots), lots.lot_of
    assert steps.is_tried_again(of[NAMES[0]])
    assert not steps.is_tried_again(of["taught"])


def test_what_no_network_uses_is_not_tried_again(tmp_path: Path) -> None:
    """With `trained` the rows to train on: nothing would ever tell that they failed."""
    folder = tmp_path / "old/unet"
    folder.mkdir(parents=True)
    found = run_of(tmp_path, NAMES[:20])
    found.adopted = {"unet": str(folder)}
    found._pairs = {
        roles: [(m, v) for m, v in found.trained_pairs(*roles) if v != "taught"]
        for roles in (PREDICTED_ROLES, SCORED_ROLES)
    }
    lots = find_lots(found)
    steps, of = LotSteps(found, lots), lots.lot_of
    assert not steps.is_taught(of["taught"])
    assert not steps.is_tried_again(of["taught"])
    assert steps.is_tried_again(of[NAMES[0]])
