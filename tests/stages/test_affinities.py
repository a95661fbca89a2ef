"""A network of affinities, from its plan to its page, however its jobs end."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.stages.annotated import draw_instances, ingest
from tests.stages.predicted import Chain, small_shards
from tests.stages.segmented import Segmented
from tests.stages.test_prediction import KILLED as KILLED_PREDICTION
from tests.stages.test_segmentation import KILLED as KILLED_SEGMENTATION
from tests.stages.test_train_unet import Training, rows_of
from unetpipe.config import EvaluationConfig, NetworkConfig, TrainingConfig
from unetpipe.evaluation.passes import measure_seams
from unetpipe.evaluation.proposals import measure_proposals
from unetpipe.evaluation.proposed_volumes import PredictedVolume, ProposedVolume
from unetpipe.evaluation.scored_volume import (
    EvaluationInputs,
    ScoredRecords,
    ScoredVolume,
)
from unetpipe.records.metrics import Metrics
from unetpipe.runtime.files import read_record, write_record
from unetpipe.stages.evaluate_prediction import evaluate_prediction
from unetpipe.stages.report import report

SHAPE = (10, 30, 34)
NETWORK = NetworkConfig(
    **{"ndim": 3, "depth": 2, "base_channels": 2, "dropout": 0.0},
    **{"head": "sigmoid", "targets": "affinities"},
    pooling=((1, 2, 2), (2, 2, 2)),
)
TRAINING = TrainingConfig(
    **{"steps": 2, "validate_every": 1, "checkpoint_every": 1, "threads": 1},
    patch=(30, 52, 52),
)


class Run:
    """A volume, and a network that learnt affinities of its first sections."""

    def __init__(self, folder):
        self.folder = folder
        self.ingest = ingest(folder / "cells", draw_instances(SHAPE))
        volume = read_record(self.ingest)
        write_record(self.ingest, volume | {"dtype": "uint8"})
        rows = rows_of(self.ingest, train=[0, 1, 2, 3, 4], validate=(5, 6), ndim=3)
        self.unet = folder / "unet"
        Training(self.unet, rows, network=NETWORK, training=TRAINING)()
        self.model = [self.unet / n for n in ("model.safetensors", "model.json")]

    def chain(self, name, parts):
        return Chain(
            self.unet / name, self.ingest, self.model, stride=(4, 16, 16), parts=parts
        )

    def segmented(self, chain, parts):
        for name, file in (("ingest", self.ingest), ("model", self.model[1])):
            (chain.folder / f"{name}.json").write_bytes(file.read_bytes())
        return Segmented(chain.folder, chain.folder, parts=parts, **settings(chain))


def settings(chain):
    """Let half of the voxels be foreground: two steps taught the network little."""
    half = float(np.median(chain.voxels()[0])) / 255
    return {
        **{"method": "mutex", "connectivity": "3d", "fragment_vox": (4, 8, 8)},
        **{"threshold": half, "merge_threshold": half},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("affinities"))


@pytest.fixture(scope="module")
def one(run):
    """One part of each, undisturbed: what all others must equal."""
    with pytest.MonkeyPatch.context() as patch:
        small_shards(patch, sections=4)
        chain = run.chain("one", 1)
        chain.run()
    segmented = run.segmented(chain, 1)
    segmented.run()
    return chain, segmented


def test_a_store_has_the_foreground_and_a_channel_an_affinity(one):
    chain, _ = one
    plan = read_record(chain.folder / "plan.json")
    assert list(plan["outputs"]) == ["probability"], "no classes"
    names = plan["outputs"]["probability"]["channels"]
    assert names[:4] == [
        "foreground",
        *("affinity -1 0 0", "affinity 0 -1 0", "affinity 0 0 -1"),
    ]
    stored = chain.voxels()
    assert stored.shape == (10, *SHAPE)
    assert len(names) == len(stored)
    assert (stored.reshape(10, -1).std(axis=1) > 0).all()
    mean = stored[1:4].astype(float).mean(axis=0)
    assert np.abs(stored[0] - mean).max() <= 1, "rounded once, not twice"


def test_two_parts_give_the_bits_of_one(run, one, monkeypatch):
    small_shards(monkeypatch, sections=4)
    chain = run.chain("two", 2)
    assert np.array_equal(chain.run(), one[0].voxels())
    segmented = run.segmented(chain, 2)
    segmented.run()
    assert segmented.objects().max() > 5
    assert np.array_equal(segmented.objects(), one[1].objects())
    assert np.array_equal(segmented.mask(), one[1].mask())


def test_jobs_that_were_killed_go_on_to_the_same_bits(run, one, monkeypatch):
    small_shards(monkeypatch, sections=4)
    chain = run.chain("killed", 1)
    chain.plan()
    kill(KILLED_PREDICTION, chain.folder, *run.model, 16)  # of 18, three in flight
    assert 0 < chain.part(0)["num_kept"] < 18
    chain.finish()
    assert np.array_equal(chain.voxels(), one[0].voxels())
    for step in ("label", "relabel"):
        segmented = run.segmented(chain, 1)
        code = KILLED_SEGMENTATION.replace(
            'connectivity="3d"',
            ", ".join(f"{k}={v!r}" for k, v in settings(chain).items()),
        )
        kill(code, chain.folder, chain.folder, step, 6)
        assert not (chain.folder / "segmentation.json").exists()
    segmented.run()
    assert np.array_equal(segmented.objects(), one[1].objects())


def kill(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=False
    )
    assert done.returncode == -signal.SIGKILL


def test_proposals_and_seams_are_of_the_foreground(run, one):
    chain, _ = one
    home, stored = chain.folder, chain.voxels()[:1]
    segmentation = home / "segmentation.json"
    threshold = read_record(segmentation)["threshold"]
    files = PredictedVolume(
        volume="cells",
        ingest=run.ingest,
        models=(run.model[1],),
        predictions=(home / "prediction.json",),
        segmentations=(segmentation,),
    )
    found = ProposedVolume(files).crops(16)
    expected, _, _ = measure_proposals(
        lambda roi: [stored[(slice(None), *roi.slices)]], SHAPE, SHAPE, 16, threshold
    )
    np.testing.assert_allclose(found.entropy, expected)

    inputs = EvaluationInputs(
        prediction=home / "prediction.json",
        segmentation=segmentation,
        ingest=run.ingest,
        model_json=run.model[1],
    )
    volume = ScoredVolume(ScoredRecords.read(inputs))
    (row,) = [
        row
        for row in measure_seams(volume).rows
        if row.face == "tile" and row.axis == "y"
    ]
    jumps = np.abs(np.diff(stored[0].astype(int), axis=1))[:, [15]]
    assert row.jump_across == pytest.approx(jumps.mean() / 255)


def test_the_result_is_scored_and_has_a_page(run, one):
    home = one[0].folder
    evaluate_prediction(
        inputs=EvaluationInputs(
            prediction=home / "prediction.json",
            segmentation=home / "segmentation.json",
            ingest=run.ingest,
            model_json=run.model[1],
        ),
        rows=[{"role": "test", "sections": [6, 7, 8, 9]}],
        evaluation=EvaluationConfig(),
        picture=home / "seams.svg",
        sections=home / "section_scores.json",
        record=home / "metrics.json",
    )
    metrics = Metrics.read(home / "metrics.json")
    assert {"unet", "constant"} <= {row.predictor for row in metrics.tables[0].rows}
    assert all(0 <= row.jump_across <= 1 for row in metrics.seams.rows if row.n)
    assert metrics.objects[0].rows, "objects are scored too"

    manifest = home / "manifest.json"
    about = {"source": "here", "kind": "folder", "root": ".", "files": []}
    circumstances = read_record(home / "plan.json")["circumstances"]
    write_record(manifest, about | {"circumstances": circumstances})
    names = ("probe", "plan", "prediction", "segmentation", "metrics")
    page = home / "report.html"
    report(
        config={"name": "tiny", "network": NETWORK.model_dump(mode="json")},
        manifest=manifest,
        ingests=[run.ingest],
        weight_maps=[],
        training={
            "model": "unet",
            "record": str(run.unet / "train.json"),
            "model_json": str(run.model[1]),
            "history": str(run.unet / "history.csv"),
        },
        predictions=[
            {"model": "unet", "volume": read_record(run.ingest)["volume"]}
            | {name: str(Path(home / f"{name}.json")) for name in names}
        ],
        output=page,
    )
    text = page.read_text()
    assert "It told of pairs of voxels whether both are of one cell." in text
    assert "fragments of a mutex watershed of affinities across sections" in text
    assert "The mutex watershed: efficient, parameter-free image partitioning" in text
