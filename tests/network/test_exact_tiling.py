"""Law 1: tiling never changes the result.

He-initialised weights throughout: the library's default initialisation makes the deep
path so weak that a misaligned tiler passes.
"""

import numpy as np
import pytest
import torch

from tests.oracles import assert_agree, one_pass, predict_volume
from tests.variants import mostly_slow
from unetpipe.network.devices import has_arithmetic
from unetpipe.network.ensemble import Ensemble
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.unet import UNet
from unetpipe.tiling.boxes import Halo, as_zyx
from unetpipe.tiling.grids import TileGrids, plan_grids
from unetpipe.tiling.unet_spec import UNetSpec

SPECS = {
    "paper": UNetSpec(base_channels=2),
    "same_padding": UNetSpec(
        base_channels=2, padding="same", normalization="batch", head="sigmoid"
    ),
    "multi_class_multi_channel": UNetSpec(
        base_channels=2, depth=2, num_classes=4, in_channels=3
    ),
    "volumetric": UNetSpec(
        ndim=3, base_channels=2, depth=2, pooling=((1, 2, 2), (2, 2, 2))
    ),
    "isotropic": UNetSpec(ndim=3, base_channels=2, depth=1),
    "affinities": UNetSpec(
        ndim=3, base_channels=2, depth=1, head="sigmoid", targets="affinities"
    ),
}
SHAPES = {2: (2, 61, 83), 3: (5, 17, 23)}
ODD_SIZES = [1, 2, 15, 16, 17, 91, 92, 93, 387, 388, 389, 571, 572, 573]


def he_network(spec: UNetSpec, seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    network = UNet(spec)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.5)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
    return network.eval()


def he_ensemble(spec: UNetSpec, num_members: int = 2) -> Ensemble:
    ensemble = Ensemble(spec, num_members)
    for seed, member in enumerate(ensemble.members):
        member.load_state_dict(he_network(spec, seed).state_dict())
    return ensemble.eval()


def image_of(shape, channels=1, seed=0):
    return (
        np.random.default_rng(seed).normal(size=(channels, *shape)).astype(np.float32)
    )


@pytest.mark.parametrize("name", SPECS)
def test_tiles_agree_with_one_pass_over_the_whole_section(name):
    spec = SPECS[name]
    network = he_network(spec)
    grid = spec.pooling_grid
    shape = SHAPES[spec.ndim]
    stride = as_zyx(g * n for g, n in zip(grid, (1, 1, 2), strict=True))
    image = image_of(shape, spec.in_channels)
    expected = one_pass(network, image)
    assert expected.std() > 0.05, "a constant output would hide every seam"
    stored = predict_volume(
        TilePredictor(network), image, plan_grids(shape, stride, spec)
    )
    assert_agree(stored, expected)


@pytest.mark.parametrize("name", mostly_slow(SPECS, quick=["volumetric"]))
def test_tiles_of_an_ensemble_agree_with_the_mean_of_its_members_single_passes(name):
    spec = SPECS[name]
    ensemble = he_ensemble(spec)
    shape = SHAPES[spec.ndim]
    stride = as_zyx(g * n for g, n in zip(spec.pooling_grid, (1, 1, 2), strict=True))
    image = image_of(shape, spec.in_channels)
    passes = [one_pass(member, image) for member in ensemble.members]
    assert np.abs(passes[0] - passes[1]).max() > 0.05, "members that agree hide errors"
    stored = predict_volume(
        TilePredictor(ensemble), image, plan_grids(shape, stride, spec)
    )
    assert_agree(stored, np.mean(passes, axis=0))


@pytest.mark.parametrize("size", mostly_slow(ODD_SIZES, quick=[1, 17, 92, 389]))
def test_any_section_size_agrees_with_one_pass(size):
    spec = SPECS["paper"]
    network = he_network(spec)
    shape = (1, size, 37)
    image = image_of(shape)
    stored = predict_volume(
        TilePredictor(network), image, plan_grids(shape, (1, 128, 48), spec)
    )
    assert_agree(stored, one_pass(network, image))


@pytest.mark.parametrize("depth", [1, 4, 9])
@pytest.mark.parametrize("name", ["volumetric", "isotropic"])
def test_any_number_of_sections_agrees_with_one_pass_in_three_dimensions(name, depth):
    spec = SPECS[name]
    network = he_network(spec)
    shape = (depth, 9, 14)
    image = image_of(shape)
    expected = one_pass(network, image)
    stride = as_zyx(g * n for g, n in zip(spec.pooling_grid, (2, 3, 2), strict=True))
    stored = predict_volume(
        TilePredictor(network), image, plan_grids(shape, stride, spec)
    )
    assert_agree(stored, expected)


def test_a_volumetric_network_sees_the_sections_around_each_one():
    spec = SPECS["isotropic"]
    network = he_network(spec)
    image = image_of((16, 6, 6))
    changed = image.copy()
    changed[0, 10] += 3
    geometry = plan_grids((16, 6, 6), (4, 6, 6), spec)
    one, two = (
        predict_volume(TilePredictor(network), i, geometry) for i in (image, changed)
    )
    differs = [int(z) for z in np.flatnonzero((one != two).any(axis=(0, 2, 3)))]
    assert 10 in differs
    assert len(differs) > 4
    halo = spec.halo
    assert min(differs) >= 10 - halo.after[0]
    assert max(differs) <= 10 + halo.before[0]


@pytest.mark.parametrize(
    ("name", "build", "precision"),
    [
        *((name, he_network, "fp32") for name in ("paper", "volumetric")),
        # Many processors emulate bf16: minutes.
        *(
            pytest.param(name, build, precision, marks=pytest.mark.slow)
            for name, build, precision in (
                *((n, he_network, "bf16") for n in SPECS),
                *((n, he_network, "fp32") for n in SPECS if n[0] not in "pv"),
                *(("paper", he_ensemble, p) for p in ("fp32", "bf16")),
            )
        ),
    ],
)
def test_stored_bits_do_not_depend_on_block_size_or_order(name, build, precision):
    spec = SPECS[name]
    network = build(spec)
    grid = spec.pooling_grid
    shape = (9, 40, 61) if grid[2] > 4 else (9, 10, 19)
    stride = as_zyx(g * n for g, n in zip(grid, (1, 2, 1), strict=True))
    image = image_of(shape, spec.in_channels)
    predictor = TilePredictor(network, precision=precision)
    zero = np.zeros(spec.in_channels, np.float32)
    results, tiles = [], []
    for shard_tiles, block_shards in (((8, 1, 1), (1, 1, 1)), ((8, 2, 3), (2, 1, 2))):
        shard = as_zyx(s * n for s, n in zip(stride, shard_tiles, strict=True))
        base = plan_grids(shape, stride, spec)
        geometry = TileGrids(
            shape,
            stride,
            base.input_shape,
            (stride[0], base.chunk[1], base.chunk[2]),
            shard,
            as_zyx(s * n for s, n in zip(shard, block_shards, strict=True)),
        )
        stored = np.zeros((predictor.num_channels, *shape), np.uint8)
        writes = np.zeros(shape, int)
        predictor.num_tiles = 0
        for number in reversed(range(geometry.num_blocks)):
            block = geometry.block_roi(number)
            stored[(slice(None), *block.slices)], _ = predictor.predict_block(
                image, (0, 0, 0), block, geometry, mean=zero, std=zero + 1
            )
            writes[block.slices] += 1
        assert (writes == 1).all()
        assert predictor.num_tiles == geometry.num_tiles
        results.append(stored)
        tiles.append(predictor.num_tiles)
    assert np.array_equal(*results)
    assert tiles[0] == tiles[1], "each tile is computed once, whatever the blocks"


@pytest.mark.skipif(
    not has_arithmetic(torch.device("cpu"), "bf16"),
    reason="no bf16 here: it is emulated, where a rounded sum of 32 bits may flip",
)
def test_bf16_tiles_agree_bit_for_bit_with_larger_tiles():
    spec = SPECS["paper"]
    network = he_network(spec)
    shape = (1, 256, 256)
    image = image_of(shape)
    predictor = TilePredictor(network, precision="bf16")
    small, large = (
        predict_volume(predictor, image, plan_grids(shape, (1, n, n), spec))
        for n in (64, 256)
    )
    assert np.abs(small.astype(int) - large.astype(int)).max() <= 1


def test_a_stride_of_388_is_refused():
    """The obvious reading of Fig. 2, and not seamless: 388 is 4 modulo 16."""
    with pytest.raises(
        ValueError, match=r"tile stride is 388 voxels along y, not a mult"
    ):
        plan_grids((1, 776, 776), (1, 388, 388), UNetSpec())


def test_a_stride_of_388_would_flip_labels(monkeypatch):
    """The mutation that the law forbids: with the check removed, the seams show."""
    spec = SPECS["paper"]
    network = he_network(spec)
    shape = (1, 420, 40)
    image = image_of(shape)
    monkeypatch.setattr(TileGrids, "check_against", lambda self, spec: None)
    monkeypatch.setattr(UNetSpec, "halo", Halo((0, 92, 92), (0, 92, 92)))
    monkeypatch.setattr(UNetSpec, "input_shape_for", lambda self, region: (1, 572, 572))
    geometry = plan_grids(shape, (1, 388, 388), spec)
    mutant = predict_volume(TilePredictor(network), image, geometry)
    monkeypatch.undo()
    with pytest.raises(AssertionError):
        assert_agree(mutant, one_pass(network, image))
