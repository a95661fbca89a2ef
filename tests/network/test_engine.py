"""The engine: the bits of tile by tile, bounded memory, and loud when it fails."""

import threading
import time

import numpy as np
import pytest
import torch

from tests.network.test_exact_tiling import he_network, image_of
from unetpipe.errors import DataError, ResourceError
from unetpipe.network.engine import Engine, open_engine
from unetpipe.network.ensemble import Ensemble
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.transfer import CudaLane, HostLane, choose_lane
from unetpipe.records.prediction import Identity, TileRules
from unetpipe.runtime.background import Writer
from unetpipe.stages.verify import TOLERANCE
from unetpipe.tiling.assembly import BlockVoxels, source_roi_of_tiles
from unetpipe.tiling.grids import TileGrids
from unetpipe.tiling.intensity import normalise
from unetpipe.tiling.unet_spec import UNetSpec

SPEC = UNetSpec(base_channels=2, depth=2, num_classes=3)
SHAPE = (2, 40, 50)
STRIDE = (1, 8, 16)
MEAN, STD = np.array([90], np.float32), np.array([30], np.float32)


@pytest.fixture(scope="module")
def network():
    return he_network(SPEC)


@pytest.fixture(scope="module")
def image():
    return (image_of(SHAPE) * 30 + 90).clip(0, 255).astype(np.uint8)


def geometry_of(shard, block=None):
    tile = SPEC.input_shape_for(STRIDE)
    return TileGrids(SHAPE, STRIDE, tile, (1, 8, 16), shard, block or shard)


def blocks_of(image, predictor, geometry, numbers=None):
    """Yield blocks as a part reads them."""
    for number in numbers or range(geometry.num_blocks):
        roi = geometry.block_roi(number)
        tiles = tuple(geometry.tiles(roi))
        seen = source_roi_of_tiles(tiles, predictor.halo, SHAPE)
        voxels = image[(slice(None), *seen.slices)]
        yield BlockVoxels(number, roi, tiles, voxels, seen.start)


def predicted(engine, blocks):
    probability = np.zeros((3, *SHAPE), np.uint8)
    classes = np.full(SHAPE, 255, np.uint8)
    for block in engine.predict_blocks(blocks):
        probability[(slice(None), *block.roi.slices)] = block.probability
        classes[block.roi.slices] = block.classes
    return probability, classes


def tile_by_tile(network, image):
    predictor = TilePredictor(network)
    geometry = geometry_of((2, 40, 64))
    return predictor.predict_block(
        image, (0, 0, 0), geometry.block_roi(0), geometry, mean=MEAN, std=STD
    )


@pytest.mark.parametrize("offset", [2**31, -(2**31), 2**40])
def test_an_offset_of_wide_integers_costs_no_contrast(network, image, offset):
    dtype = np.int64 if offset > 2**31 else np.uint32 if offset > 0 else np.int32
    raised = (image.astype(np.int64) + offset).astype(dtype)
    geometry = geometry_of((1, 16, 32))
    found = []
    for grey, mean in ((image, 90.0), (raised, 90.0 + offset)):
        engine = Engine(
            TilePredictor(network),
            geometry,
            mean=np.array([mean]),
            std=STD,
        )
        found.append(predicted(engine, blocks_of(grey, engine.predictor, geometry)))
    for plain, centred in zip(*found, strict=True):
        np.testing.assert_array_equal(plain, centred)


def test_a_stored_identity_keeps_the_mean_of_wide_integers(network, image):
    geometry, kept = geometry_of((1, 16, 32)), []
    for grey, mean in ((image, 90.0), (image + np.uint32(2**31), 90.0 + 2**31)):
        identity = Identity(
            weights_sha256="",
            spec={},
            input_sha256="",
            statistics=((mean, 30.0),),
            code="",
            geometry={},
            precision="fp32",
            batch_tiles=1,
            is_compiled=False,
            orientations=(0,),
            selection=TileRules(
                roi=None, mask_sha256=None, empty_value=None, empty_fraction=0
            ),
        )
        device = torch.device("cpu")
        engine = open_engine(identity, geometry, network, device=device, autotune=False)
        kept.append(predicted(engine, blocks_of(grey, engine.predictor, geometry)))
    for plain, centred in zip(*kept, strict=True):
        np.testing.assert_array_equal(plain, centred)


class LateLane(HostLane):
    """Like a GPU: results are there only when somebody waited for them, in order."""

    lag = 2

    def __init__(self):
        self.under_way, self.most = [], 0

    def download(self, *results):
        copies = tuple(
            torch.full_like(r, 77 if r.dtype == torch.uint8 else 1) for r in results
        )
        ticket = object()
        self.under_way.append(ticket)
        self.most = max(self.most, len(self.under_way))

        def wait():
            assert self.under_way.pop(0) is ticket, "collected in the order of launch"
            for copy, result in zip(copies, results, strict=True):
                copy.copy_(result)
            return tuple(copy.numpy() for copy in copies)

        return wait


@pytest.mark.parametrize("lane", [HostLane, LateLane])
@pytest.mark.parametrize("batch_tiles", [1, 3])
@pytest.mark.parametrize("shard", [(1, 8, 16), (2, 24, 32)])
def test_the_engine_gives_the_bits_of_tile_by_tile(
    network, image, lane, batch_tiles, shard
):
    predictor = TilePredictor(network)
    geometry = geometry_of(shard)
    engine = Engine(
        predictor,
        geometry,
        mean=MEAN,
        std=STD,
        batch_tiles=batch_tiles,
        lane=lane(),
    )
    probability, classes = predicted(engine, blocks_of(image, predictor, geometry))
    expected, expected_classes = tile_by_tile(network, image)
    assert np.array_equal(probability, expected)
    assert np.array_equal(classes, expected_classes)
    assert engine.num_tiles == geometry.num_tiles
    passes = -(-geometry.num_tiles // batch_tiles)
    assert predictor.num_tiles == passes * batch_tiles, "batches go on across blocks"


def test_every_forward_pass_has_the_same_shape(network, image):
    predictor = TilePredictor(network)
    shapes = set()
    hook = network.register_forward_pre_hook(
        lambda module, inputs: shapes.add(tuple(inputs[0].shape))
    )
    geometry = geometry_of((1, 24, 32))
    engine = Engine(predictor, geometry, mean=MEAN, std=STD, batch_tiles=7)
    predicted(engine, blocks_of(image, predictor, geometry))
    hook.remove()
    assert geometry.num_tiles % 7 != 0
    assert shapes == {(7, 1, *SPEC.input_shape_for(STRIDE)[1:])}


def test_no_more_batches_are_under_way_than_the_lane_allows(network, image):
    predictor = TilePredictor(network)
    geometry = geometry_of((1, 24, 32))
    lane = LateLane()
    engine = Engine(predictor, geometry, mean=MEAN, std=STD, lane=lane)
    predicted(engine, blocks_of(image, predictor, geometry))
    assert lane.most == lane.lag + 1
    assert lane.under_way == []


def test_reading_waits_for_computing(network, image):
    predictor = TilePredictor(network)
    geometry = geometry_of((1, 8, 16))
    engine = Engine(predictor, geometry, mean=MEAN, std=STD)
    read = []

    def blocks():
        for block in blocks_of(image, predictor, geometry):
            read.append(block.number)
            yield block

    ahead = []
    for done, _ in enumerate(engine.predict_blocks(blocks())):
        time.sleep(0.01)
        ahead.append(len(read) - done)
    assert len(ahead) == geometry.num_blocks > 20
    assert max(ahead) <= 5


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"]
)
def test_grey_values_are_normalised_to_the_same_bits_on_the_device(network, dtype):
    stored = (np.random.default_rng(3).normal(90, 30, (1, *SHAPE))).astype(dtype)
    expected = normalise(stored, mean=MEAN, std=STD)
    predictor = TilePredictor(network)
    seen = []
    predictor._average = lambda tiles, stride: seen.append(tiles) or torch.zeros(1, 3)
    geometry = geometry_of((2, 40, 64))
    engine = Engine(predictor, geometry, mean=MEAN, std=STD)
    [block] = blocks_of(stored, predictor, geometry)
    engine._launch(*next(engine._batches([block])))
    before = SPEC.halo.before
    inside = seen[0].numpy()[0, :, :, before[1] :, before[2] :]
    assert np.array_equal(inside[..., :8, :16], expected[:, :1, :8, :16])


def no_threads_left():
    deadline = time.monotonic() + 600
    names = {"ahead", "writer"}
    while any(t.name in names for t in threading.enumerate()):
        assert time.monotonic() < deadline, "a thread outlived its error"
        time.sleep(0.01)
    return True


def failing_read(image, predictor, geometry):
    for block in blocks_of(image, predictor, geometry):
        if block.number == 3:
            raise DataError("block 3, reading: chunk is corrupt")
        yield block


def short_source(image, predictor, geometry):
    for block in blocks_of(image, predictor, geometry):
        cut = block.source[..., :3] if block.number == 3 else block.source
        yield BlockVoxels(block.number, block.roi, block.tiles, cut, block.origin)


def not_a_number(image, predictor, geometry):
    image = image.astype(np.float32)
    image[0, 0, 9, 33] = np.nan
    yield from blocks_of(image, predictor, geometry)


@pytest.mark.parametrize(
    ("blocks", "kind", "said"),
    [
        (failing_read, DataError, "block 3, reading: chunk is corrupt"),
        (short_source, RuntimeError, r"block 3, tile at z, y, x = \(0, 0, 48\)"),
        (
            not_a_number,
            DataError,
            r"block \d+, tile at z, y, x = \(0, \d+, \d+\): the network's output is",
        ),
    ],
)
@pytest.mark.parametrize("lane", [HostLane, LateLane])
def test_an_error_in_any_step_names_block_and_tile_and_ends_all_threads(
    network, image, blocks, kind, said, lane
):
    predictor = TilePredictor(network)
    geometry = geometry_of((1, 8, 16))
    engine = Engine(predictor, geometry, mean=MEAN, std=STD, lane=lane())
    with pytest.raises(kind, match=said):
        predicted(engine, blocks(image, predictor, geometry))
    assert no_threads_left()


def test_running_out_of_memory_names_block_and_tile_and_the_key(network, image):
    predictor = TilePredictor(network)
    geometry = geometry_of((1, 8, 16))
    engine = Engine(predictor, geometry, mean=MEAN, std=STD)
    calls = []

    def run(tiles):
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return network(tiles)

    predictor._run = run
    with pytest.raises(
        ResourceError, match=r"block 2, tile at .*lower prediction.memory_gb"
    ):
        predicted(engine, blocks_of(image, predictor, geometry))
    assert no_threads_left()


def test_an_error_of_the_writer_ends_the_engine(network, image):
    predictor = TilePredictor(network)
    geometry = geometry_of((1, 8, 16))
    engine = Engine(predictor, geometry, mean=MEAN, std=STD)

    def full(block):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"), Writer(full) as writer:
        for block in engine.predict_blocks(blocks_of(image, predictor, geometry)):
            writer.put(block)
    del block
    engine = None
    assert no_threads_left()


def test_leaving_the_engine_early_ends_its_threads(network, image):
    predictor = TilePredictor(network)
    geometry = geometry_of((1, 8, 16))
    engine = Engine(predictor, geometry, mean=MEAN, std=STD)
    blocks = engine.predict_blocks(blocks_of(image, predictor, geometry))
    next(blocks)
    blocks.close()
    assert no_threads_left()


def test_a_block_without_tiles_is_zero_and_computes_nothing(network, image):
    predictor = TilePredictor(network)
    geometry = geometry_of((1, 8, 16))
    engine = Engine(predictor, geometry, mean=MEAN, std=STD)
    roi = geometry.block_roi(4)
    nothing = np.empty((0, 0, 0, 0), np.uint8)
    skipped = {roi.start: "empty"}
    block = BlockVoxels(4, roi, (), nothing, roi.start, skipped)
    [result] = engine.predict_blocks([block])
    assert result.number == 4
    assert not result.probability.any()
    assert result.skipped == skipped
    assert engine.num_tiles == predictor.num_tiles == 0


def test_tiles_that_are_left_out_stay_zero_and_change_no_other_bit(network, image):
    predictor = TilePredictor(network)
    geometry = geometry_of((1, 24, 32))
    engine = Engine(predictor, geometry, mean=MEAN, std=STD, batch_tiles=2)
    expected, _ = tile_by_tile(network, image)
    [block] = blocks_of(image, predictor, geometry, [1])
    kept = block.tiles[1::2]
    some = BlockVoxels(block.number, block.roi, kept, block.source, block.origin)
    [result] = engine.predict_blocks([some])
    for tile in block.tiles:
        own = tile.intersect(block.roi)
        found = result.probability[
            (slice(None), *own.relative_to(block.roi.start).slices)
        ]
        whole = expected[(slice(None), *own.slices)]
        assert np.array_equal(found, whole if tile in kept else 0 * whole)


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("batch_tiles", [1, 2, 5])
def test_the_bits_of_a_tile_do_not_depend_on_its_place_in_a_batch(
    network, batch_tiles, place
):
    check_places(TilePredictor(network), batch_tiles, place)


def check_places(predictor, batch_tiles, place):
    """Law 1 needs it: blocks, parts and resumes put a tile anywhere in a batch."""
    shape = (batch_tiles, 1, *predictor.tile_shape(STRIDE))
    seeded = torch.Generator().manual_seed(0)
    tiles = torch.randint(0, 256, shape, generator=seeded, dtype=torch.uint8)
    tiles = tiles.to(predictor.device)
    mean, std = (torch.from_numpy(v).to(predictor.device) for v in (MEAN, STD))

    def stored(batch):
        return predictor.quantised(batch, STRIDE, mean=mean.float(), std=std.float())[0]

    expected = stored(tiles)
    assert torch.equal(stored(tiles.roll(place, 0)), expected.roll(place, 0))
    beside_zeros = tiles.clone()
    beside_zeros[1:] = 0
    assert torch.equal(stored(beside_zeros)[0], expected[0])


@pytest.mark.parametrize("num_members", [1, 2])
def test_a_graphs_own_buffer_is_not_averaged_with_its_next_content(num_members):
    """A CUDA graph returns the same memory at each replay."""
    torch.manual_seed(0)
    networks = [he_network(SPEC) if num_members == 1 else Ensemble(SPEC, 2)] * 2
    plain, compiled = (
        TilePredictor(network, orientations=(0, 1, 4)) for network in networks
    )
    compiled.is_compiled = True
    buffer = []

    def replay(tiles):
        made = compiled.network(tiles)
        buffer[:] = buffer or [torch.empty_like(made)]
        return buffer[0].copy_(made)

    compiled._run = replay
    tiles = torch.rand(1, 1, *plain.tile_shape((1, 16, 16)))
    expected, _ = plain.quantised(tiles, (1, 16, 16))
    assert torch.equal(compiled.quantised(tiles, (1, 16, 16))[0], expected)


@pytest.mark.gpu
@pytest.mark.parametrize("batch_tiles", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_engine_on_a_gpu_gives_the_bits_of_tile_by_tile(
    image, batch_tiles, precision
):
    device = torch.device("cuda")
    predictor = TilePredictor(he_network(SPEC), precision=precision, device=device)
    geometry = geometry_of((1, 24, 32))
    engine = Engine(predictor, geometry, mean=MEAN, std=STD, batch_tiles=batch_tiles)
    assert isinstance(choose_lane(device), CudaLane)
    probability, _ = predicted(engine, blocks_of(image, predictor, geometry))
    whole = geometry_of((2, 40, 64))
    expected, _ = predictor.predict_block(
        image, (0, 0, 0), whole.block_roi(0), whole, mean=MEAN, std=STD
    )
    if batch_tiles == 1:
        assert np.array_equal(probability, expected)
    else:  # another batch, so perhaps another algorithm of cuDNN
        check_places(predictor, batch_tiles, 1)
    assert TOLERANCE[precision].allows(np.abs(probability.astype(int) - expected))
    if precision == "fp32":
        on_cpu, _ = tile_by_tile(he_network(SPEC), image)
        assert np.abs(probability.astype(int) - on_cpu).max() <= 1
