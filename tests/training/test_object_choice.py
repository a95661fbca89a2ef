"""What makes objects is chosen on a bounded sample, in a bounded number of ways."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion

from unetpipe.config import SegmentationConfig
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.unet import UNet
from unetpipe.records.segmentation import ObjectSettings
from unetpipe.segmentation.choice import Cut, ObjectRule, cuts_beside
from unetpipe.segmentation.thresholds import fill_choices
from unetpipe.segmentation.watershed import SeedRule
from unetpipe.targets.annotated import AnnotatedVolume
from unetpipe.targets.cores import split_cells
from unetpipe.targets.weight_map import separate_touching
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training import object_choice
from unetpipe.training.object_choice import (
    Seen,
    choose_cut_on_validation,
    choose_merging_on_validation,
    crop_stack,
    sample_stacks,
    thresholds_beside,
)
from unetpipe.training.validation import Validator

OPEN = ObjectRule("2d", None, "auto", None, None, None, "auto")


def volume_of(ids):
    zeros = np.zeros(ids.shape, np.uint8)
    return AnnotatedVolume(
        name="v",
        image=zeros[None],
        target=(ids > 0).astype(np.uint8),
        border=None,
        mean=np.zeros(1, np.float32),
        std=np.ones(1, np.float32),
        sections=tuple(range(len(ids))),
        num_known=(ids[0].size,) * len(ids),
        instances=ids,
    )


def discs(*places, shape=(60, 100)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    ids = np.zeros((1, *shape), np.uint32)
    for number, (cy, cx, r) in enumerate(places, start=1):
        ids[0, ((y - cy) ** 2 + (x - cx) ** 2 <= r * r) & (ids[0] == 0)] = number
    return ids


def seen(ids):
    (stack,) = volume_of(ids).stacks(2)
    return Seen(stack, (220 * (ids > 0)).astype(np.uint8)[None])


TOUCHING = discs((30, 20, 13), (30, 40, 8), (30, 60, 13), (30, 80, 8))


@pytest.mark.slow
def test_seeds_cut_discs_of_two_sizes_and_their_reach_is_told():
    rule, threshold = choose_cut_on_validation(
        [seen(TOUCHING)], OPEN, "f1", thresholds_beside(0.5)
    )
    assert (rule.method, threshold) == ("watershed", 0.5)
    assert rule.seed_reach_vox == 54, "twice the longest side, 27"
    seeds = SeedRule("2d", rule.seed_distance_vox, 54, (1, 1, 1), rule.seeds)
    assert seeds.objects(seen(TOUCHING).stored[0], 0.5, 0.5).max() == 4


def test_what_is_apart_stays_components():
    apart = seen(discs((30, 20, 9), (30, 50, 9), (30, 80, 9)))
    assert choose_cut_on_validation([apart], OPEN, "f1", thresholds_beside(0.5)) is None


def test_a_rule_that_is_given_is_only_completed():
    given = ObjectRule("2d", None, "watershed", 4.0, 20, None, "cores")
    rule, _ = choose_cut_on_validation([seen(TOUCHING)], given, "f1", [0.5])
    assert (rule.seeds, rule.seed_distance_vox, rule.seed_reach_vox) == (
        "cores",
        4.0,
        20,
    )


@pytest.mark.parametrize(("wanted", "at"), [("auto", 0.4), (None, 0.7)])
def test_objects_grow_from_seeds_that_are_apart_to_what_is_annotated(wanted, at):
    """Borders between touching objects are learnt as background, and are faint."""
    sure = binary_erosion(separate_touching(TOUCHING[0]) > 0)
    stored = np.where(sure, 220, np.where(TOUCHING > 0, 115, 0))
    (stack,) = volume_of(TOUCHING).stacks(2)
    given = ObjectRule("2d", 0, "watershed", 5.0, 54, None, "depth", wanted)
    sample = [Seen(stack, stored[None].astype(np.uint8))]
    rule, threshold = choose_cut_on_validation(sample, given, "f1", (0.7, 0.5, 0.6))
    assert threshold == at
    assert rule.seed_threshold == (0.7 if wanted else None)


@pytest.mark.parametrize(("largest", "sides"), [(10**6, (60, 100)), (1500, (30, 50))])
def test_a_crop_is_the_middle_with_its_labels(largest, sides):
    whole = seen(TOUCHING)
    small = crop_stack(whole, largest)
    assert small.stack.shape == (1, *sides) == small.stored.shape[1:]
    ids = np.asarray(small.stack.volume.instances)
    assert np.array_equal(ids > 0, small.stored[0] > 0)
    assert ids[0, sides[0] // 2, sides[1] // 2] == TOUCHING[0, 30, 50]


def test_of_many_sections_a_few_are_tried_unless_objects_span_them(monkeypatch):
    monkeypatch.setattr(object_choice, "LARGEST_SAMPLE", 12_000)
    stacks = volume_of(np.repeat(TOUCHING, 10, axis=0)).stacks(2)
    assert sample_stacks(stacks, across_sections=False) == stacks[::5]
    assert sample_stacks(stacks, across_sections=True) == stacks


def test_the_number_of_ways_is_bounded():
    cuts = OPEN.cuts()
    assert len(cuts) == 26
    near = cuts_beside(Cut("depth", 2.0), cuts)
    assert near == [Cut("depth", 2.0), Cut("depth", 3.0)]
    assert thresholds_beside(0.9) == (0.9, 0.7, 0.8)


def with_cores(ids, *, kind="border", likely=150):
    """What a network with cores says of cells, its cores less likely than 0.5 + 0.1."""
    split = split_cells(ids[0], separate_touching(ids[0]), 2)[kind]
    core = np.where(split == 1, likely, 0)
    return np.stack([np.where(ids[0] > 0, 230, 0), core]).astype(np.uint8)[:, None]


@pytest.mark.parametrize("kind", ["border", "markers"])
def test_a_network_with_cores_is_chosen_by_objects_that_are_cut(monkeypatch, kind):
    """From the judges to the settings of a segmentation, which delivers the same."""
    volume = replace(volume_of(TOUCHING), learnt=TOUCHING)
    stored = with_cores(TOUCHING, kind=kind)
    monkeypatch.setattr(TilePredictor, "predict_block", lambda *_, **__: (stored, None))
    validator = Validator(
        [volume],
        "f1",
        class_weights=np.ones(3, np.float32),
        precision="fp32",
        device=torch.device("cpu"),
        largest_input=10**5,
        objects=replace(OPEN, has_cores=True),
    )
    network = UNet(UNetSpec(depth=1, base_channels=1, targets=kind))
    assert validator.score(network).scores["f1"] == 1, "components would be one"
    chosen = validator.choose(network, "fp32")
    assert chosen.scores["f1"] == 1
    assert chosen.thresholds["core_threshold"] < 150 / 255
    settings = SegmentationConfig().model_dump(mode="json")
    filled, _ = fill_choices(settings, chosen.thresholds, has_cores=True)
    assert (filled["method"], filled["seeds"]) == ("watershed", "learnt")
    rule = SeedRule.of(ObjectSettings.model_validate(filled), (1, 1, 1))
    found = rule.objects(stored[0], filled["threshold"], 0.5, core=stored[1])
    np.testing.assert_array_equal(found > 0, TOUCHING > 0)
    assert found.max() == 4


def test_without_a_choice_the_seeds_of_a_network_with_cores_are_its_cores():
    settings = SegmentationConfig().model_dump(mode="json")
    filled, _ = fill_choices(settings, {}, has_cores=True)
    told = filled["method"], filled["seeds"], filled["core_threshold"]
    assert told == ("watershed", "learnt", 0.5)
    filled, _ = fill_choices(settings, {"segmentation": 0.4}, has_cores=True)
    assert filled["method"] == "components", "chosen on the validation rows"


def test_fragments_are_joined_above_the_mean_that_makes_the_true_objects():
    ids = np.ones((1, 40, 60), np.uint32)
    ids[:, :, 20:] += 1
    ids[:, 20:] += 2
    offsets = UNetSpec(head="sigmoid", targets="affinities").affinity_offsets
    stored = np.zeros((1 + len(offsets), *ids.shape), np.uint8)
    for k, (_, y, x) in enumerate(offsets, start=1):
        is_alike = ids == np.roll(ids, (-y, -x), (1, 2))
        stored[k] = np.where(is_alike, 110, 60)  # 0.43 within cells, 0.24 across
    stored[0] = stored[1]
    (stack,) = volume_of(ids).stacks(2)
    rule = ObjectRule(
        "2d", None, "auto", flood_threshold=0, offsets=offsets, fragment_vox=(1, 8, 8)
    )
    assert rule.may_be_mutex
    assert rule.quick().method == "components"
    chosen = choose_merging_on_validation([Seen(stack, stored)], rule, "seg", 0.5)
    assert (chosen.method, chosen.merge_threshold) == ("mutex", 0.4)
    given = replace(rule, merge_threshold=0.9)
    assert choose_merging_on_validation(
        [Seen(stack, stored)], given, "seg", 0.5
    ) == replace(given, method="mutex")


def test_a_network_with_affinities_joins_fragments_where_nothing_was_chosen():
    settings = SegmentationConfig().model_dump(mode="json")
    filled, _ = fill_choices(settings, {}, has_affinities=True)
    made = ObjectSettings.model_validate(filled)
    assert (made.method, made.merge_threshold) == ("mutex", 0.5)
    assert made.fragment_vox == (64, 64, 64)
    filled, _ = fill_choices(settings, {"merge_threshold": 0.7}, has_affinities=True)
    assert filled["merge_threshold"] == 0.7
    filled, _ = fill_choices(settings, {})
    assert not {"merge_threshold", "fragment_vox"} & filled.keys(), "as before"
