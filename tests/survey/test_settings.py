"""What is proposed for objects, masks and membranes, and whether it is valid."""

from itertools import pairwise

import numpy as np
import pytest
import tifffile
import yaml

from tests.survey.strangers import (
    SIDE,
    draw_curves,
    draw_discs,
    photograph,
    write,
    write_organelles,
    write_two_channels,
    write_vessels,
)
from unetpipe.config import check_config
from unetpipe.survey.roles import split_roles_in_blocks
from unetpipe.survey.understanding import understand


def propose(folder, **options):
    """Return the configuration that is proposed, checked as a run checks it."""
    found = understand(folder, "m", "auto", options.get("label_kind", "auto"))
    text = found.write("m", str(folder), "m.tsv")[1]
    return check_config(yaml.safe_load(text)), found


def write_set(folder, labels):
    for k, drawn in enumerate(labels):
        grey = photograph(np.random.default_rng(k), dark=drawn > 0)
        write(folder / "images" / f"{k}.tif", grey)
        write(folder / "labels" / f"{k}.tif", drawn)


def honeycomb(width, gap):
    """Square cells with walls between them, in the layout of a chess board."""
    ids = np.zeros((SIDE, SIDE), np.uint16)
    step = width + gap
    for number, (y, x) in enumerate(np.ndindex(SIDE // step, SIDE // step), 1):
        ids[y * step : y * step + width, x * step : x * step + width] = number
    return ids


def discs(k, **options):
    return draw_discs(np.random.default_rng(k), 30, 6, 12, **options)


def curves(k):
    return np.uint8(255 * draw_curves(np.random.default_rng(k)))


@pytest.mark.parametrize(
    ("draw", "metric", "is_scored"),
    [
        (lambda k: curves(k), "dice", False),
        (lambda k: np.uint8(255 * (discs(k) > 0)), "dice", False),
        (lambda k: np.uint8(255 * (honeycomb(20 + k % 3, 3) > 0)), "v_rand", True),
        (lambda k: honeycomb(20 + k % 3, 3), "v_rand", True),
        (lambda k: discs(k, gap=4), "f1", False),
        (
            lambda k: np.uint8([0, 90, 200])[np.indices((SIDE, SIDE)).sum(0) // 4 % 3],
            "dice",
            False,
        ),
    ],
    ids=["vessels", "masks", "membranes", "cells", "nuclei", "classes"],
)
def test_the_metric_follows_from_what_the_labels_are(tmp_path, draw, metric, is_scored):
    write_set(tmp_path, [draw(k) for k in range(6)])
    config, found = propose(tmp_path)
    assert config.training.validation_metric == metric
    assert config.evaluation.isbi_scores is is_scored
    assert f"set training.validation_metric: {metric}, because" in "\n".join(
        found.describe()
    )


def neighbours(k, gap=1):
    """Squares in pairs with a line of background between the two."""
    ids = np.zeros((SIDE, SIDE), np.uint16)
    for number, (y, x) in enumerate(np.ndindex(5, 5)):
        for half in (0, 1):
            left = 36 * x + half * (10 + gap) + k
            ids[36 * y : 36 * y + 10, left : left + 10] = 2 * number + half + 1
    return ids


@pytest.mark.parametrize("draw", [discs, neighbours])
def test_objects_that_touch_are_cut_apart(tmp_path, draw):
    write_set(tmp_path, [draw(k) for k in range(6)])
    config, found = propose(tmp_path)
    segmentation = config.segmentation
    assert (segmentation.method, segmentation.seeds) == ("auto", "auto")
    assert "of the objects touch others: the validation rows choose" in "\n".join(
        found.describe()
    )


def test_objects_apart_get_a_smallest_size_by_the_score_that_chooses(tmp_path):
    write_set(tmp_path, [discs(k, gap=5) for k in range(6)])
    segmentation = propose(tmp_path)[0].segmentation
    assert segmentation.method != "watershed"
    assert segmentation.smallest_object_vox == "auto"


@pytest.mark.parametrize(
    "write_them", [write_vessels, write_organelles, write_two_channels]
)
def test_what_is_proposed_for_strangers_is_a_valid_configuration(tmp_path, write_them):
    write_them(tmp_path)
    config, found = propose(tmp_path)
    assert config.network.num_classes == found.kind.num_classes
    assert len(found.rows) >= 10


def stack(rough, count=20):
    """Sections of one volume, alike where it is not rough."""
    rng = np.random.default_rng(0)
    base = photograph(rng, dark=discs(0) > 0, noise=0)
    sections = [
        np.uint8(np.clip(base + rng.normal(0, rough, base.shape), 0, 255))
        for _ in range(count)
    ]
    return np.stack(sections)


@pytest.mark.parametrize("has_tests", [False, True])
@pytest.mark.parametrize("count", range(1, 25))
def test_no_section_is_tested_beside_one_that_trains_however_few_there_are(
    count, has_tests
):
    roles = split_roles_in_blocks(count, has_tests=has_tests)
    assert len(roles) == count
    assert roles.count("train") >= count / 3
    assert ("validate" in roles) == (count > 1)
    assert ("test" in roles) == (count > 2 and not has_tests)
    pairs = {frozenset(pair) for pair in pairwise(roles)}
    assert frozenset({"train", "test"}) not in pairs
    assert (frozenset({"train", "validate"}) in pairs) == (1 < count < 6)


def test_few_sections_that_are_alike_share_roles_in_blocks(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", stack(0.5, count=5))
    tifffile.imwrite(tmp_path / "a_labels.tif", np.stack([discs(0)] * 5))
    found = understand(tmp_path, "m", "auto", "auto")
    assert {row.role: row.sections for row in found.rows} == {
        "train": (0, 1, 2),
        "validate": (3,),
        "test": (4,),
    }
    assert any("too few to leave a gap" in note for note in found.notes)


@pytest.mark.parametrize(("rough", "is_apart"), [(0.5, True), (250.0, False)])
def test_sections_that_are_alike_do_not_train_and_test_in_turns(
    tmp_path, rough, is_apart
):
    tifffile.imwrite(tmp_path / "a.tif", stack(rough))
    tifffile.imwrite(tmp_path / "a_labels.tif", np.stack([discs(0)] * 20))
    rows = understand(tmp_path, "m", "auto", "auto").rows
    roles = {row.role: row.sections for row in rows}
    if is_apart:
        assert roles == {
            "train": tuple(range(10)),
            "validate": (11, 12, 13, 14),
            "test": (16, 17, 18, 19),
        }
    else:
        assert roles["test"] == (4, 9, 14, 19)
    notes = understand(tmp_path, "m", "auto", "auto").notes
    words = "too much alike" if is_apart else "they are scored beside those that train"
    assert any(words in note for note in notes)
