"""The torch network is the one that ``UNetSpec`` describes."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unetpipe.errors import GeometryError
from unetpipe.network import unet
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.unet import UNet, activate
from unetpipe.tiling.boxes import as_zyx
from unetpipe.tiling.unet_spec import UNetSpec


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
SPECS = {
    "paper": UNetSpec(base_channels=2),
    "same": UNetSpec(
        base_channels=2, padding="same", normalization="batch", head="sigmoid"
    ),
    "shallow": UNetSpec(base_channels=3, depth=1, num_classes=5, in_channels=2),
    "volumetric": UNetSpec(
        ndim=3, base_channels=2, depth=2, pooling=((1, 2, 2), (2, 2, 2))
    ),
}


def run(network, shape):
    """Pass one tile of zeros: the output's shape as (z, y, x)."""
    spec = network.spec
    size = shape if spec.ndim == 3 else shape[1:]
    with torch.no_grad():
        logits = network(torch.zeros(1, spec.in_channels, *size))
    assert logits.shape[:2] == (1, spec.out_channels)
    return as_zyx((1,) * (3 - spec.ndim) + tuple(logits.shape[2:]))


def test_the_paper_has_31_million_parameters_in_23_convolutions():
    network = UNet(UNetSpec())
    assert sum(p.numel() for p in network.parameters()) == 31_030_658
    assert sum(isinstance(m, CONVOLUTIONS) for m in network.modules()) == 23


def test_the_paper_maps_572_to_388():
    assert run(UNet(UNetSpec(base_channels=1)), (1, 572, 572)) == (1, 388, 388)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_spec_counts_the_parameters_of_the_network(spec):
    network = UNet(spec)
    assert sum(p.numel() for p in network.parameters()) == spec.num_parameters


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("region", [(1, 1, 1), (3, 17, 33), (5, 40, 16)])
def test_the_spec_knows_the_output_shape_of_any_legal_input(spec, region):
    shape = spec.input_shape_for(
        as_zyx((region[0] if spec.ndim == 3 else 1, *region[1:]))
    )
    assert run(UNet(spec), shape) == spec.output_shape(shape)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_spec_counts_the_flop_of_the_network(spec):
    shape = spec.input_shape_for((1, 1, 1))
    with FlopCounterMode(display=False) as counter:
        run(UNet(spec), shape)
    assert counter.get_total_flops() == spec.flop(shape)


@pytest.mark.parametrize("initialization", ["he", "default"])
def test_he_initialisation_is_the_papers(initialization):
    """Weights N(0, sqrt(2 / N)), N the nodes that feed one neuron; no bias."""
    torch.manual_seed(0)
    network = UNet(UNetSpec(base_channels=32, depth=2), initialization=initialization)
    follows = []
    for module in network.modules():
        if not isinstance(module, CONVOLUTIONS):
            continue
        fan_in = module.in_channels
        if isinstance(module, nn.Conv2d):
            fan_in *= module.kernel_size[0] * module.kernel_size[1]
        weights = module.weight.detach()
        if weights.numel() < 2000:
            continue
        expected = (2 / fan_in) ** 0.5
        kurtosis = float((weights**4).mean() / (weights**2).mean() ** 2)
        follows.append(
            abs(float(weights.std()) / expected - 1) < 0.05
            and abs(float(weights.mean())) < expected / 10
            and abs(kurtosis - 3) < 0.3  # a uniform distribution has 1.8
            and not module.bias.any()
        )
    assert len(follows) == 11
    assert all(follows) if initialization == "he" else not any(follows)


def test_he_initialisation_keeps_the_variance_through_the_depth():
    torch.manual_seed(0)
    network = UNet(UNetSpec(base_channels=16, depth=2, dropout=0.0))
    with torch.no_grad():
        logits = network(torch.randn(1, 1, 92, 92))
    assert 0.2 < float(logits.std()) < 5


def test_dropout_sits_at_the_end_of_the_contracting_path():
    """Where the maps are deepest, before the first up-convolution; element-wise."""
    spec = UNetSpec(base_channels=2, depth=2, dropout=0.5)
    network = UNet(spec).train()
    seen = []
    network.dropout.register_forward_hook(lambda _, x, y: seen.append((x[0], y)))
    before_up = []
    network.up[0].register_forward_hook(lambda _, x, y: before_up.append(x[0]))
    network(torch.randn(1, 1, 92, 92))
    assert sum(isinstance(m, nn.Dropout) for m in network.modules()) == 1
    ((entered, left),) = seen
    assert entered.shape[1] == spec.channels(2)
    assert torch.equal(left, before_up[0])
    is_dropped = (left == 0) & (entered != 0)
    assert 0.4 < is_dropped.sum() / (entered != 0).sum() < 0.6
    assert 0 < is_dropped[0, 0].float().mean() < 1  # not whole channels


def test_what_is_dropped_of_a_patch_depends_on_its_seed_alone():
    """Not on its place in the batch, nor on the memory layout or the precision."""
    spec = UNetSpec(base_channels=2, depth=2, dropout=0.25)
    dropout = UNet(spec).train().dropout
    maps = torch.rand(3, 8, 40, 40) + 1
    whole = dropout(maps, (5, 6, 7))
    alone = dropout(maps[1:2], (6,))
    assert torch.equal(whole[1], alone[0])
    assert torch.equal(whole[[2, 0]], dropout(maps[[2, 0]], (7, 5)))
    other = dropout(
        maps.to(torch.bfloat16, memory_format=torch.channels_last), (5, 6, 7)
    )
    assert torch.equal(other == 0, whole == 0)
    assert other.is_contiguous(memory_format=torch.channels_last)
    kept = whole != 0
    torch.testing.assert_close(whole[kept], maps[kept] / 0.75)
    assert abs(float(kept.float().mean()) - 0.75) < 0.01
    assert not torch.equal(kept[0], kept[1])


def test_dropout_is_off_in_prediction():
    network = UNet(UNetSpec(base_channels=2, depth=1)).eval()
    image = torch.randn(1, 1, 28, 28)
    assert torch.equal(network(image), network(image))
    assert not torch.equal(network.train()(image), network(image))


def test_batch_normalisation_follows_every_3x3_convolution():
    network = UNet(SPECS["same"])
    kinds = [type(m).__name__ for m in network.down[0]]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 2
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 18


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_probabilities_are_finite_and_add_up(spec):
    logits = torch.randn(2, spec.out_channels, *(4,) * spec.ndim) * 50
    probability = activate(logits.to(torch.bfloat16), spec)
    assert probability.dtype == torch.float32
    if spec.head == "softmax":
        torch.testing.assert_close(
            probability.sum(dim=1), torch.ones(2, *(4,) * spec.ndim)
        )
    assert (probability >= 0).all()
    assert (probability <= 1).all()


def reached(spec, axis):
    """Which voxels of a line of input change one kept voxel's logits, relative to it.

    All positions of the kept voxel on the pooling grid are looked at.
    """
    torch.manual_seed(1)
    network = UNet(spec).eval().double()
    for module in network.modules():  # nothing may hide behind a dead ReLU
        if isinstance(module, CONVOLUTIONS):
            module.weight.data.abs_()
    shape = spec.input_shape_for(spec.pooling_grid)
    image = torch.rand(1, 1, *shape[3 - spec.ndim :], dtype=torch.float64)
    image.requires_grad_()
    logits = network(image)
    offset = spec.output_offset[axis]
    dim = axis - (3 - spec.ndim) + 2
    kept = logits.narrow(dim, offset, spec.pooling_grid[axis])
    others = [d for d in range(1, image.ndim) if d != dim]
    (gradient,) = torch.autograd.grad(kept.sum(), image)
    line = gradient.abs().sum(dim=[0, *others])
    first, last = line.nonzero().min(), line.nonzero().max()
    before, stop = int(first), int(last) + 1
    start_kept = spec.halo.before[axis]
    stop_kept = start_kept + spec.pooling_grid[axis]
    return start_kept - before, stop - stop_kept


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_halo_is_what_the_network_really_sees(depth, padding):
    """What a grid cell depends on never reaches beyond the halo, and fills it."""
    spec = UNetSpec(base_channels=1, depth=depth, padding=padding, dropout=0.0)
    before, after = reached(spec, axis=2)
    halo = spec.halo
    assert before <= halo.before[2]
    assert after <= halo.after[2]
    grid = spec.pooling_grid[2]
    assert halo.before[2] - before < grid
    assert halo.after[2] - after < grid


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_voxel_beyond_the_halo_changes_nothing(depth, padding):
    spec = UNetSpec(base_channels=2, depth=depth, padding=padding)
    torch.manual_seed(0)
    network = UNet(spec).eval()
    grid = spec.pooling_grid[2]
    # Room beyond the halo on both sides, in whole grid cells.
    shape = spec.input_shape_for((1, grid, 7 * grid))
    image = torch.randn(1, 1, *shape[1:])
    region = slice(3 * grid, 4 * grid)
    offset = spec.output_offset

    def kept(tile):
        with torch.no_grad():
            return network(tile)[..., offset[1] :, offset[2] :][..., region]

    expected = kept(image)
    start = 3 * grid + spec.halo.before[2]
    for beyond in (start - spec.halo.before[2] - 1, start + grid + spec.halo.after[2]):
        changed = image.clone()
        changed[..., beyond] += 100
        assert torch.equal(kept(changed)[..., :grid, :], expected[..., :grid, :])


def test_volumetric_networks_see_their_neighbour_sections():
    spec = SPECS["volumetric"]
    network = UNet(spec)
    assert {
        m.kernel_size for m in network.down.modules() if isinstance(m, nn.Conv3d)
    } == {(3, 3, 3)}
    before, after = reached(spec, axis=0)
    assert 0 < before <= spec.halo.before[0]
    assert 0 < after <= spec.halo.after[0]


def test_an_illegal_tile_is_named_by_the_spec():
    with pytest.raises(GeometryError, match="570 voxels along y"):
        UNetSpec().check_input_shape((1, 570, 572))


@pytest.mark.parametrize("targets", ["border", "markers"])
def test_the_foreground_of_cores_and_rims_is_what_is_not_background(targets):
    spec = UNetSpec(base_channels=2, depth=1, targets=targets)
    network = UNet(spec)
    predictor = TilePredictor(network)
    tile = torch.randn(1, 1, 1, *predictor.tile_shape((1, 8, 8))[1:])
    found = predictor.probabilities(tile.numpy())
    with torch.no_grad():
        background, core, rim = activate(network(tile[:, :, 0]), spec)[0]
    torch.testing.assert_close(found[0, :, 0], torch.stack([core + rim, core]))
    assert predictor.num_channels == 2
    assert torch.all(background < 1)


def test_cores_of_several_classes_are_refused():
    with pytest.raises(GeometryError, match="num_classes 2 and head softmax"):
        UNetSpec(num_classes=3, targets="border")


@pytest.mark.parametrize("ndim", [2, 3])
def test_gradients_lie_in_memory_as_the_maps_do(ndim, monkeypatch):
    spec = UNetSpec(ndim=ndim, base_channels=4, depth=2)
    layout = torch.channels_last if ndim == 2 else torch.channels_last_3d
    torch.manual_seed(0)
    network = UNet(spec).to(memory_format=layout).train()
    side = 60 if ndim == 2 else 44
    image = torch.randn(1, 1, *(side,) * ndim).contiguous(memory_format=layout)
    seen = []

    def watch(_, __, maps):
        maps.register_hook(lambda grad: seen.append(grad.stride() == maps.stride()))

    for block in network.down[:-1]:
        block[-1].register_forward_hook(watch)

    def gradients():
        network.zero_grad(set_to_none=True)
        network(image, [1]).square().mean().backward()
        return [weights.grad.clone() for weights in network.parameters()]

    ours = gradients()
    assert seen == [True, True]
    monkeypatch.setattr(
        UNet, "_crop", lambda _, skip, like: unet._centre_crop(skip, like)
    )
    assert all(map(torch.equal, ours, gradients()))
