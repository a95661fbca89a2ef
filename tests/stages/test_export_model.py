"""The package: what it holds, what it computes, and that others can run it."""

import hashlib
import io
import os
import subprocess
import zipfile

import numpy as np
import pytest
import torch
import yaml

from tests.stages.annotated import draw_instances, ingest
from tests.variants import mostly_slow
from unetpipe.config import ExportConfig
from unetpipe.errors import ConfigError
from unetpipe.network.bioimageio import ModelCard, _describe_image
from unetpipe.network.formats import (
    as_torchscript,
    export_tile_rule,
    export_wrapper_arguments,
    has_onnx,
    wrap_network,
)
from unetpipe.network.package_files import _normalise
from unetpipe.network.same_size import SameSizeUNet
from unetpipe.network.unet import UNet, activate
from unetpipe.records.volume import GreyPercentiles, Intensity
from unetpipe.runtime.files import (
    hash_file,
    read_record,
    write_bytes_atomic,
    write_record,
)
from unetpipe.stages.export_model import export_model
from unetpipe.tiling.boxes import Roi
from unetpipe.tiling.mirroring import mirror_take
from unetpipe.tiling.unet_spec import UNetSpec
from unetpipe.training.checkpoints import pack_weights

PAPER = UNetSpec(base_channels=2)
SPECS = [
    PAPER,
    UNetSpec(depth=2, base_channels=2, num_classes=4, in_channels=2),
    UNetSpec(depth=2, base_channels=2, padding="same", normalization="batch"),
    UNetSpec(depth=2, base_channels=2, head="sigmoid", pooling=((1, 2, 2), (1, 1, 2))),
]
EXPORT = ExportConfig(enabled=True, authors=("A. Person",), licence="CC-BY-4.0")


def network(spec):
    torch.manual_seed(0)
    found = UNet(spec).eval()
    for module in found.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
    return found


def one_pass(found, image):
    """Mirror by the halo, one forward pass, crop: what law 1 calls one pass."""
    spec, (height, width) = found.spec, image.shape[2:]
    shape = spec.input_shape_for((1, height, width))
    before = spec.halo.before
    roi = Roi(
        (0, -before[1], -before[2]), (1, shape[1] - before[1], shape[2] - before[2])
    )
    seen = mirror_take(image[0][:, None].numpy(), (0, 0, 0), roi, (1, height, width))
    with torch.no_grad():
        logits = found(torch.from_numpy(np.ascontiguousarray(seen[:, 0])[None]))
    y, x = spec.output_offset[1:]
    return activate(logits, spec)[..., y : y + height, x : x + width]


@pytest.mark.parametrize("spec", SPECS)
def test_the_wrapper_is_one_pass_over_the_mirrored_image(spec):
    found, step = network(spec), export_tile_rule(spec)["step"]
    image = torch.randn(1, spec.in_channels, 7 * step, 8 * step)
    with torch.no_grad():
        probability = wrap_network(found)(image)
    assert probability.shape == (1, spec.out_channels, 7 * step, 8 * step)
    torch.testing.assert_close(probability, one_pass(found, image), rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")
@pytest.mark.parametrize("spec", mostly_slow(SPECS))
def test_the_traced_file_is_right_at_sizes_that_it_has_not_seen(spec):
    wrapper, step = wrap_network(network(spec)), export_tile_rule(spec)["step"]
    content = as_torchscript(
        wrapper, torch.randn(1, spec.in_channels, 7 * step, 7 * step), step
    )
    loaded = torch.jit.load(io.BytesIO(content))
    for size in ((8 * step, 7 * step), (7 * step, 11 * step)):
        image = torch.randn(1, spec.in_channels, *size)
        with torch.no_grad():
            torch.testing.assert_close(loaded(image), wrapper(image), rtol=0, atol=1e-6)


def test_the_papers_constants():
    arguments = export_wrapper_arguments(UNetSpec())
    assert arguments["crops"] == [[88, 88], [40, 40], [16, 16], [4, 4]]
    assert arguments["margins"] == [[92, 96], [92, 96]]
    assert arguments["cuts"] == [[0, 4], [0, 4]]
    assert export_tile_rule(UNetSpec()) == {"step": 16, "halo": 96, "min": 208}


def test_volumetric_networks_are_refused():
    with pytest.raises(ConfigError, match=r"network\.ndim is 3; only networks of"):
        export_wrapper_arguments(UNetSpec(ndim=3, depth=2))


def test_authors_and_licence_are_asked_for():
    with pytest.raises(ValueError, match="a package names both"):
        ExportConfig(enabled=True)


def test_a_package_normalises_as_volumes_were_when_the_network_learnt():
    ranks = (2.0, 95.0)
    image = np.random.default_rng(0).normal(100, 10, (1, 1, 200, 200))
    card = ModelCard("x", (), "MIT", ["foreground"], 1, "", percentiles=ranks)
    rule = {"min": 16, "step": 16, "halo": 0}
    files = {"test_input.npy": b""}
    scale, linear = _describe_image(files, card, rule)["preprocessing"]
    low, high = np.percentile(
        image, (scale["kwargs"]["min_percentile"], scale["kwargs"]["max_percentile"])
    )
    found = (image - low) / (high - low + scale["kwargs"]["eps"])
    found = found * linear["kwargs"]["gain"] + linear["kwargs"]["offset"]
    robust = GreyPercentiles.between(ranks, (low, high))
    known = Intensity.of({"percentiles": robust})
    np.testing.assert_allclose(found, (image - known.mean) / known.std, atol=1e-5)
    np.testing.assert_allclose(_normalise(image, ranks), found, atol=1e-5)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package of a network of the paper's depth."""
    folder = tmp_path_factory.mktemp("export")
    record = ingest(folder / "cells", draw_instances((2, 230, 250)))
    write_bytes_atomic(
        folder / "m.safetensors", pack_weights(network(PAPER).state_dict())
    )
    write_record(
        folder / "m.json",
        {
            "spec": PAPER.to_json(),
            "weights_sha256": hash_file(folder / "m.safetensors"),
            "validation": {"v_rand": 0.5},
            "thresholds": {"segmentation": 0.4},
            "voxel_size_nm": [50, 4, 8],
        },
    )
    export_model(
        model=folder / "m.safetensors",
        model_json=folder / "m.json",
        ingest=record,
        section=1,
        name="unetpipe cells",
        export=EXPORT,
        package=folder / "bioimageio.zip",
        record=folder / "export.json",
    )
    return folder / "bioimageio.zip"


def read_package(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_package_describes_every_file_by_its_hash(package):
    files = read_package(package)
    description = yaml.safe_load(files["rdf.yaml"])
    named = {}

    def collect(value):
        if isinstance(value, dict):
            if "source" in value:
                named[value["source"]] = value["sha256"]
            list(map(collect, value.values()))
        elif isinstance(value, list):
            list(map(collect, value))

    collect(description)
    assert set(named) == set(files) - {"rdf.yaml", "README.md", "cover.png"}
    for name, sha256 in named.items():
        assert hashlib.sha256(files[name]).hexdigest() == sha256
    assert "# Validation" in files["README.md"].decode()
    assert "v_rand: 0.5000" in files["README.md"].decode()
    assert "learnt at 4 x 8 nm a pixel" in files["README.md"].decode()
    for tensor in (*description["inputs"], *description["outputs"]):
        scales = [(a["scale"], a["unit"]) for a in tensor["axes"] if "scale" in a]
        assert scales == [(4.0, "nanometer"), (8.0, "nanometer")]
    record = read_record(package.with_name("export.json"))
    assert record["package_sha256"] == hash_file(package)


def test_the_packages_own_source_and_weights_give_the_test_output(package):
    files = read_package(package)
    architecture = yaml.safe_load(files["rdf.yaml"])["weights"]["pytorch_state_dict"][
        "architecture"
    ]
    assert architecture["callable"] == SameSizeUNet.__name__
    names = {}
    exec(compile(files["same_size.py"], "same_size.py", "exec"), names)
    found = names["SameSizeUNet"](**architecture["kwargs"]).eval()
    found.load_state_dict(
        torch.load(io.BytesIO(files["weights.pt"]), weights_only=True)
    )
    image = np.load(io.BytesIO(files["test_input.npy"]))
    assert (image.shape, image.dtype) == ((1, 1, 256, 256), np.float32)
    normal = (image - image.mean()) / (image.std() + 1e-6)
    with torch.no_grad():
        probability = found(torch.from_numpy(normal)).numpy()
    expected = np.load(io.BytesIO(files["test_output.npy"]))
    np.testing.assert_allclose(probability, expected, atol=1e-5)


@pytest.fixture
def reference():
    """Python of an environment with bioimageio.core and onnxruntime."""
    python = os.environ.get("UNETPIPE_EXPORT_PYTHON")
    if not python:
        pytest.skip("UNETPIPE_EXPORT_PYTHON names no environment: make test-export")
    return python


RUN_REFERENCE = """
import sys
from bioimageio.core import test_model
for weights in sys.argv[2:]:
    summary = test_model(sys.argv[1], weight_format=weights, absolute_tolerance=1e-4)
    print(weights, summary.status)
    if summary.status != "passed":
        sys.exit(summary.format())
"""
RUN_ONNX = """
import sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
for path in sys.argv[2:]:
    with np.load(path) as data:
        (found,) = session.run(None, {"image": data["image"]})
        assert found.shape == data["probability"].shape
        np.testing.assert_allclose(found, data["probability"], atol=1e-5)
"""


def run(python, program, *arguments):
    done = subprocess.run(
        [python, "-c", program, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_reference_library_runs_the_package(package, reference):
    formats = ["pytorch_state_dict", "torchscript"]
    formats += ["onnx"] if "weights.onnx" in read_package(package) else []
    lines = run(reference, RUN_REFERENCE, package, *formats).splitlines()
    assert [f"{one} passed" for one in formats] == [
        line for line in lines if line.split(" ")[0] in formats
    ]


@pytest.mark.slow
def test_onnx_is_right_at_any_size(package, reference, tmp_path):
    if not has_onnx():
        pytest.skip("the extra `export` is not installed: make test-export")
    files = read_package(package)
    (tmp_path / "weights.onnx").write_bytes(files["weights.onnx"])
    wrapper, paths = wrap_network(network(PAPER)), []
    for shape in ((1, 1, 208, 240), (3, 1, 304, 224)):
        image = torch.randn(*shape)
        with torch.no_grad():
            probability = wrapper(image)
        paths.append(tmp_path / f"{shape[2]}.npz")
        np.savez(paths[-1], image=image.numpy(), probability=probability.numpy())
    run(reference, RUN_ONNX, tmp_path / "weights.onnx", *paths)
