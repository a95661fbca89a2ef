"""The network's scores on the validation rows: chosen from what would be stored."""

import numpy as np
import pytest
import torch

from tests.network.annotated import annotate
from unetpipe.inference import TilePredictor
from unetpipe.model import UNet
from unetpipe.unet_spec import UNetSpec
from unetpipe.validation import Validator, choose_metric, is_better

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
    }
    # 100/255 = 0.39 is background: 0.4 is the lowest threshold that says so.
    assert score.threshold == pytest.approx(0.4)
    assert set(score.thresholds) == {*score.scores, "segmentation"}
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


def test_dice_is_the_mean_over_classes(predict):
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
    share = float((volume.target == 0).mean())
    assert constant.score == pytest.approx(2 * share / (1 + share) / 3)


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


def test_auto_chooses_v_rand_for_two_classes_and_dice_for_more():
    assert choose_metric("auto", 2) == "v_rand"
    assert choose_metric("auto", 3) == "dice"
    assert choose_metric("loss", 2) == "loss"
