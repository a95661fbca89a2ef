"""The probe: tiles that really fit, precision with a bound, records that say so."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch

from tests.oracles import assert_agree, one_pass, predict_volume
from tests.stages.predicted import SHAPE, Chain, small_shards
from unetpipe.errors import ResourceError
from unetpipe.network import tile_trials
from unetpipe.network.devices import has_arithmetic
from unetpipe.network.flips import num_flip_tiles, spread_flip_tiles
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.tile_trials import Measured, choose_tile_batch, first_that_runs
from unetpipe.network.weights import load_network
from unetpipe.records.model import Model
from unetpipe.runtime.files import read_record
from unetpipe.storage.volumes import open_volume
from unetpipe.tiling.boxes import Roi, grid_shape, whole_volume
from unetpipe.tiling.grids import plan_grids
from unetpipe.tiling.intensity import normalise
from unetpipe.tiling.tile_size import TileCandidate, rank_tiles
from unetpipe.tiling.unet_spec import UNetSpec

SPEC = UNetSpec(base_channels=4, depth=2)


@pytest.fixture
def chain(tmp_path, make_volume, make_model):
    ingest, model = make_volume(SHAPE), make_model(SPEC)

    def make(name="run", **prediction):
        return Chain(tmp_path / name, ingest, model, **({"stride": None} | prediction))

    return make


@pytest.fixture
def small_memory(monkeypatch):
    """Return a function that lets forward passes above so many voxels fail."""
    original = TilePredictor._forward

    def set_limit(num_voxels, error=torch.OutOfMemoryError):
        def forward(self, tiles):
            if tiles.shape[-1] * tiles.shape[-2] > num_voxels:
                raise error("DefaultCPUAllocator: can't allocate memory")
            return original(self, tiles)

        monkeypatch.setattr(TilePredictor, "_forward", forward)
        tile_trials._tried.clear()

    return set_limit


def candidate(side, num_bytes):
    return TileCandidate((1, side, side), ((1, side, side),), 1.0, num_bytes, 64)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_a_tile_that_does_not_fit_is_followed_by_a_smaller_one(
    chain, small_memory, error
):
    run = chain()
    roomy = chain("roomy").plan()["geometry"]
    limit = 70 * 120
    assert prod(roomy["input_shape"]) > limit
    small_memory(limit, error)
    geometry = run.plan()["geometry"]
    assert prod(geometry["input_shape"]) <= limit
    assert all(s % g == 0 for s, g in zip(geometry["stride"], (1, 4, 4), strict=True))
    probe = read_record(run.folder / "probe.json")
    outcomes = {tuple(c["stride"]): c["outcome"] for c in probe["candidates"]}
    assert outcomes[tuple(roomy["stride"])] == "out of memory"
    assert outcomes[tuple(geometry["stride"])] == "chosen"
    bytes_of = {
        tuple(c["stride"]): c["projected_activation_bytes"] for c in probe["candidates"]
    }
    failed = [bytes_of[s] for s, outcome in outcomes.items() if "memory" in outcome]
    assert failed == sorted(failed, reverse=True), "only ever smaller ones"
    assert bytes_of[tuple(geometry["stride"])] < min(failed)


def test_what_a_smaller_tile_predicts_is_one_pass_still(chain, small_memory):
    small_memory(70 * 120)
    run = chain()
    stored = run.run()
    volume = read_record(run.ingest)
    image = open_volume(run.ingest.parent / "image.ome.zarr")[...]
    mean, std = (
        np.array([c[key] for c in volume["statistics"]], np.float32)
        for key in ("mean", "std")
    )
    small_memory(10**9)
    network = load_network(run.model, Model.read(run.model_json))
    assert_agree(stored, one_pass(network, normalise(image, mean=mean, std=std)))


def test_no_tile_that_fits_is_one_clear_error(chain, small_memory):
    small_memory(10)
    with pytest.raises(
        ResourceError,
        match=r"no tile fits the memory, \d+ were tried; raise prediction",
    ):
        chain().plan()


def test_other_errors_are_not_taken_for_a_full_memory(chain, small_memory, monkeypatch):
    def broken(self, tiles):
        raise RuntimeError("expected scalar type Float")

    monkeypatch.setattr(TilePredictor, "_forward", broken)
    with pytest.raises(RuntimeError, match="expected scalar type"):
        chain().plan()


def test_candidates_as_large_as_one_that_failed_are_not_tried():
    tried = []

    def measure(chosen, batch):
        tried.append(chosen.tile_bytes)
        if chosen.tile_bytes * batch > 10:
            raise MemoryError
        return Measured(1.0, 0)

    candidates = [candidate(s, b) for s, b in ((5, 40), (4, 50), (3, 30), (2, 9))]
    chosen, batch, _, failed = first_that_runs(
        zip(candidates, (1, 1, 1, 1), strict=True), measure
    )
    assert tried == [40, 30, 9]
    assert (chosen.stride, batch) == ((1, 2, 2), 1)
    assert [c.tile_bytes for c in failed] == [40, 30]


def test_a_batch_fills_a_gpu_but_neither_its_memory_nor_a_cpu():
    small = candidate(500, 10)
    assert choose_tile_batch(small, 1000, "cpu") == 1
    assert choose_tile_batch(small, 1000, "cuda") == 16
    assert choose_tile_batch(small, 45, "cuda") == 4
    assert choose_tile_batch(candidate(1200, 10), 1000, "cuda") == 2
    assert choose_tile_batch(candidate(3000, 10), 1000, "cuda") == 1
    half = replace(small, map_values=2**30)
    assert choose_tile_batch(half, 1000, "cuda") == 1
    assert choose_tile_batch(replace(half, map_values=2**30 - 1), 1000, "cuda") == 2
    assert choose_tile_batch(replace(half, map_values=2**40), 1000, "cuda") == 1


def test_the_record_holds_the_candidates_in_order_of_their_projected_rate(chain):
    ranked = rank_tiles(SHAPE, SPEC)
    gib = (ranked[0].tile_bytes - 1) / 2**30
    run = chain(memory_gb=gib)
    run.plan()
    probe = read_record(run.folder / "probe.json")
    rates = [c["projected_efficiency"] for c in probe["candidates"]]
    assert rates == sorted(rates, reverse=True)
    assert probe["candidates"][0]["stride"] == list(ranked[0].stride)
    first = next(c for c in ranked if c.tile_bytes <= gib * 2**30)
    assert probe["stride"] == list(first.stride)
    outcomes = [c["outcome"] for c in probe["candidates"]]
    assert outcomes.count("chosen") == 1
    assert outcomes[0] == "too large"


def test_a_stride_that_is_given_is_not_weighed_against_the_memory(chain):
    run = chain(stride=(1, 72, 104), memory_gb=1e-6)
    assert run.plan()["geometry"]["stride"] == [1, 72, 104]


def test_places_are_spread_over_the_volume_and_never_twice():
    geometry = plan_grids((8, 64, 96), (1, 16, 16), SPEC)
    tiles = list(spread_flip_tiles(geometry, whole_volume((8, 64, 96))))
    assert len({t.start for t in tiles}) == len(tiles) > 0.9 * geometry.num_tiles
    assert tiles[0].start == (4, 32, 48), "the middle comes first"
    first = tiles[:8]
    for axis, count in enumerate(grid_shape((8, 64, 96), (1, 16, 16))):
        seen = {t.start[axis] for t in first}
        assert len(seen) >= min(3, count), "the first few are spread along each axis"
    box = Roi((2, 16, 0), (4, 40, 20))
    inside = list(spread_flip_tiles(geometry, box))
    assert {t.intersect(box).num_voxels > 0 for t in inside} == {True}


@pytest.mark.parametrize(
    ("shape", "stride", "expected"),
    [
        ((2, 512, 512), (1, 512, 512), 1),  # a block has one section
        ((800, 1024, 1024), (1, 1024, 1024), 8),  # a block's worth
        ((80, 2048, 2048), (8, 1024, 1024), 1),
        ((64, 2048, 2048), (1, 256, 256), 41),  # 1 % of the tiles
    ],
)
def test_labels_are_compared_at_a_blocks_worth_of_tiles(shape, stride, expected):
    spec = UNetSpec(base_channels=4, depth=2, ndim=3 if stride[0] > 1 else 2)
    assert num_flip_tiles(plan_grids(shape, stride, spec)) == expected


@pytest.mark.slow
def test_the_flips_are_those_of_the_stored_labels_at_several_places(chain, monkeypatch):
    run = chain(precision="bf16", stride=(1, 16, 32), largest_flip_fraction=1)
    small_shards(monkeypatch, sections=1, voxels=64)
    plan = run.plan()
    probe = read_record(run.folder / "probe.json")
    places = probe["flip_places"]
    assert len({tuple(p["tile"]) for p in places}) == len(places) == 8
    exact = chain("exact", stride=(1, 16, 32)).run() > 127
    stored = run.run() > 127
    for place in places:
        tile = Roi(
            tuple(place["tile"]),
            tuple(a + s for a, s in zip(place["tile"], (1, 16, 32), strict=True)),
        ).intersect(whole_volume(SHAPE))
        index = (slice(None), *tile.slices)
        assert place["flip_fraction"] == np.mean(stored[index] != exact[index])
    mean = np.mean([p["flip_fraction"] for p in places])
    assert probe["flip_fraction"] == plan["flip_fraction"] == mean > 0
    record = read_record(run.folder / "prediction.json")
    assert record["flip_fraction"] == mean
    assert record["precision"] == "bf16"


def test_labels_are_compared_at_the_threshold_of_the_network(
    tmp_path, make_volume, make_model
):
    """At a threshold that no probability reaches nothing can flip."""
    model = make_model(SPEC, thresholds={"segmentation": 1.0})
    run = Chain(
        tmp_path / "run", make_volume(SHAPE), model, precision="bf16", stride=None
    )
    run.plan()
    assert read_record(run.folder / "probe.json")["flip_fraction"] == 0


def test_a_processor_without_bf16_predicts_in_fp32_and_says_so(
    chain, monkeypatch, caplog
):
    monkeypatch.setattr(
        "unetpipe.stages.probe_prediction.has_arithmetic",
        lambda device, precision: precision == "fp32",
    )
    run = chain(precision="bf16")
    plan = run.plan()
    assert plan["precision"] == plan["identity"]["precision"] == "fp32"
    assert "has no bf16 arithmetic" in caplog.text
    assert np.array_equal(run.run(), chain("fp32").run())


def test_fp32_is_everywhere():
    assert has_arithmetic(torch.device("cpu"), "fp32")


def test_a_compiler_that_fails_is_told_and_left_out(chain, monkeypatch, caplog):
    def broken(network, **settings):
        def run(tiles):
            raise OSError("no C++ compiler: g++ is not there")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    run = chain(compile=True)
    plan = run.plan()
    assert plan["identity"]["is_compiled"] is False
    assert "torch.compile does not work here (OSError: no C++ compiler" in caplog.text
    assert np.array_equal(run.run(), chain("eager").run())


@pytest.mark.slow
def test_averaging_goes_through_the_chain(chain):
    run = chain(average=[6, 1, 0], stride=(1, 16, 32))
    same = chain("same", average=[0, 1, 6], stride=(1, 16, 32))
    assert run.plan()["identity_sha256"] == same.plan()["identity_sha256"]
    plan = read_record(run.folder / "plan.json")
    assert plan["identity"]["orientations"] == [0, 1, 6]
    halo = SPEC.halo.total
    assert plan["input_shapes"] == [
        [1, 16 + halo[1], 32 + halo[2]],
        [1, 32 + halo[1], 16 + halo[2]],
    ]
    plain = chain("plain", stride=(1, 16, 32))
    assert plan["projected"]["flop"] == 3 * plain.plan()["projected"]["flop"]
    stored = run.run()
    network = load_network(run.model, Model.read(run.model_json))
    predictor = TilePredictor(network, orientations=(0, 1, 6))
    volume = read_record(run.ingest)
    image = open_volume(run.ingest.parent / "image.ome.zarr")[...]
    mean, std = (
        np.array([c[key] for c in volume["statistics"]], np.float32)
        for key in ("mean", "std")
    )
    geometry = plan_grids(SHAPE, (1, 16, 32), SPEC)
    expected = predict_volume(predictor, normalise(image, mean=mean, std=std), geometry)
    assert np.array_equal(stored, expected)


def test_bits_do_not_depend_on_which_tiles_share_a_batch(chain, monkeypatch):
    small_shards(monkeypatch)
    settings = {"stride": (1, 16, 32), "batch_tiles": 3}
    first = chain("first", parts=1, **settings).run()
    for parts, block_shards in ((4, (1, 1, 1)), (1, (1, 3, 2))):
        run = chain(f"{parts}", parts=parts, block_shards=block_shards, **settings)
        assert np.array_equal(run.run(), first)
    plain = chain("plain", stride=(1, 16, 32)).run()
    assert np.abs(plain.astype(int) - first).max() <= 1
    plan = read_record(run.folder / "plan.json")
    assert plan["identity"]["batch_tiles"] == 3


def test_volumes_of_one_shape_share_the_trials_of_their_tiles(
    chain, monkeypatch
) -> None:
    calls = []
    original = TilePredictor._forward

    def forward(self, tiles):
        calls.append(1)
        return original(self, tiles)

    tile_trials._tried.clear()
    monkeypatch.setattr(TilePredictor, "_forward", forward)
    first = chain("first").plan()["geometry"]
    assert calls
    calls.clear()
    assert chain("second").plan()["geometry"] == first
    assert not calls
    chain("third", memory_gb=0.5).plan()
    assert calls, "another bound is another question"
