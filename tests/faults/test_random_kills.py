"""kill -9 at moments drawn from seeds: equal bits, little redone."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.faults.injected import Tally, kill_at, num_changes
from tests.stages.annotated import draw_instances, ingest
from tests.stages.predicted import SHAPE, Chain, small_shards
from tests.stages.test_train_unet import TRAINING, Training, rows_of
from unetpipe.network.predictor import TilePredictor
from unetpipe.runtime.files import read_record
from unetpipe.training.sampling import PatchSampler

pytestmark = pytest.mark.faults

NUM_KILLS = int(os.environ.get("UNETPIPE_KILLS", "10"))
# Of blocks of 4 tiles: one computed, one whole and waiting, one being written, and the
# batches that were assembled ahead.
TILES_IN_FLIGHT = 4 * 4
STEPS = TRAINING.model_copy(update={"steps": 30, "validate_every": 10})


class Prediction:
    """A planned prediction in one part, and what it is without a disturbance."""

    def __init__(self, folder, volume, model):
        self.expected = Chain(folder / "undisturbed", volume, model, parts=1).run()
        self.chain = Chain(folder / "disturbed", volume, model, parts=1)
        self.receipts = Path(self.chain.plan()["receipts"])
        self.tally = Tally(folder / "tally")

    def __call__(self):
        self.chain.part(0)

    def length(self):
        """Return the changes of files of a whole part; none counts afterwards."""
        changes = num_changes(self, below=self.chain.folder)
        shutil.rmtree(self.receipts)
        self.receipts.mkdir()
        self.tally.clear()
        return changes

    def kill_at(self, change):
        return kill_at(self, change, below=self.chain.folder)

    def check(self, num_kills):
        """Finish; compare the voxels, and what was computed more than once."""
        self()
        self.chain.finish()
        assert np.array_equal(self.chain.voxels(), self.expected)
        record = read_record(self.chain.folder / "prediction.json")
        redone = self.tally.count() - record["tiles"]["predicted"]
        assert 0 <= redone <= num_kills * TILES_IN_FLIGHT
        assert not list(self.receipts.parent.rglob("*.partial"))


class Network:
    """A training, and what it ends with without a disturbance."""

    def __init__(self, folder):
        rows = rows_of(ingest(folder / "volumes" / "cells", draw_instances()))
        self.undisturbed = Training(folder / "undisturbed", rows, training=STEPS)
        self.disturbed = Training(folder / "disturbed", rows, training=STEPS)
        self.tally = Tally(folder / "tally")

    def length(self):
        changes = num_changes(self.undisturbed, below=self.undisturbed.folder)
        assert self.tally.count() == STEPS.steps
        self.tally.clear()
        return changes

    def kill_at(self, change):
        return kill_at(self.disturbed, change, below=self.disturbed.folder)

    def check(self, num_kills):
        """Finish; compare weights, thresholds and losses; count the steps redone."""
        one, two = self.undisturbed, self.disturbed()
        assert two.model == one.model
        assert [row.loss for row in two.history] == [row.loss for row in one.history]
        redone = self.tally.count() - STEPS.steps
        assert 0 <= redone <= num_kills * STEPS.checkpoint_every
        state = two.folder / "state" / two.record["model"]["recipe"][:8]
        assert not list(state.glob(".*"))


@pytest.fixture
def prediction(tmp_path, make_volume, make_model, monkeypatch):
    small_shards(monkeypatch)
    work = Prediction(tmp_path, make_volume(SHAPE), make_model())
    count_calls(monkeypatch, TilePredictor, "quantised", work.tally)
    return work


@pytest.fixture
def network(tmp_path, monkeypatch):
    work = Network(tmp_path)
    count_calls(monkeypatch, PatchSampler, "render", work.tally)
    return work


def count_calls(monkeypatch, owner, name, tally):
    original = getattr(owner, name)

    def counted(self, *args, **kwargs):
        tally.add()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize("seed", range(NUM_KILLS))
def test_a_part_killed_at_a_random_moment_gives_the_same_bits(prediction, seed):
    length = prediction.length()
    hit = prediction.kill_at(random.Random(seed).randint(1, length))
    prediction.check(num_kills=int(hit))


@pytest.mark.parametrize("seed", range(NUM_KILLS))
def test_a_training_killed_at_a_random_moment_gives_the_same_bits(network, seed):
    length = network.length()
    hit = network.kill_at(random.Random(seed).randint(1, length))
    network.check(num_kills=int(hit))


def test_a_part_interrupted_20_times_gives_the_same_bits(prediction):
    length, rng = prediction.length(), random.Random(20)
    hits = [prediction.kill_at(rng.randint(1, length // 10)) for _ in range(20)]
    assert sum(hits) > 5
    prediction.check(num_kills=sum(hits))


def test_a_training_interrupted_20_times_gives_the_same_bits(network):
    length, rng = network.length(), random.Random(20)
    hits = [network.kill_at(rng.randint(1, length // 10)) for _ in range(20)]
    assert sum(hits) > 5
    network.check(num_kills=sum(hits))
