"""The configuration for a GPU takes a step of the paper's network on a CPU."""

import json

import tifffile

from unetpipe.ingestion.phantom import draw_phantom

SHEET = (
    "volume\timage\tlabels\tsections\trole\tlabel_kind\n"
    "stack\timage.tif\tlabels.tif\t0\ttrain\tinstances\n"
    "stack\timage.tif\tlabels.tif\t1\tvalidate\tinstances\n"
    "stack\timage.tif\tlabels.tif\t2\ttest\tinstances\n"
)
ONE_STEP = """
pixel_sha256: {}
training: {steps: 1, validate_every: 1}
prediction: {average: 1}
"""


def test_the_papers_size_takes_a_step(fresh):
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
    assert description["spec"]["base_channels"] == 64
