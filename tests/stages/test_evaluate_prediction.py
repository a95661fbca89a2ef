"""Scores of stored volumes: chunked equals whole, honest thresholds, bounded memory."""

import json
import math
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from tests.metrics.oracles import score_stack
from tests.metrics.sections import warp_section
from tests.stages.scored import Scored, find_row
from unetpipe.errors import DataError, GeometryError
from unetpipe.evaluation.baselines import baseline_objects, choose_baselines
from unetpipe.evaluation.score_rows import METRICS
from unetpipe.metrics.contingency import ContingencyTable
from unetpipe.metrics.instances import match_instances
from unetpipe.metrics.isbi import collect_isbi_curves, score_isbi_section
from unetpipe.metrics.overlap import class_scores, confusion_matrix
from unetpipe.metrics.warping import collect_warping
from unetpipe.runtime.files import read_record, write_record
from unetpipe.targets.weight_map import separate_touching
from unetpipe.tiling.quantised import as_probability
from unetpipe.tiling.unet_spec import UNetSpec

SHAPE = (5, 48, 64)
CHUNKS = ((2, 16, 16), (4, 48, 32), (1, 16, 64))


def drawn_cells(shape=SHAPE, seed=0):
    """Instance ids of cells that touch each other, and background between some."""
    rng = np.random.default_rng(seed)
    seeds = rng.permutation(math.prod(shape))[: 6 * shape[0]]
    labels = np.zeros(shape, np.uint32)
    labels.ravel()[seeds] = np.arange(1, seeds.size + 1)
    for z in range(shape[0]):
        distance, nearest = ndimage.distance_transform_edt(
            labels[z] == 0, return_indices=True
        )
        labels[z] = np.where(distance < 9, labels[z][tuple(nearest)], 0)
    return labels


def noisy_map(mask, seed=1, noise=0.2):
    """A stored probability that resembles the mask, as float."""
    blurred = ndimage.gaussian_filter(mask.astype(float), (0, 0.7, 0.7))
    draws = np.random.default_rng(seed).standard_normal(mask.shape)
    return np.rint(255 * np.clip(blurred + noise * draws, 0, 1)) / 255


@pytest.fixture(scope="module")
def cells():
    labels = drawn_cells()
    separated = np.stack([separate_touching(section) for section in labels])
    return labels, separated > 0, noisy_map(separated > 0)


@pytest.fixture(scope="module")
def by_chunk(cells, tmp_path_factory):
    """The same volume, stored and scored with other chunks, in many boxes."""
    labels, _, probability = cells
    records = []
    for chunk in CHUNKS:
        folder = tmp_path_factory.mktemp("chunks")
        scored = Scored(folder, probability, labels, kind="instances", chunk=chunk)
        rows = ("validate", [0, 1]), ("test", [2, 3, 4])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("unetpipe.evaluation.scored_volume.BOX_VOX", 16)
            records.append(scored.evaluate(*rows, field_of_interest_vox=0))
    return records


@pytest.mark.parametrize("key", ["tables", "objects", "calibration", "curves", "seams"])
def test_scores_do_not_depend_on_chunks(by_chunk, key):
    assert by_chunk[0][key] == by_chunk[1][key] == by_chunk[2][key]


def test_voxels_are_scored_as_in_memory(by_chunk, cells):
    labels, truth, probability = cells
    stored = as_probability(np.round(255 * probability).astype(np.uint8))
    whole = score_stack(stored[2:], truth[2:])
    for metric in ("rand_error", "v_rand", "v_info"):
        row = find_row(by_chunk[0]["tables"], "test", "unet", metric)
        assert row["best"]["score"] == getattr(whole, metric).best().score
    warped = collect_warping(
        warp_section(p, t) for p, t in zip(stored[2:], truth[2:], strict=True)
    )
    row = find_row(by_chunk[0]["tables"], "test", "unet", "warping_error")
    assert row["best"]["score"] == warped.warping_error.best().score
    mask = stored > 0.5
    drawn = (labels[2:] > 0).astype(np.uint8)
    scores = class_scores(confusion_matrix(drawn, mask[2:], 2))
    row = find_row(by_chunk[0]["tables"], "test", "unet", "dice_class_1")
    assert row["chosen"]["score"] == pytest.approx(scores.dice[1], abs=1e-12)


def test_objects_are_scored_as_in_memory(by_chunk, cells):
    labels, _, probability = cells
    each = []
    for z in (2, 3, 4):
        found, _ = ndimage.label(probability[z].astype(np.float32) > 0.5)
        table = ContingencyTable.from_arrays(labels[z], found)
        each.append(match_instances(table).average_precision)
    row = find_row(by_chunk[0]["objects"], "test", "unet", "average_precision")
    assert row["per_section"] == pytest.approx(each)
    assert row["chosen"]["score"] == pytest.approx(np.mean(each))
    assert row["chosen"]["score"] > 0.1


def test_every_table_has_baseline_rows(by_chunk):
    for table in by_chunk[0]["tables"]:
        predictors = {(row["predictor"], row["metric"]) for row in table["rows"]}
        assert {("grey value", "v_rand"), ("constant", "v_rand")} <= predictors
        assert {("Otsu", "dice_class_1"), ("constant", "dice_class_1")} <= predictors
    for table in by_chunk[0]["objects"]:
        predictors = {row["predictor"] for row in table["rows"]}
        assert predictors == {
            *("unet", "constant", "Otsu", "Otsu + watershed"),
            *("local threshold", "local threshold + watershed"),
        }


def test_every_score_tells_how_sure_it_is(by_chunk):
    for table in by_chunk[0]["tables"] + by_chunk[0]["objects"]:
        for row in table["rows"]:
            assert row["n"] > 0, row
            score = (row["chosen"] or row["best"])["score"]
            if score is None:  # warping of a constant map
                assert row["predictor"] == "constant"
                assert row["interval"] is None
                continue
            assert len(row["per_section"]) == len(table["sections"])
            low, high = row["interval"]
            assert low <= score + 1e-12
            assert score <= high + 1e-12


def test_a_baseline_s_threshold_is_chosen_on_validation_and_applied_to_test(by_chunk):
    of_validation, of_test = (
        find_row(by_chunk[0]["tables"], role, "grey value", "v_rand")
        for role in ("validate", "test")
    )
    assert of_test["chosen"]["threshold"] == of_validation["best"]["threshold"]
    assert of_test["chosen"]["score"] <= of_test["best"]["score"]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_all_scores_of_the_network_are_those_of_the_delivered_masks(
    cells, tmp_path, threshold
):
    """One row, one threshold; the best of the scored sections is told apart."""
    labels, _, probability = cells
    scored = Scored(
        *(tmp_path, probability, labels),
        kind="instances",
        threshold=threshold,
        thresholds={"v_rand": 0.9, "pixel_error": 0.1},
    )
    record = scored.evaluate(("validate", [0]), ("test", [1]), warping_error=True)
    for table in record["tables"] + record["objects"]:
        for row in table["rows"]:
            if row["predictor"] == "unet":
                assert row["chosen"]["threshold"] == threshold, row["metric"]
    row = find_row(record["tables"], "test", "unet", "v_rand")
    assert row["best"]["score"] >= row["chosen"]["score"]


def test_scores_are_those_of_the_masks_also_between_the_published_thresholds(
    cells, tmp_path
):
    labels, _, probability = cells
    scored = Scored(tmp_path, probability, labels, kind="instances", threshold=0.37)
    record = scored.evaluate(("test", None), warping_error=False)
    row = find_row(record["tables"], "test", "unet", "v_rand")
    assert row["chosen"]["threshold"] == 0.37
    sections = [
        score_isbi_section(
            as_probability(np.rint(255 * p).astype(np.uint8)),
            separated > 0,
            thresholds=np.array([0.37]),
        )
        for p, separated in zip(
            probability, map(separate_touching, labels), strict=True
        )
    ]
    expected = collect_isbi_curves(sections).v_rand.at(0.37)
    assert row["chosen"]["score"] == pytest.approx(expected)


def test_without_validation_rows_the_masks_are_scored_all_the_same(
    cells, tmp_path, caplog
):
    labels, _, probability = cells
    scored = Scored(tmp_path, probability, labels, kind="instances")
    with caplog.at_level("INFO"):
        record = scored.evaluate(("test", None), warping_error=False)
    row = find_row(record["tables"], "test", "unet", "v_rand")
    shown = f"test sections: pixel_error .*, v_rand {row['chosen']['score']:.4g}, .*f1 "
    assert [bool(re.match(shown, line)) for line in caplog.messages].count(True) == 1
    assert row["chosen"]["threshold"] == 0.5
    assert row["interval_of"] == "chosen"


def test_a_network_that_loses_to_a_baseline_is_told(tmp_path, caplog):
    labels = np.zeros((1, 64, 64), np.uint32)
    for number, (y, x) in enumerate(np.ndindex(3, 3), start=1):
        labels[0, 4 + 20 * y : 16 + 20 * y, 4 + 20 * x : 16 + 20 * x] = number
    image = np.where(labels > 0, 200, 20).astype(np.uint8)
    noise = np.random.default_rng(0).random(labels.shape)
    scored = Scored(
        *(tmp_path, 0.4 * (labels > 0) + 0.6 * noise, labels),
        kind="instances",
        image=image,
    )
    with caplog.at_level("WARNING"):
        record = scored.evaluate(isbi_scores=False)
    told = "\n".join(record["warnings"])
    assert re.search("that need no training .*has Dice of class 1 (0.9|1.0)", told)
    assert "where 9 are annotated" in told
    assert set(record["warnings"]) <= set(caplog.messages)
    perfect = Scored(tmp_path / "b", (labels > 0) * 1.0, labels, kind="instances")
    assert perfect.evaluate(isbi_scores=False)["warnings"] == []


def test_baselines_without_a_network_have_the_scores_of_membranes_too(tmp_path):
    labels = np.zeros((1, 64, 64), np.uint32)
    for number, (y, x) in enumerate(np.ndindex(3, 3), start=1):
        labels[0, 4 + 20 * y : 22 + 20 * y, 4 + 20 * x : 22 + 20 * x] = number
    labels[0, 30] = labels[0, :, 30] = 255
    image = np.where(labels > 0, 200, 20).astype(np.uint8)
    faint = np.full(labels.shape, 0.7)
    scored = Scored(tmp_path, faint, labels, kind="instances", image=image)
    record = scored.evaluate(warping_error=False)
    for name, least in (("Otsu", 0.4), ("Otsu + watershed", 0.8)):
        row = find_row(record["tables"], "test", name, "v_rand")
        assert row["chosen"]["threshold"] is None
        assert len(row["per_section"]) == 1
        assert row["chosen"]["score"] > least
    told = "that need no training .*smoothed Otsu.* has V-Rand"
    assert any(re.search(told, warning) for warning in record["warnings"])


def test_cells_with_a_thin_tail_are_the_same_truth_in_any_boxes(tmp_path, monkeypatch):
    labels = np.zeros((1, 48, 128), np.uint32)
    labels[0, :20], labels[0, 22:], labels[0, 20:22, 16:] = 1, 2, 3
    labels[0, 10:40, 80:] = 3
    scored = Scored(tmp_path, labels * 0.2, labels, kind="instances")
    scores = []
    for side in (1024, 16):
        monkeypatch.setattr("unetpipe.evaluation.scored_volume.BOX_VOX", side)
        record = scored.evaluate(warping_error=False, baselines=False)
        scores.append(find_row(record["tables"], "test", "unet", "v_rand"))
    assert scores[0] == scores[1]


def test_the_record_says_what_was_scored(by_chunk):
    record = by_chunk[0]
    assert record["role_sections"] == {"validate": [0, 1], "test": [2, 3, 4]}
    assert record["left_out"] == []
    assert record["schema_version"] == 1
    assert sorted(record["sections_best"] + record["sections_worst"]) == sorted(
        2 * [2, 3, 4]
    )
    assert record["objects"][1]["field_border_vox"] == 0
    assert sum(record["objects"][1]["sizes"]["unet"]["truth"]) == len(
        {(z, i) for z in (2, 3, 4) for i in np.unique(drawn_cells()[z]) if i}
    )
    assert "NaN" not in json.dumps(record)
    metrics = {row["metric"] for table in record["objects"] for row in table["rows"]}
    assert metrics <= METRICS.keys()


def test_the_seam_report_has_numbers_and_a_picture(cells, tmp_path):
    labels, _, probability = cells
    scored = Scored(tmp_path, probability, labels, kind="instances")
    record = scored.evaluate(isbi_scores=False)
    seams = record["seams"]
    picture = ElementTree.fromstring((tmp_path / seams["picture"]).read_bytes())
    shown = [part.text for part in picture.iter() if part.tag.endswith("text")]
    assert any(text.startswith("tile along x, n = ") for text in shown)
    (row,) = [r for r in seams["rows"] if (r["face"], r["axis"]) == ("tile", "x")]
    thickness = read_record(tmp_path / "prediction.json")["geometry"]["shard"][0]
    assert row["n"] == math.ceil(SHAPE[0] / thickness)  # one face, at 32
    expected = np.abs(probability[:, :, 32] - probability[:, :, 31]).mean()
    assert row["jump_across"] == pytest.approx(expected)


def sparse(cells):
    """Section 0 unannotated, section 1 without known background, the rest complete."""
    labels = cells[0].copy()
    labels[0] = 99
    labels[1][labels[1] == 0] = 99
    return labels


def test_sparse_annotation_counts_where_it_is_known(cells, tmp_path):
    labels, probability = sparse(cells), cells[2]
    scored = Scored(tmp_path, probability, labels, kind="instances", unlabelled=99)
    record = scored.evaluate(warping_error=False)
    assert record["left_out"] == [0, 1]
    assert record["tables"][0]["sections"] == [1, 2, 3, 4]
    row = find_row(record["tables"], "test", "unet", "v_rand")
    assert row["num_sections"] == 3
    assert [score is None for score in row["per_section"]] == [
        True,
        False,
        False,
        False,
    ]
    table = record["objects"][0]
    assert table["sections"] == [1, 2, 3, 4]
    for metric in ("average_precision", "ctc_det"):
        row = find_row(record["objects"], "test", "unet", metric)
        assert row["per_section"][0] is None
        assert None not in row["per_section"][1:]
    seg = find_row(record["objects"], "test", "unet", "ctc_seg")
    assert None not in seg["per_section"]


def test_markers_of_frames_without_annotation_decide_on_detection(cells, tmp_path):
    labels, probability = sparse(cells), cells[2]
    markers = np.zeros(SHAPE[1:], np.uint16)
    markers[10:12, 10:12] = 4
    tifffile.imwrite(tmp_path / "marker.tif", markers)
    paths = [str(tmp_path / "marker.tif"), None, None, None, None]
    scored = Scored(
        *(tmp_path / "run", probability, labels),
        **{"kind": "instances", "unlabelled": 99, "markers": paths},
    )
    record = scored.evaluate(isbi_scores=False)
    assert record["objects"][0]["sections"] == [0, 1, 2, 3, 4]
    for predictor in ("unet", "constant", "Otsu + watershed"):
        row = find_row(record["objects"], "test", predictor, "ctc_det")
        assert row["per_section"][0] is not None
        assert row["per_section"][1] is None
        row = find_row(record["objects"], "test", predictor, "vi_split")
        assert row["per_section"][0] is None
        assert row["num_sections"] == 4
    row = find_row(record["objects"], "test", "constant", "ctc_det")
    assert row["per_section"][0] == 1, "one object covers the one marker"


@pytest.mark.parametrize("times", [2, 3])
def test_markers_lie_on_the_grid_of_their_files(times, cells, tmp_path):
    """A volume at a half or a third of the resolution, its markers at the full one."""
    labels, paths = cells[0], []
    grown = labels.repeat(times, 1).repeat(times, 2)
    for z, section in enumerate(grown):
        markers = np.zeros(section.shape, np.uint16)
        for number in np.unique(section)[1:]:  # one voxel of each cell
            y, x = np.argwhere(section == number)[-1]
            markers[y, x] = number
        paths.append(str(tmp_path / f"{z}.tif"))
        tifffile.imwrite(paths[-1], markers)
    scored = Scored(
        *(tmp_path / "run", labels > 0, labels),
        **{"kind": "instances", "markers": paths, "objects": labels},
        original=grown.shape,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unetpipe.evaluation.scored_volume.BOX_VOX", 16)
        record = scored.evaluate(isbi_scores=False, field_of_interest_vox=0)
    row = find_row(record["objects"], "test", "unet", "ctc_det")
    assert row["chosen"]["score"] == 1


def test_objects_across_sections_are_scored_as_one_volume(tmp_path):
    labels = np.zeros((4, 32, 32), np.uint32)
    labels[:, 2:10, 2:10] = 7
    labels[1:3, 16:28, 16:28] = 8
    probability = (labels > 0) * 1.0
    scored = Scored(tmp_path, probability, labels, kind="instances", connectivity="3d")
    record = scored.evaluate(isbi_scores=False)
    row = find_row(record["objects"], "test", "unet", "average_precision")
    assert (row["chosen"]["score"], row["n"], row["n_of"]) == (1, 2, "objects")
    assert row["per_section"] is None
    assert find_row(record["objects"], "test", "Otsu + watershed", "f1")


def test_classes_are_scored_one_by_one(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, SHAPE).astype(np.uint8)
    votes = np.stack([(truth == k) * 0.6 for k in range(3)])
    votes = np.clip(votes + 0.3 * rng.random(votes.shape), 0, 1)
    truth[0, :8] = 255
    scored = Scored(tmp_path, votes, truth, kind="classes", unlabelled=255)
    record = scored.evaluate(("test", [0, 1]))
    known = truth[:2] != 255
    result = np.rint(255 * votes).argmax(axis=0)[:2]
    expected = class_scores(confusion_matrix(truth[:2][known], result[known], 3))
    for k in range(3):
        row = find_row(record["tables"], "test", "unet", f"iou_class_{k}")
        assert row["chosen"]["score"] == pytest.approx(expected.iou[k])
    assert find_row(record["tables"], "test", "constant", "iou_class_1")
    assert [entry["class"] for entry in record["calibration"]] == [0, 1, 2]
    assert record["objects"] == []


def test_an_overlap_table_alone_needs_no_whole_sections(cells, tmp_path, monkeypatch):
    labels, truth, probability = cells
    monkeypatch.delattr("unetpipe.evaluation.scored_volume.ScoredVolume.whole_sections")
    scored = Scored(tmp_path, probability, truth.astype(np.uint8))
    record = scored.evaluate(isbi_scores=False, baselines=False)
    assert {r["predictor"] for r in record["tables"][0]["rows"]} == {"unet"}
    assert labels.max() > 1


def test_a_field_of_interest_that_leaves_nothing_is_refused(cells, tmp_path):
    labels, _, probability = cells
    scored = Scored(tmp_path, probability, labels, kind="instances")
    with pytest.raises(GeometryError, match="48 x 64"):
        scored.evaluate(field_of_interest_vox="DIC-C2DH-HeLa")


@pytest.mark.parametrize("bright", [True, False])
def test_the_grey_baseline_finds_the_side_of_the_cells(tmp_path, bright):
    truth = drawn_cells() > 0
    image = np.where(truth == bright, 200, 100).astype(np.uint8)
    labels = truth.astype(np.uint8)
    scored = Scored(tmp_path, truth * 1.0, labels, image=image)
    record = scored.evaluate(("validate", [0]), ("test", [1, 2]), warping_error=False)
    row = find_row(record["tables"], "test", "Otsu", "iou_class_1")
    assert row["chosen"]["score"] == 1


def test_a_mask_without_an_outside_is_one_object():
    assert (baseline_objects(np.ones((4, 5), bool)) == 1).all()
    assert (baseline_objects(np.zeros((4, 5), bool)) == 0).all()


GROWTH = """
import sys
from pathlib import Path
from tests.stages.scored import Scored
scored = Scored.__new__(Scored)
scored.folder = Path(sys.argv[1])
by_sections = sys.argv[2] == "sections"
scored.evaluate(isbi_scores=by_sections, warping_error=False, baselines=False)
# Not getrusage, which counts what the parent held when it forked.
status = Path("/proc/self/status").read_text()
print(1024 * int(status.partition("VmHWM:")[2].split()[0]))
"""


def peak_of(folder, num_sections, mode):
    """Return the peak memory of a process that scores tiled sections."""
    y, x = np.mgrid[:256, :256]
    section = ((y // 32) * 8 + x // 32 + 1) * (y % 32 > 3) * (x % 32 > 3)
    labels = np.broadcast_to(section, (num_sections, 256, 256)).astype(np.uint32)
    image = (labels % 251).astype(np.uint8)
    Scored(
        folder, labels > 0, labels, kind="instances", chunk=(2, 256, 256), image=image
    )
    command = [sys.executable, "-c", GROWTH, str(folder), mode]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["boxes", "sections"])
def test_memory_does_not_grow_with_the_volume(tmp_path, mode):
    """Sixteen times the sections: the arrays alone would take 80 MB more."""
    few, many = (peak_of(tmp_path / f"{n}", n, mode) for n in (8, 128))
    print(f"\n{mode}: {few >> 20} MB, of 16 times the volume {many >> 20} MB")
    assert many - few < 25 * 2**20
    record = read_record(tmp_path / "128" / "metrics.json")
    assert many < record["projected_peak_rss_bytes"] < 3 * many


def test_overlap_is_scored_against_the_annotation_as_drawn(tmp_path):
    """Cells that touch: the borders that training puts between them are no truth."""
    labels = np.zeros((1, 32, 32), np.uint32)
    for number, x in enumerate(range(0, 32, 4)):
        labels[0, 4:28, x : x + 4] = number + 1
    probability = (labels > 0).astype(float)
    record = Scored(tmp_path / "run", probability, labels, kind="instances").evaluate()
    for metric in ("dice_class_1", "iou_class_1", "recall_class_1"):
        row = find_row(record["tables"], "test", "unet", metric)
        assert row["chosen"]["score"] == 1, metric
        assert "as it was drawn" in row["definition"]
    row = find_row(record["tables"], "test", "unet", "pixel_error")
    assert row["best"]["score"] == 0
    rand = find_row(record["tables"], "test", "unet", "rand_error")
    assert rand["best"]["score"] > 0.5, "the cells are merged, and that is seen"


def test_the_rim_that_nobody_annotated_counts_for_no_score(tmp_path):
    labels = np.zeros((1, 64, 64), np.uint32)
    labels[0, 20:40, 20:40] = 1
    probability = (labels > 0).astype(float)
    probability[0, :6, :] = 1
    scored = Scored(tmp_path / "run", probability, labels, kind="instances")
    record = scored.evaluate(field_of_interest_vox=8)
    for metric in ("dice_class_1", "f1", "ctc_seg", "ctc_det"):
        tables = record["tables"] if metric.startswith("dice") else record["objects"]
        assert find_row(tables, "test", "unet", metric)["chosen"]["score"] == 1
    assert find_row(record["tables"], "test", "unet", "v_rand")["best"]["score"] == 1
    assert record["left_out"] == []
    whole = scored.evaluate()
    row = find_row(whole["tables"], "test", "unet", "dice_class_1")
    assert row["chosen"]["score"] < 0.8
    ingested = read_record(scored.folder / "ingest.json")
    grid = {"shape": [1, 128, 128], "voxel_size_nm": [1, 1, 1]}
    write_record(scored.folder / "ingest.json", ingested | {"original": grid})
    halved = scored.evaluate(field_of_interest_vox=16)
    assert halved["tables"] == record["tables"], "16 voxels of the files are 8 here"


def discs(num_sections=2, seed=0, noise=60.0):
    """Bright discs, some of which touch, in strong noise: ids, and grey values."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96]
    labels = np.zeros((num_sections, 96, 96), np.uint32)
    for number, (cy, cx) in enumerate(np.ndindex(4, 4), start=1):
        inside = np.hypot(y - 12 - 24 * cy, x - 12 - 23 * cx) < 11
        labels[:, inside] = number
    grey = 100 + 60 * (labels > 0) + noise * rng.standard_normal(labels.shape)
    return labels, grey.astype(np.float32)


def test_the_baseline_is_what_a_competent_user_would_do(tmp_path):
    labels, image = discs()
    drawn = {"kind": "instances", "image": image, "chosen_by": "dice"}
    scored = Scored(tmp_path, (labels > 0) * 1.0, labels, **drawn)
    record = scored.evaluate(("validate", [0]), ("test", [1]), isbi_scores=False)
    told = {one["predictor"]: one for one in record["baselines"]}
    assert told["Otsu"]["sigma_vox"] > 0
    assert all(one["is_bright"] and one["num_sections"] == 1 for one in told.values())
    dice = find_row(record["tables"], "test", "Otsu", "dice_class_1")["chosen"]["score"]
    assert dice > 0.9
    assert set(told) == {
        *("Otsu", "Otsu + watershed"),
        *("local threshold", "local threshold + watershed"),
    }
    plain, cut = (
        find_row(record["objects"], "test", f"Otsu{how}", "f1")["chosen"]["score"]
        for how in ("", " + watershed")
    )
    assert cut > plain, "touching discs"


def test_baselines_see_the_channel_in_which_cells_stand_out(tmp_path):
    labels, image = discs()
    other = np.random.default_rng(5).normal(100, 60, image.shape)
    channels = np.stack([other, 0 * other, 255 - image]).astype(np.float32)
    drawn = {"kind": "instances", "image": channels, "chosen_by": "dice"}
    scored = Scored(tmp_path, (labels > 0) * 1.0, labels, **drawn)
    record = scored.evaluate(("validate", [0]), ("test", [1]))
    assert {one["channel"] for one in record["baselines"]} == {2}
    assert not any(one["is_bright"] for one in record["baselines"])
    for name, least in (("Otsu", 0.9), ("local threshold", 0.8)):
        row = find_row(record["tables"], "test", name, "dice_class_1")
        assert row["chosen"]["score"] > least
    grey = find_row(record["tables"], "test", "grey value", "pixel_error")
    assert grey["chosen"]["score"] < 0.4


def test_what_the_network_learnt_from_chooses_the_baseline_of_other_volumes(tmp_path):
    labels, image = discs()
    dark = 255 - image
    _, scored = (
        Scored(
            *(tmp_path / name, (labels > 0) * 1.0, labels),
            kind="instances",
            image=dark,
            chosen_by="dice",
        )
        for name in ("learnt", "tested")
    )
    ingest = str(tmp_path / "learnt" / "ingest.json")
    rows = [
        {"ingest": ingest, "role": "train", "sections": [0]},
        {"ingest": ingest, "role": "validate", "sections": [1]},
    ]
    record = scored.evaluate(learnt=rows, isbi_scores=False)
    assert not any(one["is_bright"] for one in record["baselines"])
    assert {one["num_sections"] for one in record["baselines"]} == {1}
    row = find_row(record["tables"], "test", "Otsu", "dice_class_1")
    assert row["chosen"]["score"] > 0.9


def test_what_the_network_learnt_from_is_asked_once_for_all_volumes_of_a_lot(
    tmp_path, monkeypatch
):
    labels, image = discs()
    _, *scored = (
        Scored(
            *(tmp_path / name, (labels > 0) * 1.0, labels),
            kind="instances",
            image=image,
            chosen_by="dice",
        )
        for name in ("learnt", "one", "other")
    )
    ingest = tmp_path / "learnt" / "ingest.json"
    rows = [{"ingest": str(ingest), "role": "validate", "sections": [1]}]
    asked: list[int] = []

    def counted(*sections: object, **asking: object) -> object:
        asked.append(1)
        return choose_baselines(*sections, **asking)

    monkeypatch.setattr("unetpipe.evaluation.known_sections.choose_baselines", counted)
    first, second = (
        one.evaluate(learnt=rows, isbi_scores=False)["baselines"] for one in scored
    )
    assert first == second
    assert len(asked) == 1
    record = read_record(ingest)
    write_record(ingest, record | {"volume": "brought in anew"})
    scored[0].evaluate(learnt=rows, isbi_scores=False)
    assert len(asked) == 2


def test_a_volume_that_the_network_learnt_from_and_is_gone_is_named(tmp_path):
    labels, image = discs()
    scored = Scored(tmp_path, (labels > 0) * 1.0, labels, kind="instances", image=image)
    rows = [{"ingest": str(tmp_path / "gone.json"), "role": "train", "sections": [0]}]
    with pytest.raises(DataError, match=r"gone\.json does not exist; run the rule"):
        scored.evaluate(learnt=rows, isbi_scores=False)


def test_a_network_chosen_by_objects_is_scored_by_those_of_a_mask_too(tmp_path):
    labels = np.zeros((2, 32, 32), np.uint8)
    labels[:, 2:10, 2:10] = labels[:, 16:28, 16:28] = 1
    scored = Scored(tmp_path, labels * 1.0, labels)
    assert scored.evaluate(isbi_scores=False)["objects"] == []
    scored = Scored(tmp_path / "f1", labels * 1.0, labels, chosen_by="f1")
    record = scored.evaluate(isbi_scores=False)
    (table,) = record["objects"]
    assert table["truth_is"] == "components"
    row = find_row(record["objects"], "test", "unet", "f1")
    assert row["chosen"]["score"] == 1
    assert sum(table["sizes"]["unet"]["truth"]) == 4


def test_large_sections_go_without_some_scores_and_the_record_says_so(
    cells, tmp_path, monkeypatch
):
    _, truth, probability = cells
    scored = Scored(tmp_path, probability, truth.astype(np.uint8))
    model = read_record(tmp_path / "model.json")
    chosen_by = {"recipe": {"validation_metric": "f1"}}
    write_record(tmp_path / "model.json", model | chosen_by)
    small = scored.evaluate(("test", [0, 2]))
    assert small["not_computed"] == []
    monkeypatch.setattr("unetpipe.evaluation.passes.MOST_WHOLE_VOXELS", 1000)
    large = scored.evaluate(("test", [0, 2]))
    warping, rules = large["not_computed"]
    assert "48 x 64" in warping
    assert "delivered masks alone" in warping
    assert "Otsu" in rules

    def ours(record, key, metric):
        return find_row(record[key], "test", "unet", metric)

    for metric in ("warping_error", "classic_warping_error"):
        few, many = (ours(r, "tables", metric)["chosen"] for r in (large, small))
        assert few == many
    assert ours(large, "tables", "v_rand") == ours(small, "tables", "v_rand")
    assert ours(large, "objects", "f1") == ours(small, "objects", "f1")
    (curve,) = (
        c
        for c in large["curves"]
        if (c["predictor"], c["metric"]) == ("unet", "warping_error")
    )
    assert [s is not None for s in curve["scores"]] == [
        abs(t - 0.5) < 1e-9 for t in curve["thresholds"]
    ]
    predictors = {r["predictor"] for t in large["tables"] for r in t["rows"]}
    assert predictors == {"unet", "constant"}
    everything = scored.evaluate(("test", [0, 2]), warping_thresholds="all")
    assert len(everything["not_computed"]) == 1
    assert ours(everything, "tables", "warping_error") == ours(
        small, "tables", "warping_error"
    )


def test_objects_cut_out_of_one_mask_score_as_the_truth_is_cut(tmp_path):
    """With cores masks are whole cells: V_Rand is that of the objects, set apart."""
    labels = np.zeros((1, 32, 32), np.uint32)
    labels[:, 4:28, 4:16], labels[:, 4:28, 16:28] = 1, 2
    stored = np.stack([labels > 0, labels > 0]).astype(float)
    spec = UNetSpec(base_channels=4, depth=2, targets="markers")
    scores = {}
    for name, objects in {"cut": labels, "whole": np.minimum(labels, 1)}.items():
        scored = Scored(
            tmp_path / name,
            stored,
            labels,
            kind="instances",
            objects=objects,
            spec=spec,
        )
        record = scored.evaluate(baselines=False, warping_error=False)
        scores[name] = {
            metric: find_row(record[tables], "test", "unet", metric)["chosen"]["score"]
            for tables, metric in (
                ("tables", "v_rand"),
                ("tables", "dice_class_1"),
                ("objects", "f1"),
            )
        }
    assert scores["cut"] == {"v_rand": 1, "dice_class_1": 1, "f1": 1}
    assert scores["whole"]["dice_class_1"] == 1
    assert scores["whole"]["v_rand"] < 0.7
