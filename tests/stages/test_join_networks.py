"""An ensemble: the mean of its members, exactly, and another if one of them changes."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.stages.predicted import Chain
from unetpipe.errors import ConfigError, IntegrityError
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.weights import load_network
from unetpipe.records.model import Model
from unetpipe.runtime.files import read_record
from unetpipe.stages.join_networks import join_networks
from unetpipe.tiling.unet_spec import UNetSpec

SHAPE = (2, 40, 50)


@pytest.fixture
def join(tmp_path):
    """Return a function that joins networks: (weights, model.json)."""

    def joined(*members, name="ensemble"):
        folder = tmp_path / name
        folder.mkdir()
        files = folder / "model.safetensors", folder / "model.json"
        join_networks(
            names=[f"fold-{number}" for number in range(len(members))],
            models=[weights for weights, _ in members],
            model_jsons=[description for _, description in members],
            model=files[0],
            model_json=files[1],
        )
        return files

    return joined


def members_of(make_model, *seeds):
    return [make_model(seed=seed, name=f"member-{seed}") for seed in seeds]


def predictor_of(model, **more):
    weights, description = model
    return TilePredictor(load_network(weights, Model.read(description)), **more)


@pytest.mark.parametrize(
    "spec", [None, UNetSpec(base_channels=2, depth=2, num_classes=4)]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_stored_bits_are_those_of_the_mean_of_the_members(
    make_model, join, precision, spec
):
    members = [make_model(spec, seed=s, name=f"member-{s}") for s in range(3)]
    ensemble = predictor_of(join(*members), precision=precision)
    stride = (1, 32, 32)
    tiles = np.random.default_rng(0).standard_normal(
        (2, 1, *ensemble.tile_shape(stride)), np.float32
    )
    alone = [
        predictor_of(member, precision=precision).probabilities(tiles)
        for member in members
    ]
    mean = (alone[0] + alone[1] + alone[2]) / 3
    assert torch.equal(ensemble.probabilities(tiles), mean)
    stored, _ = ensemble.predict_tiles(tiles, stride)
    _, y, x = ensemble.spec.output_offset
    kept = mean[..., y : y + 32, x : x + 32]
    assert np.array_equal(stored, (kept * 255).round().to(torch.uint8).numpy())


def test_a_stored_prediction_counts_all_members_and_depends_on_each(
    tmp_path, make_volume, make_model, join
):
    ingest = make_volume(SHAPE)
    one, two, other = members_of(make_model, 0, 1, 2)
    run = Chain(tmp_path / "run", ingest, join(one, two))
    stored, plan = run.run(), read_record(run.folder / "plan.json")
    single = Chain(tmp_path / "single", ingest, one)
    flop, projected = (
        single.plan()["projected"][k] for k in ("flop", "peak_rss_bytes")
    )
    assert plan["projected"]["flop"] == 2 * flop
    assert projected < plan["projected"]["peak_rss_bytes"] < 1.1 * projected
    same = join(one, two, name="same")
    again = Chain(tmp_path / "again", ingest, same, parts=1, block_shards=(1, 2, 2))
    assert np.array_equal(again.run(), stored)
    changed = Chain(tmp_path / "changed", ingest, join(one, other, name="changed"))
    assert changed.plan()["identity_sha256"] != plan["identity_sha256"]


def test_thresholds_are_medians_of_those_that_all_members_have(make_model, join):
    chosen = [
        {"segmentation": 0.25, "pixel_error": 0.5},
        {"segmentation": 0.75},
        {"segmentation": 0.5, "smallest_object_vox": 8.0},
    ]
    members = [
        make_model(seed=s, name=f"member-{s}", thresholds=found)
        for s, found in enumerate(chosen)
    ]
    description = read_record(join(*members)[1])
    assert description["thresholds"] == {"segmentation": 0.5}
    assert description["num_members"] == 3
    assert [m["name"] for m in description["members"]] == ["fold-0", "fold-1", "fold-2"]


@pytest.mark.parametrize(("chosen", "median"), [((0.5, 0.4), 0.4), ((1, 3, 4, 9), 3)])
def test_the_threshold_of_an_even_number_is_one_that_was_tried(
    make_model, join, chosen, median
):
    """Scores are known at thresholds of validation alone, not half-way between."""
    members = [
        make_model(seed=s, name=f"member-{s}", thresholds={"v_rand": found})
        for s, found in enumerate(chosen)
    ]
    assert read_record(join(*members)[1])["thresholds"] == {"v_rand": median}


def test_what_the_members_have_learnt_from_is_known_wherever_the_ensemble_goes(
    make_model, join
):
    rows = [{"volume": "brain", "sections": [z], "image": "1" * 64} for z in range(3)]
    recipes = [
        {"train": rows[:2], "validate": rows[2:], "seed": 0},
        {"train": rows[1:], "validate": rows[:1], "seed": 1},
    ]
    one, two = (
        make_model(seed=s, name=f"member-{s}", recipe=recipe)
        for s, recipe in enumerate(recipes)
    )
    assert read_record(join(one, two)[1])["recipe"] == {
        "train": rows,
        "validate": [rows[2], rows[0]],
    }
    stranger = make_model(seed=2, name="stranger")
    assert "recipe" not in read_record(join(one, stranger, name="partly")[1])


def test_members_of_different_architectures_are_refused(make_model, join):
    wide = make_model(UNetSpec(base_channels=8, depth=2), name="wide")
    with pytest.raises(
        ConfigError, match=r"fold-1 .*base_channels is 8, not 4; .*anew"
    ):
        join(make_model(), wide)


def test_weights_that_are_not_those_described_are_refused(make_model, join, tmp_path):
    one, two = members_of(make_model, 0, 1)
    values = load_file(two[0])
    save_file({name: value + 1 for name, value in values.items()}, two[0])
    with pytest.raises(IntegrityError, match=r"member-1.*delete it and repeat"):
        join(one, two)
    assert not (tmp_path / "ensemble" / "model.safetensors").exists()
