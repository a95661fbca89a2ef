"""The network's scores on the validation rows: chosen from what would be stored."""

import numpy as np
import pytest
import torch

from tests.targets.annotated import annotate
from unetpipe.errors import ConfigError
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.unet import UNet
from unetpipe.segmentation.choice import ObjectRule
from unetpipe.segmentation.thresholds import fill_choices
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.validation import (
    Validator,
    choose_threshold_metric,
    is_better,
)

SPEC = UNetSpec(depth=1, base_channels=2)


def validator(volume, metric, **more):
    values = {
        "class_weights": np.ones(2, np.float32),
        "precision": "fp32",
        "device": torch.device("cpu"),
        "largest_input": 10**4,
    }
    return Validator([volume], metric, **(values | more))


@pytest.fixture
def predict(monkeypatch):
    """Let the predictor answer with a function of (grey values, z, y, x)."""

    def answer(function):
        def predict_block(self, source, origin, block, geometry, *, mean, std):
            stored = function(source)
            classes = (
                stored.argmax(axis=0).astype(np.uint8) if len(stored) > 1 else None
            )
            return stored, classes

        monkeypatch.setattr(TilePredictor, "predict_block", predict_block)

    return answer


def clean(volume):
    """The image is its own target, so that a predictor can be perfect."""
    return annotate(
        target=volume.target,
        image=volume.target[None].astype(np.float32),
        sections=volume.sections,
        num_known=volume.num_known,
    )


def test_a_perfect_prediction_scores_one_and_finds_its_threshold(predict):
    volume = clean(annotate())
    predict(lambda grey: (100 + 100 * grey).astype(np.uint8))
    score = validator(volume, "v_rand").score(UNet(SPEC))
    assert score.score == 1
    assert score.scores == {
        "pixel_error": 0,
        "rand_error": 0,
        "v_rand": 1,
        "v_info": 1,
        "dice": 1,
    }
    # 100/255 = 0.39 is background, 200/255 = 0.78 is not; of all between 0.5 is taken.
    assert score.threshold == pytest.approx(0.5)
    assert set(score.thresholds) == {*score.scores, "segmentation"} - {"dice"}
    assert score.thresholds["segmentation"] == score.threshold


def test_only_the_sections_of_the_row_are_scored(predict):
    volume = annotate((3, 48, 56), sections=(0, 2), num_known=(1, 1))
    volume.target[1] = 0
    predict(lambda grey: (100 + 100 * grey).astype(np.uint8))
    assert validator(clean(volume), "v_rand").score(UNet(SPEC)).score == 1


def test_what_nobody_annotated_costs_nothing(predict):
    volume = clean(annotate((1, 48, 56)))
    volume.target[:, :, 30:] = 255
    predict(lambda grey: np.where(np.arange(56) < 30, 200 * grey, 255).astype(np.uint8))
    assert validator(volume, "v_rand").score(UNet(SPEC)).scores["pixel_error"] == 0
    assert validator(volume, "dice").score(UNet(SPEC)).score == 1


def test_dice_is_the_mean_over_classes_other_than_background(predict):
    spec = UNetSpec(depth=1, base_channels=2, num_classes=3)
    volume = clean(annotate(num_classes=3))
    predict(
        lambda grey: (255 * (grey == np.arange(3)[:, None, None, None])).astype("u1")
    )
    weights = np.ones(3, np.float32)
    perfect = validator(volume, "dice", class_weights=weights).score(UNet(spec))
    assert perfect.score == 1
    assert perfect.threshold is None
    assert perfect.thresholds == {}
    predict(lambda grey: np.stack([255 + 0 * grey[0]] + [0 * grey[0]] * 2).astype("u1"))
    constant = validator(volume, "dice", class_weights=weights).score(UNet(spec))
    assert constant.score == 0
    assert len(constant.notes) == 2
    assert "class 1 is annotated" in constant.notes[0]


def test_the_loss_is_the_weighted_mean_over_stored_probabilities(predict):
    volume = clean(annotate())
    predict(lambda grey: np.full(grey.shape, 51, np.uint8))  # 0.2
    weights = np.array([0.5, 3.0], np.float32)
    found = validator(volume, "loss", class_weights=weights).score(UNet(SPEC))
    cells = float((volume.target == 1).mean())
    energy = -3 * cells * np.log(0.2) - 0.5 * (1 - cells) * np.log(0.8)
    assert found.score == pytest.approx(energy / (3 * cells + 0.5 * (1 - cells)))


def test_a_stored_zero_is_a_large_loss_not_an_infinite_one(predict):
    predict(lambda grey: np.zeros(grey.shape, np.uint8))
    found = validator(clean(annotate()), "loss").score(UNet(SPEC))
    assert 0 < found.score < 6.3  # -log(0.5 / 255)


def test_validation_predicts_like_the_predictor_of_the_chain():
    """Tile by tile, from the volume's own statistics, with the network as it is."""
    torch.manual_seed(0)
    volume, network = annotate((1, 48, 56)), UNet(SPEC).train()
    weights = {name: t.clone() for name, t in network.state_dict().items()}
    seen = []
    original = TilePredictor.predict_block

    class Watching(pytest.MonkeyPatch):
        pass

    with Watching().context() as patch:

        def predict_block(self, source, origin, block, geometry, **statistics):
            seen.append((source, geometry, statistics))
            return original(self, source, origin, block, geometry, **statistics)

        patch.setattr(TilePredictor, "predict_block", predict_block)
        validator(volume, "loss", largest_input=50**2).score(network)
    ((source, geometry, statistics),) = seen
    np.testing.assert_array_equal(source, volume.image)
    assert statistics["mean"] is volume.mean
    assert np.prod(geometry.input_shape) <= 50**2
    assert geometry.num_tiles > 1
    assert network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights[name])
        assert tensor.stride() == weights[name].stride()


def test_a_score_is_better_in_the_direction_of_its_metric():
    assert is_better("v_rand", 0.6, 0.5)
    assert not is_better("v_rand", 0.5, 0.5)
    assert is_better("loss", 0.4, 0.5)
    assert not is_better("loss", 0.6, 0.5)
    assert is_better("dice", 0.0, None)
    assert not is_better("dice", float("nan"), None)


def test_objects_choose_threshold_and_smallest_size(predict):
    ids = np.zeros((1, 48, 56), np.uint32)
    ids[0, 2:20, 2:20], ids[0, 22:40, 2:20] = 1, 2
    volume = annotate(
        target=(ids > 0).astype(np.uint8),
        image=(ids > 0)[None].astype(np.float32),
        sections=(0,),
        num_known=(1,),
        instances=ids,
    )

    def with_bridge_and_speck(grey):
        stored = (200 * grey).astype(np.uint8)
        stored[0, 0, 20:22, 10], stored[0, 0, 45, 50] = 150, 255
        return stored

    predict(with_bridge_and_speck)
    rule = ObjectRule("2d", None)
    score = validator(volume, "f1", objects=rule).score(UNet(SPEC))
    assert score.score == 1
    assert score.scores == {"seg": 1, "f1": 1}
    assert score.notes == ()
    # 150/255 = 0.59 joins the two cells; a quarter of one is 81 voxels.
    assert score.thresholds == {
        "f1": 0.6,
        "segmentation": 0.6,
        "smallest_object_vox": 64.0,
    }


def test_sparse_cells_are_scored_by_their_own_ids(predict):
    ids = np.full((1, 48, 56), 77, np.uint32)  # nobody annotated the rest
    ids[0, 2:20, 2:20], ids[0, 2:20, 20:38] = 5, 6  # touching
    volume = annotate(
        target=np.where(ids == 77, 255, 1).astype(np.uint8),
        image=np.isin(ids, (5, 6))[None].astype(np.float32),
        sections=(0,),
        num_known=(1,),
        instances=ids,
        unlabelled=77,
    )

    def cut_between(grey):
        stored = np.full(grey.shape, 255, np.uint8)
        stored[0, 0, :, 19:21] = 100
        stored[0, 0, 20:] = 100
        stored[0, 0, :, 38:] = 100
        return stored

    predict(cut_between)
    score = validator(volume, "seg").score(UNet(SPEC))
    cell, shared = 18 * 18, 18 * 17  # columns are cut away
    left = shared / (cell + 20 * 19 - shared)
    right = shared / (cell + 20 * 17 - shared)
    assert score.score == pytest.approx((left + right) / 2)
    assert score.threshold == 0.5
    assert "f1" not in score.scores  # no background is known


def test_one_score_chooses_the_checkpoint_and_another_the_threshold(predict):
    volume = clean(annotate())
    predict(lambda grey: (100 + 100 * grey).astype(np.uint8))
    score = validator(volume, "v_rand", choose_by="dice").score(UNet(SPEC))
    assert (score.score, score.scores["v_rand"]) == (1, 1)
    assert score.thresholds["v_rand"] == pytest.approx(0.5)
    assert score.thresholds["segmentation"] == 0.5  # of all that are perfect


def test_dice_finds_a_threshold_for_each_class(predict):
    spec = UNetSpec(depth=1, base_channels=2, num_classes=3)
    volume = clean(annotate(num_classes=3))

    def timid(grey):  # class 2 never becomes the most probable one
        stored = np.zeros((3, *grey.shape[1:]), np.uint8)
        stored[0] = 155
        stored[1] = np.where(grey[0] == 1, 200, 0)
        stored[2] = np.where(grey[0] == 2, 60, 0)
        return stored

    predict(timid)
    weights = np.ones(3, np.float32)
    options = {"class_weights": weights, "choose_by": "dice"}
    score = validator(volume, "dice", **options).score(UNet(spec))
    assert score.thresholds == {"class_1": 0.5, "class_2": 0.2}
    assert score.score < 1


def test_scores_of_two_classes_are_refused_for_more():
    spec = UNetSpec(depth=1, base_channels=2, num_classes=3)
    weights = np.ones(3, np.float32)
    with pytest.raises(ConfigError, match="is seg, which needs two classes, but"):
        validator(annotate(), "seg", class_weights=weights).score(UNet(spec))


@pytest.mark.parametrize(
    ("wanted", "metric", "num_classes", "chosen"),
    [
        ("auto", "v_rand", 2, "v_rand"),
        ("auto", "seg", 2, "seg"),
        ("auto", "loss", 2, None),
        ("auto", "dice", 4, None),
        ("dice", "dice", 4, "dice"),
        ("seg", "v_rand", 2, "seg"),
    ],
)
def test_what_chooses_the_checkpoint_chooses_the_threshold_unless_told(
    wanted, metric, num_classes, chosen
):
    found = choose_threshold_metric(wanted, metric, num_classes=num_classes)
    assert found == chosen


def discs(num, *, size=64, radius=6, seed=0):
    """Separate discs with ids in a large background."""
    y, x = np.mgrid[:size, :size]
    ids = np.zeros((1, size, size), np.uint32)
    places = [(12 + 20 * (i // 3), 12 + 20 * (i % 3)) for i in range(num)]
    for number, (cy, cx) in enumerate(places, start=1):
        ids[0, (y - cy) ** 2 + (x - cx) ** 2 < radius**2] = number
    return ids


def volume_of(ids, *, with_ids=True, **more):
    return annotate(
        target=(ids > 0).astype(np.uint8),
        image=(ids > 0)[None].astype(np.float32),
        sections=tuple(range(len(ids))),
        num_known=(1,) * len(ids),
        instances=ids if with_ids else None,
        **more,
    )


@pytest.mark.parametrize("num", [1, 9])
def test_v_rand_alone_never_chooses_what_invents_foreground(predict, num):
    """One object a section has a V_Rand of 1 where all is foreground."""
    volume = volume_of(discs(num), with_ids=False)
    predict(lambda grey: (60 + 160 * grey).astype(np.uint8))
    score = validator(volume, "v_rand").score(UNet(SPEC))
    assert score.threshold == pytest.approx(0.5)
    assert score.score == 1
    predict(lambda grey: np.full(grey.shape, 60, np.uint8))
    assert validator(volume, "v_rand").score(UNet(SPEC)).score < 0.9


def test_seg_alone_never_chooses_what_invents_objects(predict):
    """Inventions that cost no annotated cell anything."""
    ids = discs(6)
    volume = volume_of(ids)

    def with_inventions(grey):
        stored = (230 * grey).astype(np.uint8)
        stored[0, 0, 50:56, 4:60:12] = stored[0, 0, 51:57, 4:60:12] = 140
        stored[0, 0, 50:58, 4:60] = np.where(np.arange(56) % 12 < 8, 140, 0)
        stored[0, 0][(ids[0] == 0) & (stored[0, 0] == 0)] = 10
        stored[0, 0, 12, 12] = 141  # the best SEG is below this
        return stored

    predict(with_inventions)
    score = validator(volume, "seg", objects=ObjectRule("2d", 0)).score(UNet(SPEC))
    assert score.threshold > 140 / 255
    assert score.scores["f1"] == 1


def test_draws_are_settled_near_one_half(predict):
    volume = volume_of(discs(4))
    predict(lambda grey: (5 + 240 * grey).astype(np.uint8))
    for metric in ("v_rand", "seg", "f1", "dice"):
        assert validator(volume, metric).score(UNet(SPEC)).threshold == 0.5, metric


def test_a_choice_at_the_end_of_its_grid_and_a_flat_one_are_told(predict):
    volume = volume_of(discs(4), with_ids=False)
    predict(lambda grey: (222 + 20 * grey).astype(np.uint8))
    (note,) = validator(volume, "dice").score(UNet(SPEC)).notes
    assert "0.9, is the last that was tried" in note
    predict(lambda grey: np.full(grey.shape, 255, np.uint8))
    (note,) = validator(volume, "dice").score(UNet(SPEC)).notes
    assert "cannot choose" in note


def test_far_more_objects_than_are_annotated_are_told(predict):
    volume = volume_of(discs(2))
    speckle = np.random.default_rng(0).random((64, 64)) < 0.05
    predict(lambda grey: np.where(speckle, 255, 200 * grey).astype(np.uint8))
    rule = ObjectRule("2d", 0)
    (note,) = validator(volume, "f1", objects=rule).score(UNet(SPEC)).notes
    assert "where 2 are annotated" in note


def test_objects_across_sections_are_chosen_as_they_are_made(predict):
    """A network of single sections, objects in 3-D: sizes are of whole objects."""
    ids = np.zeros((6, 64, 64), np.uint32)
    noise = np.zeros((6, 64, 64), bool)
    for number, (y, x) in enumerate(np.ndindex(4, 4)):
        ids[:, 2 + 14 * y : 8 + 14 * y, 2 + 14 * x : 8 + 14 * x] = number + 1
        noise[:, 10 + 14 * y : 12 + 14 * y, 10 + 14 * x : 13 + 14 * x] = True
    volume = volume_of(ids)
    predict(lambda grey: np.where((grey > 0) | noise[:1], 255, 0).astype(np.uint8))
    rule = ObjectRule("3d", None)
    score = validator(volume, "f1", objects=rule).score(UNet(SPEC))
    assert score.score == 1
    assert 36 < score.thresholds["smallest_object_vox"] <= 216


def test_touching_objects_get_a_rule_that_cuts_them(predict):
    y, x = np.mgrid[:64, :64]
    ids = np.zeros((1, 64, 64), np.uint32)
    for number, cx in enumerate((12, 29, 46), start=1):
        ids[0, ((y - 30) ** 2 + (x - cx) ** 2 <= 81) & (ids[0] == 0)] = number
    volume = volume_of(ids)
    predict(lambda grey: (220 * grey).astype(np.uint8))
    rule = ObjectRule("2d", None, "auto", None)
    judge = validator(volume, "f1", objects=rule)
    assert judge.score(UNet(SPEC)).score < 0.5
    chosen = judge.choose(UNet(SPEC), "fp32")
    assert chosen.scores["f1"] == 1
    settings = {
        "threshold": None,
        "method": "auto",
        "smallest_object_vox": "auto",
        "seed_distance_vox": "auto",
    }
    filled, _ = fill_choices(settings, chosen.thresholds)
    assert filled["method"] == "watershed"
    assert filled["seed_distance_vox"] == chosen.thresholds["seed_distance_vox"]


def test_what_voxels_choose_leaves_the_smallest_size_to_the_objects(predict):
    """A mask without ids: Dice chooses the threshold, F1 the size."""
    volume = volume_of(discs(5), with_ids=False)
    speckle = np.zeros((64, 64), bool)
    speckle[60, ::3] = True
    predict(lambda grey: np.where(speckle, 255, 200 * grey).astype(np.uint8))
    rule = ObjectRule("2d", None, "auto", None)
    chosen = validator(volume, "dice", objects=rule).choose(UNet(SPEC), "fp32")
    assert chosen.thresholds["smallest_object_vox"] == 16  # a quarter of a disc
    assert "seed_distance_vox" not in chosen.thresholds
    assert chosen.scores["f1"] == 1
