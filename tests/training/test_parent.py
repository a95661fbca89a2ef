"""Fine-tuning begins exactly where the parent ended, and says what it cannot keep."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.stages.annotated import draw_instances, ingest
from tests.stages.test_train_unet import NETWORK, TRAINING, Training, rows_of
from unetpipe.errors import ConfigError, DataError, IntegrityError
from unetpipe.network.unet import UNet
from unetpipe.network.weights import load_network, pack_weights
from unetpipe.records.model import Model
from unetpipe.runtime.files import hash_file
from unetpipe.targets.rows import open_annotated_rows
from unetpipe.training.augmentation import Augmentation
from unetpipe.training.history import read_history
from unetpipe.training.loss import mean_loss, voxel_weights, weighted_cross_entropy
from unetpipe.training.parent import find_parent_network, inherit_weights
from unetpipe.training.recipe import plan_training
from unetpipe.training.sampling import PatchSampler

ROLES = ("train", "validate")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A trained parent, and the rows it learnt from."""
    folder = tmp_path_factory.mktemp("shared")
    torch.set_num_threads(1)
    rows = rows_of(ingest(folder / "volumes" / "cells", draw_instances()))
    return Training(folder / "parent", rows)()


def child(shared, folder, *, network=NETWORK, **settings):
    settings = {"start_from": str(shared.folder)} | settings
    return Training(
        folder,
        shared.rows,
        network=network,
        training=TRAINING.model_copy(update=settings),
    )


def weights_of(folder):
    model = Model.read(folder / "model.json")
    network = UNet(model.spec)
    inherit_weights(
        network,
        find_parent_network(
            TRAINING.model_copy(update={"start_from": str(folder)}), model.spec
        ),
    )
    return network.state_dict()


def test_the_first_loss_is_the_parents_to_the_bit(shared, tmp_path):
    done = child(shared, tmp_path / "done", steps=1)
    order = done.order()
    rows = [
        open_annotated_rows(order.rows, role, 2, with_border=True) for role in ROLES
    ]
    recipe = plan_training(*rows, order)
    torch.set_num_threads(1)
    parent = load_network(
        shared.folder / "model.safetensors", Model.read(shared.folder / "model.json")
    ).train()
    sampler = PatchSampler(
        recipe.train_rows.volumes,
        recipe.spec,
        recipe.patch,
        Augmentation(**order.augmentation.model_dump()),
        seed=0,
    )
    batch = sampler.render(sampler.batch(0, range(1)), torch.device("cpu"))
    image = batch.image.contiguous(memory_format=torch.channels_last)
    parent.to(memory_format=torch.channels_last)
    weights = voxel_weights(
        batch.target, batch.border, torch.from_numpy(recipe.class_weights)
    )
    energy, _ = weighted_cross_entropy(
        parent(image, batch.seeds), batch.target, weights, recipe.spec
    )
    average = sampler.average_weight(recipe.class_weights)
    expected = mean_loss(energy, torch.tensor(average, dtype=torch.float32))
    assert done().history[0].loss == pytest.approx(expected.item(), rel=0, abs=0)


@pytest.mark.slow
def test_weights_that_do_not_move_are_the_parents(shared, tmp_path):
    done = child(shared, tmp_path / "done", steps=2, learning_rate=1e-30)()
    ours, theirs = weights_of(done.folder), weights_of(shared.folder)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


def test_the_parent_is_in_identity_and_record(shared, tmp_path):
    done = child(shared, tmp_path / "done", steps=1)()
    sha256 = hash_file(shared.folder / "model.safetensors")
    assert done.model["recipe"]["parent"] == {
        "weights_sha256": sha256,
        "afresh": [],
        "is_frozen": False,
    }
    assert done.record["parent"]["weights_sha256"] == sha256
    assert done.record["parent"]["folder"] == str(shared.folder)
    assert "parent" not in shared.record
    assert done.record["model"]["recipe"] != shared.record["model"]["recipe"]


def test_a_frozen_path_keeps_every_bit(shared, tmp_path):
    done = child(shared, tmp_path / "done", steps=3, freeze_contracting=True)()
    ours, theirs = weights_of(done.folder), weights_of(shared.folder)
    same = {name for name in theirs if torch.equal(ours[name], theirs[name])}
    assert same == {name for name in theirs if name.startswith("down.")}


def test_a_frozen_path_keeps_running_statistics():
    spec = replace(NETWORK.spec(), normalization="batch")
    network = UNet(spec)
    network.freeze_contracting()
    before = {k: v.clone() for k, v in network.down.state_dict().items()}
    network.train()
    network(torch.randn(2, 1, 20, 20))
    for name, tensor in network.down.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert network.merge[0][1].training


def test_other_classes_start_the_last_layer_afresh_and_say_so(shared):
    spec = replace(NETWORK.spec(), num_classes=4)
    parent = find_parent_network(child(shared, shared.folder).training, spec)
    torch.manual_seed(0)
    network = UNet(spec)
    fresh = network.out.weight.clone()
    inherit_weights(network, parent)
    assert parent.afresh == ("out",)
    assert torch.equal(network.out.weight, fresh)
    theirs = weights_of(shared.folder)
    assert torch.equal(
        network.state_dict()["down.0.0.weight"], theirs["down.0.0.weight"]
    )
    [told] = parent.warnings()
    assert "the layer out begins afresh" in told


def test_other_channels_start_the_first_layer_afresh(shared):
    spec = replace(NETWORK.spec(), in_channels=3)
    parent = find_parent_network(child(shared, shared.folder).training, spec)
    network = UNet(spec)
    inherit_weights(network, parent)
    assert parent.afresh == ("down.0.0",)
    assert "channels of the image" in parent.warnings()[0]
    frozen = child(shared, shared.folder, freeze_contracting=True).training
    with pytest.raises(ConfigError, match="images of 1 channels, these have 3"):
        find_parent_network(frozen, spec)


def test_another_architecture_is_refused_with_both_values(shared):
    spec = replace(NETWORK.spec(), base_channels=5)
    with pytest.raises(ConfigError, match=r"network\.base_channels is 5, there 3"):
        find_parent_network(child(shared, shared.folder).training, spec)


def test_another_normalisation_is_a_warning(shared, tmp_path):
    described = Model.read(shared.folder / "model.json")
    odd = described.model_copy(update={"normalisation": "nothing"})
    odd.write(tmp_path / "model.json")
    settings = TRAINING.model_copy(update={"start_from": str(tmp_path)})
    [told] = find_parent_network(settings, NETWORK.spec()).warnings()
    assert "normalised by nothing" in told


def test_images_normalised_otherwise_are_a_warning(shared):
    settings = TRAINING.model_copy(update={"start_from": str(shared.folder)})
    parent = find_parent_network(settings, NETWORK.spec())
    assert parent.warnings() == []
    [told] = parent.warnings((1, 99))
    assert "these are normalised by volume percentiles 1 and 99" in told


def test_damaged_weights_are_not_gone_on_from(shared, tmp_path):
    (tmp_path / "model.json").write_bytes((shared.folder / "model.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(
        pack_weights(UNet(NETWORK.spec()).state_dict())
    )
    with pytest.raises(IntegrityError, match="sha256"):
        child(shared, tmp_path / "done", start_from=str(tmp_path))()


def test_no_network_and_an_ensemble_are_refused(shared, tmp_path):
    settings = TRAINING.model_copy(update={"start_from": str(tmp_path)})
    with pytest.raises(DataError, match=r"model\.json"):
        find_parent_network(settings, NETWORK.spec())
    described = Model.read(shared.folder / "model.json")
    described.model_copy(update={"num_members": 2}).write(tmp_path / "model.json")
    with pytest.raises(ConfigError, match="ensemble of 2 networks; name one"):
        find_parent_network(settings, NETWORK.spec())


def test_freezing_random_weights_is_refused(shared, tmp_path):
    with pytest.raises(ConfigError, match=r"without training\.start_from"):
        child(shared, tmp_path / "x", start_from=None, freeze_contracting=True)()


@pytest.mark.slow
def test_fine_tuning_goes_on_to_the_same_bits(shared, tmp_path):
    whole = child(shared, tmp_path / "whole", steps=6)()
    first = child(shared, tmp_path / "parts", steps=3)()
    assert len(read_history(first.folder / "history.csv")) == 3
    parts = child(shared, tmp_path / "parts", steps=6)()
    assert parts.record["resumed_at"] == [3]
    assert np.array_equal(
        [row.loss for row in whole.history], [row.loss for row in parts.history]
    )
    assert whole.record["model"] == parts.record["model"]
