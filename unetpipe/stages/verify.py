"""Rule verify: whether all is as it was written, and comes out once more."""

import logging
import random
import time
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unetpipe.config import VerifyConfig
from unetpipe.errors import IntegrityError, UnetpipeError
from unetpipe.network.devices import choose_device, describe_device
from unetpipe.network.engine import Engine
from unetpipe.network.predictor import TilePredictor, load_network
from unetpipe.runtime.files import circumstances, read_record, write_record
from unetpipe.runtime.fingerprints import code_fingerprint
from unetpipe.runtime.progress import Progress
from unetpipe.storage.prediction_store import PredictionStore
from unetpipe.storage.receipted import shards_of_block
from unetpipe.storage.receipts import receipt_path
from unetpipe.storage.verification import (
    Commands,
    Finding,
    differing_shards,
    receipts_of,
    verify_kept,
    verify_network,
    verify_prediction,
    verify_segmentation,
    verify_volume,
)
from unetpipe.storage.volumes import read_roi
from unetpipe.tiling.blocks import BlockPrediction
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.grids import PredictionGeometry

log = logging.getLogger(__name__)

# How far a stored probability (0 to 255) may be from one that another kind of device,
# library or number of threads computes. ASSUME: as the precision's last digits add up.
TOLERANCE = {"fp32": 1, "fp16": 4, "bf16": 16}


def verify(
    *,
    volumes: list[Path],
    networks: list[dict[str, str]],
    predictions: list[dict[str, str]],
    settings: VerifyConfig,
    num_parts: int,
    command: str,
    record: Path,
) -> None:
    """Compare all that is finished with its records, and compute some of it again.

    Every shard is read. A sample of blocks is predicted again from the weights and the
    image: where device, threads, libraries and code are those of the receipts, every
    bit must be the same. Nothing is changed.

    Parameters
    ----------
    volumes : list of Path
        ``ingest.json`` of each volume.
    networks : list of dict
        ``model`` and ``model_json`` of each network.
    predictions : list of dict
        ``prediction``, ``segmentation``, ``ingest``, ``model`` and ``model_json`` of
        each prediction. What is not there yet is passed over.
    settings : VerifyConfig
        How much is computed again.
    num_parts : int
        Parts of a prediction, for the commands that mend it.
    command : str
        With which the user runs Snakemake.
    record : Path
        Where to write ``verify.json``, also where something is wrong.

    Raises
    ------
    IntegrityError
        Listing what is wrong and the command that mends it.
    """
    began = time.monotonic()
    commands = Commands(command, num_parts)
    findings: list[Finding] = []
    for volume in filter(Path.exists, volumes):
        findings += _tried(volume, verify_volume, volume, commands)
        log.info("%s: read", volume)
    for network in networks:
        model, description = Path(network["model"]), Path(network["model_json"])
        if description.exists():
            findings += _tried(
                description, verify_network, model, description, commands
            )
            findings += verify_kept(model)
    finished = [p for p in predictions if Path(p["prediction"]).exists()]
    summaries = []
    for paths in finished:
        summary, found = _verify_one(paths, settings, commands)
        summaries.append(summary)
        findings += found
    if not finished:
        log.warning("there is no finished prediction to verify yet; run %s", command)
    write_record(
        record,
        {
            "findings": [asdict(finding) for finding in findings],
            "predictions": summaries,
            "circumstances": circumstances(seconds=time.monotonic() - began),
        },
    )
    if findings:
        listed = "\n  ".join(map(str, findings))
        count = f"{len(findings)} problem{'s' if len(findings) > 1 else ''}"
        raise IntegrityError(f"{count} found, see {record}:\n  {listed}")
    log.info("all is as it was written")


def _tried(record: Path, check: Any, *arguments: Any) -> list[Finding]:
    """Return what a check finds; a record that cannot be read is a finding too."""
    commands: Commands = arguments[-1]
    try:
        found: list[Finding] = check(*arguments)
    except UnetpipeError as error:
        return [Finding(str(error), commands.again(record))]
    except KeyError as error:
        return [_of_another_version(record, error, commands)]
    return found


def _of_another_version(record: Path, error: KeyError, commands: Commands) -> Finding:
    what = f"{record} lacks {error}: another version of the package wrote it"
    return Finding(what, commands.again(record))


def _verify_one(
    paths: dict[str, str], settings: VerifyConfig, commands: Commands
) -> tuple[dict[str, Any], list[Finding]]:
    """Verify one prediction and what was made of it."""
    record, segmentation = Path(paths["prediction"]), Path(paths["segmentation"])
    summary: dict[str, Any] = {"prediction": str(record), "num_shards": 0, "blocks": []}
    try:
        checked, findings = verify_prediction(record, commands)
        summary["num_shards"] = checked.num_shards
        if not findings:
            compared = _Again(paths, commands).compare(settings)
            summary["blocks"] = [asdict(block) for block in compared]
            findings += _judge(record, compared, commands)
    except UnetpipeError as error:
        findings = [Finding(f"{record}: {error}", commands.again(record))]
    except KeyError as error:
        findings = [_of_another_version(record, error, commands)]
    if segmentation.exists():
        findings += _tried(segmentation, verify_segmentation, segmentation, commands)
    return summary, findings


@dataclass(frozen=True, slots=True)
class _Compared:
    """A block that was computed again.

    ``differs_in`` says why bits may differ, None if they must not; ``largest`` is the
    largest difference of a probability, of 255. Where the probability was dropped only
    hashes of shards are left: ``num_different`` is a number of shards then, and
    ``largest`` is None.
    """

    number: int
    device: str
    differs_in: str | None
    num_different: int
    largest: int | None
    tolerance: int

    @property
    def is_wrong(self) -> bool:
        """Whether other voxels came out than may come out."""
        if self.largest is None:  # of a hash nobody can tell how far it is off
            return self.num_different > 0 and self.differs_in is None
        found = self.largest if self.differs_in else self.num_different
        return found > self.tolerance

    def __str__(self) -> str:
        if self.largest is None:
            return f"block {self.number} ({self.num_different} shards, by their hashes)"
        return (
            f"block {self.number} ({self.num_different} voxels, by up to "
            f"{self.largest} of 255)"
        )


class _Again:
    """Predicts blocks of a finished prediction once more, writing nothing."""

    def __init__(self, paths: dict[str, str], commands: Commands) -> None:
        record = Path(paths["prediction"])
        self._prediction = read_record(record)
        self._identity = self._prediction["identity"]
        plan = record.with_name("plan.json")
        self._autotune = plan.exists() and read_record(plan)["autotune"]
        self._geometry = PredictionGeometry.from_json(self._prediction["geometry"])
        self._receipts = receipts_of(self._prediction)
        self._paths, self._device = paths, choose_device("auto")
        self._code = code_fingerprint(
            "unetpipe.network.predictor", "unetpipe.tiling.tile_selection"
        )

    def compare(self, settings: VerifyConfig) -> list[_Compared]:
        """Compute a random sample of blocks and compare each with what is stored."""
        total = self._geometry.num_blocks
        count = min(total, max(settings.blocks, ceil(settings.fraction * total)))
        numbers = sorted(random.Random(settings.seed).sample(range(total), count))
        if not numbers:
            return []
        engine, store = self._open()
        compared = []
        with Progress("computing again", count, "block") as progress:
            for number in numbers:
                made = self._made(number)
                torch.set_num_threads(made[0]["threads"])
                (block,) = engine.predict_blocks(iter([store.read(number)]))
                compared.append(self._compare_block(block, store, made))
                progress.update()
        return compared

    def _open(self) -> tuple[Engine, PredictionStore]:
        planned = self._prediction | {
            "ingest": self._paths["ingest"],
            "receipts": str(self._receipts),
        }
        store = PredictionStore(planned, {}, mode="r")
        description = read_record(Path(self._paths["model_json"]))
        if description["weights_sha256"] != self._identity["weights_sha256"]:
            raise IntegrityError(
                f"{self._paths['model_json']} describes other weights than those that "
                "predicted it; repeat the run's own command, which predicts anew"
            )
        predictor = TilePredictor(
            load_network(Path(self._paths["model"]), description),
            precision=self._identity["precision"],
            device=self._device,
            orientations=self._identity["orientations"],
            is_compiled=self._identity["is_compiled"],
            autotune=self._autotune,
        )
        engine = Engine(
            predictor,
            self._geometry,
            mean=store.mean,
            std=store.std,
            batch_tiles=self._identity["batch_tiles"],
        )
        return engine, store

    def _made(self, number: int) -> list[dict[str, Any]]:
        """Return the circumstances of a block's shards."""
        indices: list[Zyx] = list(shards_of_block(number, self._geometry))
        receipts = (read_record(receipt_path(self._receipts, i)) for i in indices)
        return [receipt["circumstances"] for receipt in receipts]

    def _compare_block(
        self,
        block: BlockPrediction,
        store: PredictionStore,
        made: list[dict[str, Any]],
    ) -> _Compared:
        reason = self._differs_in(made)
        if store.is_dropped:
            return _Compared(
                number=block.number,
                device=describe_device(self._device),
                differs_in=reason or _packed_otherwise(made),
                num_different=differing_shards(block, store),
                largest=None,
                tolerance=0,
            )
        stored = read_roi(store.arrays["probability"], block.roi)
        difference = np.abs(stored.astype(np.int16) - block.probability)
        num_different = int(np.count_nonzero(difference))
        if block.classes is not None and reason is None:
            classes = read_roi(store.arrays["classes"], block.roi)
            num_different += int(np.count_nonzero(classes != block.classes))
        return _Compared(
            number=block.number,
            device=describe_device(self._device),
            differs_in=reason,
            num_different=num_different,
            largest=int(difference.max()),
            tolerance=TOLERANCE[self._identity["precision"]] if reason else 0,
        )

    def _differs_in(self, made: list[dict[str, Any]]) -> str | None:
        """Return what is not as when the block was made; None: the bits must agree."""
        here = describe_device(self._device)
        devices = {shard["device"] for shard in made}
        versions = {shard["libraries"]["torch"] for shard in made}
        if devices != {here}:
            return f"device: {', '.join(sorted(devices))}, here {here}"
        version = circumstances()["libraries"]["torch"]
        if versions != {version}:
            return f"torch: {', '.join(sorted(versions))}, here {version}"
        if len({shard["threads"] for shard in made}) > 1:
            return "threads, within the block"
        if self._identity["code"] != self._code:
            return "the package's arithmetic, which has changed since"
        return "prediction.autotune" if self._autotune else None


def _packed_otherwise(made: list[dict[str, Any]]) -> str | None:
    """Return why equal voxels may be packed into other bytes than when shards were."""
    here = circumstances()["libraries"]["numcodecs"]
    versions = {shard["libraries"].get("numcodecs") for shard in made}
    if versions == {here}:
        return None
    return f"numcodecs: {', '.join(sorted(map(str, versions)))}, here {here}"


def _judge(
    record: Path, compared: list[_Compared], commands: Commands
) -> list[Finding]:
    """Log what was compared; return the blocks that differ too much."""
    for reason in dict.fromkeys(c.differs_in for c in compared):
        some = [c for c in compared if c.differs_in == reason]
        if reason is None:
            log.info("%s: %d blocks computed again, bit by bit", record, len(some))
        elif some[0].largest is None:
            log.warning(
                "%s: %d of %d blocks computed again have the bits that were dropped; "
                "the others cannot be compared, because what may change the last bits "
                "differs (%s)",
                *(record, sum(not c.num_different for c in some), len(some), reason),
            )
        else:
            log.warning(
                "%s: %d blocks computed again; what may change the last bits differs "
                "(%s), so they are compared within %d of 255; the largest difference "
                "is %d",
                *(record, len(some), reason, some[0].tolerance),
                max(c.largest or 0 for c in some),
            )
    wrong = [c for c in compared if c.is_wrong]
    if not wrong:
        return []
    listed = ", ".join(map(str, wrong))
    what = f"{record}: computed again from its recipe, other voxels come out: {listed}"
    geometry = PredictionGeometry.from_json(read_record(record)["geometry"])
    remedy = commands.blocks_again(record, [c.number for c in wrong], geometry)
    return [Finding(what, remedy)]
