"""A trained network in a notebook: the workflow's own bits, and clear refusals."""

import cloudpickle
import dask.array
import numpy as np
import pytest

from tests.documents import CONFIG_README, blocks
from tests.stages.predicted import SHAPE, Chain
from tests.variants import mostly_slow
from unetpipe.errors import DataError, GeometryError, IntegrityError, ResourceError
from unetpipe.network.notebook import load_trained
from unetpipe.records.volume import GreyPercentiles
from unetpipe.runtime.files import read_record, write_record
from unetpipe.storage.volumes import open_volume
from unetpipe.tiling.unet_spec import UNetSpec

MANY_CLASSES = UNetSpec(base_channels=2, depth=2, num_classes=3, in_channels=2)


def image_of(ingest):
    return open_volume(ingest.parent / "image.ome.zarr")[...]


@pytest.mark.parametrize("average", mostly_slow([4, 1]))
def test_an_array_is_predicted_with_the_bits_that_the_workflow_stores(
    tmp_path, make_volume, make_model, average
):
    ingest, model = make_volume(SHAPE), make_model()
    chain = Chain(tmp_path / "chain", ingest, model, average=average)
    stored = chain.run()
    network = load_trained(model[0].parent, device="cpu", average=average)
    stride = tuple(read_record(chain.folder / "probe.json")["stride"])
    probability, classes = network.predict(image_of(ingest), stride=stride)
    assert stored.std() > 5
    assert np.array_equal(probability, stored)
    assert classes is None


def test_a_network_that_learnt_with_percentiles_normalises_by_them(
    tmp_path, make_volume, make_model
):
    ingest = make_volume(SHAPE)
    model = make_model(percentiles=[5, 90])
    network = load_trained(model[0].parent, device="cpu")
    image, record = image_of(ingest), read_record(ingest)
    low, high = np.percentile(image, (5, 90), method="inverted_cdf").tolist()
    robust = GreyPercentiles.between((5, 90), (low, high))
    record["statistics"][0]["percentiles"] = robust.to_json()
    write_record(ingest, record)
    chain = Chain(tmp_path / "chain", ingest, model)
    stored = chain.run()
    stride = tuple(read_record(chain.folder / "probe.json")["stride"])
    for array in (image, dask.array.from_array(image, chunks=(1, 1, 64, 64))):
        probability, _ = network.predict(array, stride=stride)
        assert np.array_equal(np.asarray(probability), stored)
    given, _ = network.predict(image, statistics=record["statistics"], stride=stride)
    assert np.array_equal(given, stored)
    plain = load_trained(make_model(name="plain")[0].parent, device="cpu")
    assert not np.array_equal(plain.predict(image, stride=stride)[0], stored)


def test_classes_and_channels_are_those_of_the_workflow_too(
    tmp_path, make_volume, make_model
):
    ingest = make_volume(SHAPE, channels=2)
    chain = Chain(tmp_path / "chain", ingest, make_model(MANY_CLASSES))
    chain.run()
    network = load_trained(tmp_path / "unet", device="cpu")
    probability, classes = network.predict(image_of(ingest), stride=(1, 16, 32))
    assert np.array_equal(probability, chain.voxels())
    assert np.array_equal(classes, chain.voxels("classes"))


def test_a_piece_with_the_statistics_of_the_whole_has_the_voxels_of_the_whole(
    make_volume, make_model
):
    ingest = make_volume((2, 64, 160))
    network = load_trained(make_model()[0].parent, device="cpu")
    image, statistics = image_of(ingest), read_record(ingest)["statistics"]
    whole, _ = network.predict(image, stride=(1, 32, 32))
    piece, _ = network.predict(
        image[..., :96], statistics=statistics, stride=(1, 32, 32)
    )
    assert np.array_equal(piece[..., :32], whole[..., :32])
    alone, _ = network.predict(image[..., :96], stride=(1, 32, 32))
    assert not np.array_equal(alone[..., :32], whole[..., :32])


def test_a_dask_array_becomes_one_of_the_stored_bits(tmp_path, make_volume, make_model):
    ingest = make_volume((2, 70, 101), channels=2)
    model = make_model(MANY_CLASSES)
    chain = Chain(tmp_path / "chain", ingest, model, batch_tiles=2)
    chain.run()
    network = load_trained(tmp_path / "unet", device="cpu")
    image = dask.array.from_array(image_of(ingest), chunks=(1, 2, 50, 33))
    probability, classes = network.predict(image, stride=(1, 16, 32), batch_tiles=2)
    assert probability.chunks[1:] == classes.chunks
    assert classes.chunksize == (1, 16, 64)
    stored = chain.voxels(), chain.voxels("classes")
    for lazy, whole in zip((probability, classes), stored, strict=True):
        assert (lazy.shape, lazy.dtype) == (whole.shape, whole.dtype)
        assert np.array_equal(lazy.compute(), whole)


def test_of_a_dask_array_only_what_is_asked_for_is_read_and_computed(
    make_volume, make_model
):
    ingest = make_volume((2, 64, 160))
    network = load_trained(make_model()[0].parent, device="cpu")
    voxels, statistics = image_of(ingest), read_record(ingest)["statistics"]
    whole, _ = network.predict(voxels, stride=(1, 32, 32))
    read = []

    def note(block, block_info):
        read.append(block_info[0]["chunk-location"])
        return block

    image = dask.array.from_array(voxels, chunks=(1, 1, 16, 16)).map_blocks(
        note, dtype=voxels.dtype, meta=voxels[:0]
    )
    lazy, _ = network.predict(image[0], statistics=statistics, stride=(1, 32, 32))
    assert (read, network.predictor.num_tiles) == ([], 2 * 2 * 5)
    seen = lazy[0, 1, :32, 128:].compute()
    assert np.array_equal(seen, whole[0, 1, :32, 128:])
    assert network.predictor.num_tiles == 2 * 2 * 5 + 1
    assert {location[1] for location in read} == {1}
    assert min(location[3] for location in read) > 0


def test_a_store_is_predicted_lazily_as_the_document_shows(make_volume, make_model):
    ingest = make_volume((2, 70, 101))
    network = load_trained(make_model()[0].parent, device="cpu")
    shown = next(b for b in blocks(CONFIG_README) if "lazy, _ = network" in b)
    made = {"network": network, "ingested": read_record(ingest)}
    exec(compile(shown, "notebook", "exec"), made)
    whole, _ = network.predict(image_of(ingest), stride=(1, 32, 32))
    assert made["lazy"].shape == whole.shape
    assert np.array_equal(made["seen"], whole[0, 0, :64, :64])


def test_a_dask_array_is_predicted_in_other_processes_too(make_volume, make_model):
    """What a cluster does: the chunk travels there, and computes by itself."""
    ingest = make_volume((1, 32, 64))
    network = load_trained(make_model()[0].parent, device="cpu")
    voxels = image_of(ingest)
    lazy, _ = network.predict(dask.array.from_array(voxels), stride=(1, 32, 32))
    there = cloudpickle.loads(cloudpickle.dumps(lazy))
    whole, _ = network.predict(voxels, stride=(1, 32, 32))
    assert np.array_equal(there.compute(scheduler="sync"), whole)


def test_any_tile_that_fits_gives_the_same_within_rounding(make_volume, make_model):
    ingest = make_volume(SHAPE)
    network = load_trained(make_model()[0].parent, device="cpu")
    image = image_of(ingest)[0]
    chosen, _ = network.predict(image)
    small, _ = network.predict(image, stride=(1, 16, 16))
    assert np.abs(chosen.astype(int) - small.astype(int)).max() <= 1
    with pytest.raises(ResourceError, match="memory_gb is 1e-06, the smallest tile"):
        network.predict(image, memory_gb=1e-6)


@pytest.mark.parametrize(
    ("shape", "said"),
    [((64, 64), r"\(64, 64\).*section\[None\]"), ((2, 1, 64, 64), "wants 1 channel")],
)
def test_an_array_of_other_axes_is_refused(make_model, shape, said):
    network = load_trained(make_model()[0].parent, device="cpu")
    with pytest.raises(DataError, match=said):
        network.predict(np.zeros(shape, np.uint8))


def test_voxels_that_are_not_finite_are_refused(make_model):
    network = load_trained(make_model()[0].parent, device="cpu")
    image = np.zeros((1, 64, 64), np.float32)
    image[0, 3, 3:5] = np.nan
    for kind in (np.asarray, dask.array.from_array):
        with pytest.raises(DataError, match="2 voxels that are not finite"):
            network.predict(kind(image))


def test_a_stride_off_the_pooling_grid_is_refused(make_model):
    network = load_trained(make_model()[0].parent, device="cpu")
    with pytest.raises(GeometryError, match="stride is 18 voxels along y"):
        network.predict(np.zeros((1, 64, 64), np.uint8), stride=(1, 18, 16))


def test_weights_that_were_replaced_are_refused(make_model):
    weights, _ = make_model()
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(IntegrityError, match="sha256"):
        load_trained(weights.parent)


@pytest.mark.parametrize(
    ("thresholds", "expected"), [({}, 0.5), ({"segmentation": 0.3}, 0.3)]
)
def test_the_threshold_is_that_of_the_validation_rows(make_model, thresholds, expected):
    weights, _ = make_model(thresholds=thresholds)
    assert load_trained(weights.parent).threshold == expected


def test_so_many_tiles_a_pass_as_the_workflow_had(tmp_path, make_volume, make_model):
    """On a GPU another number of them may take another algorithm: other last bits."""
    ingest, model = make_volume(SHAPE), make_model()
    chain = Chain(tmp_path / "chain", ingest, model, batch_tiles=3)
    stored = chain.run()
    network = load_trained(model[0].parent, device="cpu")
    batches, forward = [], network.predictor._forward

    def noted(tiles):
        batches.append(len(tiles))
        return forward(tiles)

    network.predictor._forward = noted
    stride = tuple(read_record(chain.folder / "probe.json")["stride"])
    probability, _ = network.predict(image_of(ingest), stride=stride, batch_tiles=3)
    assert set(batches) == {3}
    assert np.array_equal(probability, stored)
