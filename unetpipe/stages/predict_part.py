"""Rule predict_part: compute one part's blocks, resume where it stopped."""

import logging
import time
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from unetpipe.errors import IdentityError, Interrupted
from unetpipe.runtime.background import Writer, ahead
from unetpipe.runtime.files import circumstances, read_record, write_record
from unetpipe.runtime.locks import claim
from unetpipe.runtime.machine import keep_freed_memory, peak_rss_bytes
from unetpipe.runtime.progress import Progress
from unetpipe.runtime.signals import TIME_IS_UP, told_to_stop
from unetpipe.storage.prediction_store import PREDICTED, PredictionStore, check_stores

if TYPE_CHECKING:
    from unetpipe.network.engine import Engine

log = logging.getLogger(__name__)


def predict_part(
    *, plan: Path, model: Path, model_json: Path, part: int, record: Path
) -> None:
    """Predict the blocks of one part that have no valid receipt yet.

    Reading, assembling, computing and writing overlap. SIGTERM and SIGUSR1 finish the
    block in flight, then stop; repeating the call goes on from there.

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
        If the disk or the memory is full.
    Interrupted
        If the job was told to stop.
    """
    with claim(
        record.with_name(f".{record.stem}.claim"),
        f"part {part} of {plan}",
        must_be_alone=False,
    ):
        _predict_part(plan, model, model_json, part, record)


def _predict_part(
    plan: Path, model: Path, model_json: Path, part: int, record: Path
) -> None:
    began = time.monotonic()
    keep_freed_memory()
    planned, description = read_record(plan), read_record(model_json)
    identity = planned["identity"]
    if description["weights_sha256"] != identity["weights_sha256"]:
        raise IdentityError(
            f"{model_json} describes other weights than {plan} was made for; "
            "run plan_prediction again"
        )
    check_stores(plan, planned)
    looked_at = PredictionStore(planned, {}, mode="r")
    blocks = looked_at.geometry.blocks_of_part(part, planned["num_parts"])
    todo = looked_at.unfinished(blocks)
    log.info("part %d: %d of %d blocks to compute", part, len(todo), len(blocks))
    computed = (
        _predict(planned, description, model, todo, f"part {part}")
        if todo
        else _nothing_computed(planned)
    )
    seconds = time.monotonic() - began
    write_record(
        record,
        {
            "part": part,
            "num_parts": planned["num_parts"],
            "identity_sha256": planned["identity_sha256"],
            "blocks": [blocks.start, blocks.stop],
            "num_computed": len(todo),
            "num_kept": len(blocks) - len(todo),
            **computed,
            "seconds": seconds,
            "peak_rss_bytes": peak_rss_bytes(),
        },
    )
    log.info(
        "part %d done: %d tiles in %.1f s, of which %.1f s waiting for voxels",
        part,
        computed["num_tiles"],
        seconds,
        computed["seconds_waiting"],
    )


def _nothing_computed(planned: dict[str, Any]) -> dict[str, Any]:
    """Return what a part without blocks tells of its work."""
    return {
        "num_tiles": 0,
        "tiles": {},
        "num_voxels": 0,
        "seconds_computing": 0.0,
        "seconds_waiting": 0.0,
        "circumstances": circumstances(threads=planned["threads"]),
    }


def _predict(
    planned: dict[str, Any],
    description: dict[str, Any],
    model: Path,
    todo: list[int],
    name: str,
) -> dict[str, Any]:
    """Predict blocks, and tell how much work it was."""
    # Here, so that a part without blocks does not wait for torch: of a small volume
    # that is all parts but one.
    import torch

    from unetpipe.network.devices import choose_device, describe_device
    from unetpipe.network.engine import Engine
    from unetpipe.network.predictor import TilePredictor, load_network

    identity = planned["identity"]
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
    started = time.monotonic()
    with told_to_stop(*TIME_IS_UP) as stop:
        _compute(engine, store, todo, stop, description=name)
    return {
        "num_tiles": store.num_tiles[PREDICTED],
        "tiles": dict(store.num_tiles),
        "num_voxels": store.num_voxels,
        "seconds_computing": time.monotonic() - started,
        "seconds_waiting": engine.seconds_waiting,
        "circumstances": made,
    }


def _compute(
    engine: "Engine",
    store: PredictionStore,
    todo: list[int],
    stop: Event,
    *,
    description: str,
) -> None:
    """Compute blocks in order; a stop takes effect after the block in flight."""
    progress = Progress(description, len(todo), "block")
    predicted = engine.predict_blocks(ahead(map(store.read, todo)))
    with progress, Writer(store.write) as writer, closing(predicted):
        for block in predicted:
            writer.put(block)
            progress.update()
            if stop.is_set():
                break
    if stop.is_set() and progress.done < len(todo):
        raise Interrupted(
            f"told to stop after {progress.done} of {len(todo)} blocks; all finished "
            "blocks are kept: repeat the same command to go on"
        )
