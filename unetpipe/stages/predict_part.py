"""Rule predict_part: compute one part's blocks, resume where it stopped."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from unetpipe.errors import IdentityError
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import Model
from unetpipe.records.prediction import PredictedPart, PredictionPlan
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.locks import claim
from unetpipe.runtime.machine import keep_freed_memory, peak_rss_bytes
from unetpipe.runtime.signals import TIME_IS_UP, told_to_stop
from unetpipe.storage.predictions import PREDICTED, PredictionStore, check_stores

log = logging.getLogger(__name__)


def predict_part(
    *,
    plan: Path,
    model: Path,
    model_json: Path,
    part: int,
    record: Path,
    quantised: Sequence[Path] = (),
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
    quantised : sequence of Path
        With int8: the networks that ``calibrate_network`` made.

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
        network = _Network(model, model_json, tuple(quantised))
        _predict_part(plan, network, part, record)


@dataclass(frozen=True, slots=True)
class _Network:
    """The files of a network."""

    weights: Path
    description: Path
    quantised: tuple[Path, ...]


def _predict_part(path: Path, network: _Network, part: int, record: Path) -> None:
    began = time.monotonic()
    keep_freed_memory()
    plan, model = PredictionPlan.read(path), Model.read(network.description)
    if model.weights_sha256 != plan.identity.weights_sha256:
        raise IdentityError(
            f"{network.description} describes other weights than {path} was made for; "
            "run plan_prediction again"
        )
    check_stores(path, plan)
    store = PredictionStore(plan, IngestedVolume.read(plan.ingest))
    blocks = plan.geometry.blocks_of_part(part, plan.num_parts)
    todo = store.unfinished(blocks)
    log.info("part %d: %d of %d blocks to compute", part, len(todo), len(blocks))
    work = _Work(Circumstances.here(threads=plan.threads))
    if todo:
        work = _compute(plan, network, store, todo, f"part {part}")
    seconds = time.monotonic() - began
    PredictedPart(
        part=part,
        num_parts=plan.num_parts,
        identity_sha256=plan.identity_sha256,
        blocks=(blocks.start, blocks.stop),
        num_computed=len(todo),
        num_kept=len(blocks) - len(todo),
        num_tiles=store.num_tiles[PREDICTED],
        tiles=dict(store.num_tiles),
        num_voxels=store.num_voxels,
        seconds_computing=work.seconds,
        seconds_waiting=work.seconds_waiting,
        circumstances=work.circumstances,
        seconds=seconds,
        peak_rss_bytes=peak_rss_bytes(),
    ).write(record)
    log.info(
        "part %d done: %d tiles in %.1f s, of which %.1f s waiting for voxels",
        part,
        store.num_tiles[PREDICTED],
        seconds,
        work.seconds_waiting,
    )


@dataclass(frozen=True, slots=True)
class _Work:
    """Where blocks were computed, and what it took."""

    circumstances: Circumstances
    seconds: float = 0.0
    seconds_waiting: float = 0.0


def _compute(
    plan: PredictionPlan,
    files: _Network,
    store: PredictionStore,
    todo: list[int],
    name: str,
) -> _Work:
    """Predict blocks, and tell how much work it was."""
    # Here, so that a part without blocks does not wait for torch: of a small volume
    # that is all parts but one.
    import torch

    from unetpipe.network.devices import choose_device
    from unetpipe.network.engine import compute_blocks, open_engine
    from unetpipe.network.openvino_network import describe_backend, on_backend
    from unetpipe.network.weights import kept_network

    torch.set_num_threads(plan.threads)
    device = choose_device(plan.device)
    network = kept_network(files.weights, Model.read(files.description))
    engine = open_engine(
        plan.identity,
        plan.geometry,
        on_backend(network, plan.identity, files.quantised),
        device=device,
        autotune=plan.autotune,
    )
    identity = plan.identity
    described = describe_backend(device, identity.backend, identity.precision)
    made = Circumstances.here(device=described, threads=plan.threads)
    started = time.monotonic()
    with told_to_stop(*TIME_IS_UP) as stop:
        write = partial(store.write, circumstances=made)
        compute_blocks(engine, store, todo, write, stop=stop, name=name)
    return _Work(made, time.monotonic() - started, engine.seconds_waiting)
