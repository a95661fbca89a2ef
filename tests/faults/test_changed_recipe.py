"""A model or a setting that changes half-way: another store, nothing mixed."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.stages.predicted import SHAPE, Chain, small_shards
from unetpipe.errors import IdentityError, Interrupted
from unetpipe.network.predictor import TilePredictor
from unetpipe.runtime.files import hash_file, read_record

pytestmark = pytest.mark.faults


@pytest.fixture
def half_way(tmp_path, make_volume, make_model, monkeypatch):
    """A prediction that was told to stop after its first block."""
    small_shards(monkeypatch)
    run = Chain(tmp_path / "run", make_volume(SHAPE), make_model(), parts=1)
    run.plan()
    original = TilePredictor.quantised

    def signalled(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(TilePredictor, "quantised", signalled)
        with pytest.raises(Interrupted):
            run.part(0)
    return run


def files_of(run):
    home = Path(read_record(run.folder / "plan.json")["receipts"]).parent
    return {path: hash_file(path) for path in home.rglob("*") if path.is_file()}


@pytest.mark.parametrize("change", ["model", "setting"])
def test_what_was_begun_stays_untouched_and_goes_on_later(
    half_way,
    change,
    make_model,
    tmp_path,
):
    begun = files_of(half_way)
    assert any("receipts" in path.parts for path in begun)
    model, settings = (half_way.model, half_way.model_json), {"parts": 1}
    if change == "model":
        model = make_model(seed=1, name="other")
    else:
        settings |= {"stride": (1, 32, 32)}
    changed = Chain(half_way.folder, half_way.ingest, model, **settings)
    if change == "model":
        with pytest.raises(IdentityError, match="other weights than"):
            changed.part(0)  # not planned anew
    voxels = changed.run()
    pure = Chain(tmp_path / "pure", half_way.ingest, model, **settings)
    assert np.array_equal(voxels, pure.run())
    half_way.plan()  # the old recipe again
    assert files_of(half_way) == begun
    assert half_way.part(0)["num_kept"] >= 1
    half_way.finish()
    fresh = Chain(
        tmp_path / "fresh",
        half_way.ingest,
        (half_way.model, half_way.model_json),
        parts=1,
    )
    assert np.array_equal(half_way.voxels(), fresh.run())
