"""The backend openvino: what torch computes, and law 1, in floating point and int8."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.network.openvino_needed import (
    needs_openvino,
    patches_of,
    quantised,
    served,
    smallest_tile,
)
from tests.network.test_exact_tiling import (
    SHAPES,
    SPECS,
    he_ensemble,
    he_network,
    image_of,
)
from tests.oracles import assert_agree, one_pass, predict_volume
from tests.variants import mostly_slow
from unetpipe.errors import ConfigError
from unetpipe.network import openvino_graph
from unetpipe.network.openvino_network import (
    OpenVinoUNet,
    on_openvino,
    torch_precision,
)
from unetpipe.network.predictor import TilePredictor
from unetpipe.network.quantisation import quantise, unpack_quantised_network
from unetpipe.network.unet import UNet
from unetpipe.tiling.boxes import Roi, as_zyx
from unetpipe.tiling.grids import plan_grids
from unetpipe.tiling.unet_spec import UNetSpec

PRECISIONS = ("fp32", "int8")


def tiles_of(spec, seed=1):
    shape = (1, spec.in_channels, *smallest_tile(spec, 2))
    return torch.from_numpy(
        np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    )


def grids_of(spec, shape, number):
    factors = (number if spec.ndim == 3 else 1, number, 2 * number)
    stride = as_zyx(g * n for g, n in zip(spec.pooling_grid, factors, strict=True))
    return plan_grids(shape, stride, spec)


@needs_openvino
@pytest.mark.parametrize("name", mostly_slow(SPECS, quick=["paper", "volumetric"]))
def test_tiles_agree_with_one_pass_of_torch_over_the_whole_section(name):
    spec = SPECS[name]
    image = image_of(SHAPES[spec.ndim], spec.in_channels)
    predictor = TilePredictor(served(name, "fp32"))
    stored = predict_volume(predictor, image, grids_of(spec, SHAPES[spec.ndim], 1))
    assert_agree(stored, one_pass(he_network(spec), image))


@needs_openvino
@pytest.mark.parametrize("name", mostly_slow(SPECS, quick=["isotropic"]))
@pytest.mark.parametrize("precision", mostly_slow(PRECISIONS, quick=["int8"]))
def test_bits_do_not_depend_on_tile_or_threads(name, precision):
    """Stronger than law 1, which lets threads and the tile change last bits."""
    spec, shape = SPECS[name], SHAPES[SPECS[name].ndim]
    image = image_of(shape, spec.in_channels)
    predictor = TilePredictor(served(name, precision))
    threads = torch.get_num_threads()
    found = []
    try:
        for number, count in ((1, 1), (2, 1), (1, 2), (1, 5)):
            torch.set_num_threads(count)
            found.append(
                predict_volume(predictor, image, grids_of(spec, shape, number))
            )
    finally:
        torch.set_num_threads(threads)
    assert found[0].std() > 10, "a constant output would hide every seam"
    for other in found[1:]:
        assert np.array_equal(found[0], other)


@needs_openvino
@pytest.mark.parametrize("precision", mostly_slow(PRECISIONS, quick=["int8"]))
def test_bits_do_not_depend_on_blocks_or_order(precision):
    spec, shape = SPECS["isotropic"], (9, 17, 23)
    image, grids = image_of(shape), grids_of(spec, shape, 1)
    predictor = TilePredictor(served("isotropic", precision))
    expected = predict_volume(predictor, image, grids)
    zero = np.zeros(1, np.float32)
    boxes = [Roi((0, 0, 0), (4, 17, 23)), Roi((4, 0, 0), (9, 17, 23))]
    for box in reversed(boxes):
        part, _ = predictor.predict_block(
            image, (0, 0, 0), box, grids, mean=zero, std=zero + 1
        )
        assert np.array_equal(part, expected[(slice(None), *box.slices)])


@needs_openvino
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_tile_has_the_same_bits_at_any_place_of_a_batch(precision):
    network, tile = served("isotropic", precision), tiles_of(SPECS["isotropic"])
    both = network(torch.cat([torch.zeros_like(tile), tile]))
    assert torch.equal(both[1:], network(tile))


@needs_openvino
@pytest.mark.parametrize("name", mostly_slow(SPECS, quick=["isotropic"]))
def test_int8_is_near_to_fp32_and_not_equal(name):
    """Two channels of noise are far from any real image: what is shown is the order."""
    spec, tile = SPECS[name], tiles_of(SPECS[name])
    with torch.inference_mode():
        exact = he_network(spec)(tile)
        error = served(name, "int8")(tile) - exact
    assert 0 < error.square().mean().sqrt() < 0.6 * exact.std()


@needs_openvino
@pytest.mark.slow
def test_an_ensemble_is_the_mean_of_its_members_probabilities():
    spec = SPECS["isotropic"]
    image = image_of((5, 8, 8))
    grids = grids_of(spec, (5, 8, 8), 1)
    expected = predict_volume(TilePredictor(he_ensemble(spec)), image, grids)
    fp32, int8 = (
        predict_volume(
            TilePredictor(served("isotropic", p, is_ensemble=True)), image, grids
        )
        for p in PRECISIONS
    )
    assert np.abs(fp32.astype(int) - expected).max() <= 1
    assert 0 < np.abs(int8.astype(int) - expected).mean() < 30


@needs_openvino
@pytest.mark.slow
def test_the_same_network_and_patches_give_the_same_file():
    spec = SPECS["isotropic"]
    again = quantise(he_network(spec), patches_of(spec))
    assert again == quantised("isotropic")
    assert quantise(he_network(spec), patches_of(spec, seed=9)) != again


@needs_openvino
def test_weights_stay_below_what_sums_of_sixteen_bits_hold():
    """Without VNNI two products are added in 16 bits, and 255 * 127 * 2 saturates."""
    graph = unpack_quantised_network(quantised("isotropic"))
    weights = [
        layer.get_data()
        for layer in graph.get_ordered_ops()
        if layer.get_type_name() == "Constant" and layer.get_element_type().size == 1
    ]
    whole = [w for w in weights if w.dtype == np.int8]
    assert len(whole) >= 4, "hardly any layer is quantised"
    assert max(int(np.abs(w.astype(int)).max()) for w in whole) <= 64


def network_of_largest_sums(spec):
    """Return a network whose maps are 1 everywhere where its image is.

    So each value has the highest level, and each weight the largest or the smallest: a
    third of the channels add up to -1, and have a bias of 2.
    """
    network = UNet(spec).eval()
    transposed = torch.nn.ConvTranspose2d | torch.nn.ConvTranspose3d
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Conv3d | transposed):
            is_up = isinstance(layer, transposed)
            num_added = layer.in_channels if is_up else layer.weight[0].numel()
            by_output = layer.weight.transpose(0, 1) if is_up else layer.weight
            torch.nn.init.constant_(layer.weight, 1 / num_added)
            torch.nn.init.zeros_(layer.bias)
            with torch.no_grad():
                by_output[::3] *= -1
                layer.bias[::3] = 2
    return network


@needs_openvino
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_largest_sums_come_out_whole(ndim):
    """On a processor without VNNI they do not, where weights take all eight bits."""
    spec = UNetSpec(ndim=ndim, base_channels=16, depth=1)
    network, ones = network_of_largest_sums(spec), np.ones_like(patches_of(spec)[0])
    quantised_one = on_openvino(network, "int8", [quantise(network, [ones])])
    with torch.inference_mode():
        for one, error in ((network, 1e-5), (quantised_one, 0.02)):
            assert (one(torch.from_numpy(ones)) - 1).abs().max() < error


@needs_openvino
def test_first_and_last_layer_stay_in_floating_point():
    graph = unpack_quantised_network(quantised("isotropic"))
    kinds = [layer.get_type_name() for layer in graph.get_ordered_ops()]
    floats = [
        layer.get_data().size
        for layer in graph.get_ordered_ops()
        if layer.get_type_name() == "Constant"
        and layer.get_data().dtype == np.float32
        and layer.get_data().ndim == 5
    ]
    spec = SPECS["isotropic"]
    network = he_network(spec)
    for layer in (network.down[0][0], network.out):
        assert layer.weight.numel() in floats
    assert "FakeQuantize" in kinds


@needs_openvino
def test_a_network_travels_to_another_process():
    network, tile = served("isotropic", "int8"), tiles_of(SPECS["isotropic"])
    assert torch.equal(pickle.loads(pickle.dumps(network))(tile), network(tile))


@needs_openvino
def test_torch_has_only_floating_point_to_do():
    network = served("isotropic", "int8", is_ensemble=True)
    assert all(isinstance(member, OpenVinoUNet) for member in network.members)
    assert torch_precision(network, "int8") == "fp32"
    assert torch_precision(he_network(SPECS["isotropic"]), "bf16") == "bf16"


@needs_openvino
@pytest.mark.slow
def test_neither_library_reports_home(tmp_path):
    """Both write an id into the home folder before they send anything."""
    code = (
        "from unetpipe.network.openvino_graph import TELEMETRY\n"
        "from unetpipe.network.openvino_graph import import_openvino as get\n"
        "import sys; get('openvino'); get('nncf')\n"
        "assert not [name for name in sys.modules if name.startswith(TELEMETRY)]"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={"HOME": str(tmp_path)}
    )
    assert not any(tmp_path.iterdir())


def test_a_missing_library_is_one_clear_message(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(openvino_graph.importlib, "import_module", missing)
    with pytest.raises(
        ConfigError,
        match=r"need openvino, which is not installed; install the extra: pip install "
        r"'unetpipe\[openvino\]', or use backend torch",
    ):
        openvino_graph.make_openvino_graph(he_network(SPECS["isotropic"]))
