"""The configuration for a GPU: the paper's network, shapes first, then steps on a CPU.

A step of the full network takes a CPU minutes. Its shapes are shown without memory or
arithmetic, on torch's meta device; the steps are those of as many levels on the same
tiles in the same precision, with few channels.
"""

import json
from pathlib import Path

import pytest
import tifffile
import torch
import yaml

from tests.phantoms import draw_phantom
from unetpipe.config import check_config
from unetpipe.network.unet import UNet

CONFIG = Path(__file__).resolve().parents[2] / "config"
SHEET = (
    "volume\timage\tlabels\tsections\trole\tlabel_kind\n"
    "stack\timage.tif\tlabels.tif\t0\ttrain\tinstances\n"
    "stack\timage.tif\tlabels.tif\t1\tvalidate\tinstances\n"
    "stack\timage.tif\tlabels.tif\t2\ttest\tinstances\n"
)
ONE_STEP = """
pixel_sha256: {}
network: {base_channels: 2}
training: {steps: 1, validate_every: 1}
prediction: {average: 1}
"""


def test_the_papers_network_learns_from_the_papers_tile():
    values, over = (
        yaml.safe_load((CONFIG / name).read_text())
        for name in ("isbi2012.yaml", "gpu.yaml")
    )
    sections = {name: values.get(name, {}) | over[name] for name in over}
    config = check_config(values | sections)
    spec = config.network.spec()
    assert spec.output_shape(config.training.patch) == (1, 388, 388)
    with torch.device("meta"):
        network = UNet(spec)
        image = torch.empty(1, 1, *config.training.patch[1:])
    assert sum(p.numel() for p in network.parameters()) == 31_030_658
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(image)
    assert logits.shape == (1, 2, 388, 388)
    logits.float().sum().backward()
    assert all(p.grad.shape == p.shape for p in network.parameters())


@pytest.mark.slow
def test_a_step_is_taken_on_the_papers_tile(fresh):
    source = fresh.folder / "stack"
    source.mkdir()
    image, labels = draw_phantom(shape=(3, 512, 512), num_cells=60, noise=20, seed=0)
    tifffile.imwrite(source / "image.tif", image, photometric="minisblack")
    tifffile.imwrite(source / "labels.tif", labels, photometric="minisblack")
    (fresh.folder / "config" / "stack.tsv").write_text(SHEET)
    (fresh.folder / "config" / "one.yaml").write_text(ONE_STEP)
    fresh.snakemake(
        *("config/gpu.yaml", "config/one.yaml"),
        *("--config", f"source={source}", "volumes=config/stack.tsv"),
        *("--", "results/isbi2012/unet/train.json"),
        config="isbi2012",
    )
    folder = fresh.folder / "results/isbi2012/unet"
    record = json.loads((folder / "train.json").read_text())
    assert (record["steps"], record["patch"]) == (1, [1, 572, 572])
    assert record["output"] == [1, 388, 388]
    description = json.loads((folder / "model.json").read_text())
    assert description["spec"]["depth"] == 4
