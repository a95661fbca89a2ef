"""Three dimensions, from a step of training to objects that cross blocks along z."""

from pathlib import Path

import cc3d
import numpy as np
import pytest

from tests.oracles import assert_agree, one_pass
from tests.stages.annotated import draw_instances, ingest
from tests.stages.predicted import Chain, small_shards
from tests.stages.segmented import Segmented, by_first_voxel
from tests.stages.test_train_unet import Training, rows_of
from unetpipe.config import NetworkConfig, TrainingConfig
from unetpipe.network.weights import load_network
from unetpipe.records.model import Model
from unetpipe.runtime.files import read_record, write_record
from unetpipe.storage.volumes import open_volume
from unetpipe.tiling.intensity import normalise


@pytest.mark.slow
def test_a_step_of_training_then_prediction_then_objects(tmp_path, monkeypatch):
    shape = (10, 30, 34)
    path = ingest(tmp_path / "cells", draw_instances(shape))
    write_record(path, read_record(path) | {"dtype": "uint8"})
    network = NetworkConfig(
        ndim=3, depth=2, base_channels=2, pooling=((1, 2, 2), (2, 2, 2)), dropout=0.0
    )
    rows = rows_of(path, train=list(range(6)), validate=None, ndim=3)
    one_step = TrainingConfig(
        steps=1, validate_every=1, checkpoint_every=1, threads=1, patch=(14, 36, 36)
    )
    trained = Training(tmp_path / "unet", rows, network=network, training=one_step)()
    model = [tmp_path / "unet" / n for n in ("model.safetensors", "model.json")]
    small_shards(monkeypatch, sections=4)
    chain = Chain(tmp_path / "run", path, model, stride=(4, 16, 16), parts=3)
    stored = chain.run()
    geometry = read_record(chain.folder / "plan.json")["geometry"]
    assert geometry["block"][0] == 4, "blocks meet along z too"

    volume = read_record(path)
    image = open_volume(Path(volume["image"]["store"]))[...]
    mean, std = (
        np.array([c[key] for c in volume["statistics"]], np.float32)
        for key in ("mean", "std")
    )
    whole = one_pass(
        load_network(model[0], Model.model_validate(trained.model)),
        normalise(image, mean=mean, std=std),
    )
    assert whole.std() > 0.01
    assert_agree(stored, whole)

    threshold = float(np.median(whole))
    run = Segmented(
        chain.folder,
        tmp_path / "objects",
        connectivity="3d",
        threshold=threshold,
        parts=2,
    )
    for name, file in (("ingest", path), ("model", model[1])):
        (chain.folder / f"{name}.json").write_bytes(file.read_bytes())
    run.run()
    mask = stored[0] / np.float32(255) > threshold
    expected = by_first_voxel(cc3d.connected_components(mask, connectivity=6))
    assert np.array_equal(run.objects(), expected)
    assert expected.max() > 1
