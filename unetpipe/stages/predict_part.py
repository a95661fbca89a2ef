"""Rule predict_part: compute one part's blocks, resume where it stopped."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from unetpipe.errors import IdentityError, ResourceError
from unetpipe.geometry import Roi, Zyx
from unetpipe.inference import TilePredictor, choose_device, load_network
from unetpipe.intensity import mirror_source
from unetpipe.machine import peak_rss_bytes
from unetpipe.pipeline import Writer, prefetch
from unetpipe.receipts import Arrays, check_receipt, write_receipt
from unetpipe.records import circumstances, read_record, write_record
from unetpipe.tiling import PredictionGeometry
from unetpipe.volumes import open_volume, read_roi, write_shard

log = logging.getLogger(__name__)


def predict_part(
    *, plan: Path, model: Path, model_json: Path, part: int, record: Path
) -> None:
    """Predict the blocks of one part that have no valid receipt yet.

    Reading the next block and writing the last one overlap with computing. SIGTERM
    finishes the block in flight, then stops; repeating the call goes on from there.

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
    planned, description = read_record(plan), read_record(model_json)
    if description["weights_sha256"] != planned["identity"]["weights_sha256"]:
        raise IdentityError(
            f"{model_json} describes other weights than {plan} was made for; "
            "run plan_prediction again"
        )
    torch.set_num_threads(planned["threads"])
    device = choose_device(planned["device"])
    predictor = TilePredictor(
        load_network(model, description),
        precision=planned["precision"],
        device=device,
    )
    work = _Work(
        planned,
        predictor,
        circumstances(device=device.type, threads=planned["threads"]),
    )
    blocks = work.geometry.blocks_of_part(part, planned["num_parts"])
    todo = work.unfinished(blocks)
    log.info("part %d: %d of %d blocks to compute", part, len(todo), len(blocks))
    with _told_to_stop() as stop:
        work.compute(todo, stop, description=f"part {part}")
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
            "num_tiles": predictor.num_tiles,
            "num_voxels": work.num_voxels,
            "seconds": seconds,
            "seconds_computing": work.seconds_computing,
            "peak_rss_bytes": peak_rss_bytes(),
            "circumstances": work.circumstances,
        },
    )
    log.info("part %d done: %d tiles in %.1f s", part, predictor.num_tiles, seconds)


class _Work:
    """The plan, the open stores, and the three steps of a block."""

    def __init__(
        self,
        plan: dict[str, Any],
        predictor: TilePredictor,
        circumstances: dict[str, Any],
    ) -> None:
        volume = read_record(Path(plan["ingest"]))
        self.geometry = PredictionGeometry.from_json(plan["geometry"])
        self.identity: str = plan["identity_sha256"]
        self.receipts = Path(plan["receipts"])
        self.arrays: Arrays = {
            name: open_volume(Path(output["store"]), mode="r+")
            for name, output in plan["outputs"].items()
        }
        self.image = open_volume(Path(volume["image"]["store"]))
        self.mean, self.std = (
            np.array([channel[key] for channel in volume["statistics"]], np.float32)
            for key in ("mean", "std")
        )
        self.predictor = predictor
        self.circumstances = circumstances
        self.num_voxels = 0
        self.seconds_computing = 0.0

    def unfinished(self, blocks: range) -> list[int]:
        """Return the blocks of which a shard has no valid receipt."""
        return [
            number
            for number in blocks
            if any(self._is_missing(index) for index, _ in self._shards(number))
        ]

    def compute(self, todo: list[int], stop: Event, *, description: str) -> None:
        """Compute blocks in order; a stop takes effect after the block in flight."""
        bar = tqdm(total=len(todo), unit="block", desc=description, mininterval=5)
        with bar, Writer(self._write) as writer:
            for number, (source, origin) in prefetch(todo, self._read):
                if stop.is_set():
                    break
                began = time.monotonic()
                results = self._predict(number, source, origin)
                self.seconds_computing += time.monotonic() - began
                writer.put(number, results)
                bar.update()
        if stop.is_set() and bar.n < len(todo):
            raise ResourceError(
                f"told to stop after {bar.n} of {len(todo)} blocks; all finished "
                "blocks are kept: repeat the same command to go on"
            )

    def _shards(self, number: int) -> Iterator[tuple[Zyx, Roi]]:
        return self.geometry.shards(self.geometry.block_roi(number))

    def _is_missing(self, index: Zyx) -> bool:
        problem = check_receipt(
            self.receipts, index, arrays=self.arrays, identity=self.identity
        )
        if problem and problem != "has no receipt":
            log.warning("shard %s %s; it is computed again", index, problem)
        return problem is not None

    def _read(self, number: int) -> tuple[NDArray[Any], Zyx]:
        """Read what a block's tiles see, each input chunk once."""
        tiles = list(self.geometry.tiles(self.geometry.block_roi(number)))
        whole = Roi(tiles[0].start, tiles[-1].stop)
        seen = whole.grow(self.predictor.spec.halo)
        source = mirror_source(seen, self.geometry.volume_shape)
        return read_roi(self.image, source), source.start

    def _predict(
        self, number: int, source: NDArray[Any], origin: Zyx
    ) -> dict[str, NDArray[np.uint8]]:
        block = self.geometry.block_roi(number)
        try:
            probability, classes = self.predictor.predict_block(
                source, origin, block, self.geometry, mean=self.mean, std=self.std
            )
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise ResourceError(
                f"block {number} ran out of memory with tiles of "
                f"{self.geometry.input_shape} voxels; lower prediction.memory_gb, "
                "which plans smaller tiles into another store"
            ) from error
        self.num_voxels += block.num_voxels
        results = {"probability": probability}
        if classes is not None:
            results["classes"] = classes
        return results

    def _write(self, number: int, results: dict[str, NDArray[np.uint8]]) -> None:
        """Write a block's shards, and after each shard its receipt."""
        block = self.geometry.block_roi(number)
        for index, shard in self._shards(number):
            inside = shard.relative_to(block.start).slices
            files = {
                name: write_shard(self.arrays[name], index, voxels[(..., *inside)])
                for name, voxels in results.items()
            }
            write_receipt(
                self.receipts,
                index,
                files=files,
                identity=self.identity,
                circumstances=self.circumstances,
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
