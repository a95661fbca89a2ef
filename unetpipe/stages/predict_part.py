"""Rule predict_part: compute one part's blocks, resume where it stopped."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event

import torch
from tqdm import tqdm

from unetpipe.engine import Engine
from unetpipe.errors import IdentityError, ResourceError
from unetpipe.inference import (
    TilePredictor,
    choose_device,
    describe_device,
    load_network,
)
from unetpipe.machine import keep_freed_memory, peak_rss_bytes
from unetpipe.pipeline import Writer, ahead
from unetpipe.prediction_store import PREDICTED, PredictionStore
from unetpipe.records import circumstances, read_record, write_record

log = logging.getLogger(__name__)


def predict_part(
    *, plan: Path, model: Path, model_json: Path, part: int, record: Path
) -> None:
    """Predict the blocks of one part that have no valid receipt yet.

    Reading, assembling, computing and writing overlap. SIGTERM finishes the block in
    flight, then stops; repeating the call goes on from there.

    Parameters
    ----------
    plan : Path
        ``plan.json``: grids, store, identity, threads.
    model, model_json : Path
        Weights and description of the network.
    part : int
        Which of the plan's parts, from 0.
    record : Path
        Where to write the part's record, last.

    Raises
    ------
    IdentityError
        If the network is not the one that was planned with.
    ResourceError
        If the disk or the memory is full, or the job was told to stop.
    """
    began = time.monotonic()
    keep_freed_memory()
    planned, description = read_record(plan), read_record(model_json)
    identity = planned["identity"]
    if description["weights_sha256"] != identity["weights_sha256"]:
        raise IdentityError(
            f"{model_json} describes other weights than {plan} was made for; "
            "run plan_prediction again"
        )
    torch.set_num_threads(planned["threads"])
    device = choose_device(planned["device"])
    predictor = TilePredictor(
        load_network(model, description),
        precision=identity["precision"],
        device=device,
        orientations=identity["orientations"],
        is_compiled=identity["is_compiled"],
        autotune=planned["autotune"],
    )
    made = circumstances(device=describe_device(device), threads=planned["threads"])
    store = PredictionStore(planned, made)
    engine = Engine(
        predictor,
        store.geometry,
        mean=store.mean,
        std=store.std,
        batch_tiles=identity["batch_tiles"],
    )
    blocks = store.geometry.blocks_of_part(part, planned["num_parts"])
    todo = store.unfinished(blocks)
    log.info("part %d: %d of %d blocks to compute", part, len(todo), len(blocks))
    started = time.monotonic()
    with _told_to_stop() as stop:
        _compute(engine, store, todo, stop, description=f"part {part}")
    ended = time.monotonic()
    write_record(
        record,
        {
            "part": part,
            "num_parts": planned["num_parts"],
            "identity_sha256": planned["identity_sha256"],
            "blocks": [blocks.start, blocks.stop],
            "num_computed": len(todo),
            "num_kept": len(blocks) - len(todo),
            "num_tiles": store.num_tiles[PREDICTED],
            "tiles": dict(store.num_tiles),
            "num_voxels": store.num_voxels,
            "seconds": ended - began,
            "seconds_computing": ended - started,
            "seconds_waiting": engine.seconds_waiting,
            "peak_rss_bytes": peak_rss_bytes(),
            "circumstances": made,
        },
    )
    log.info(
        "part %d done: %d tiles in %.1f s, of which %.1f s waiting for voxels",
        part,
        engine.num_tiles,
        ended - began,
        engine.seconds_waiting,
    )


def _compute(
    engine: Engine,
    store: PredictionStore,
    todo: list[int],
    stop: Event,
    *,
    description: str,
) -> None:
    """Compute blocks in order; a stop takes effect after the block in flight."""
    bar = tqdm(total=len(todo), unit="block", desc=description, mininterval=5)
    predicted = engine.predict_blocks(ahead(map(store.read, todo)))
    with bar, Writer(store.write) as writer, closing(predicted):
        for block in predicted:
            writer.put(block)
            bar.update()
            if stop.is_set():
                break
    if stop.is_set() and bar.n < len(todo):
        raise ResourceError(
            f"told to stop after {bar.n} of {len(todo)} blocks; all finished "
            "blocks are kept: repeat the same command to go on"
        )


@contextmanager
def _told_to_stop() -> Iterator[Event]:
    """Yield an event that SIGTERM sets (a cluster's way to say that time is up)."""
    stop = Event()
    try:
        previous = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    except ValueError:  # not the main thread: nobody sends us signals
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, previous)
