"""Rule verify: whether all is as it was written, and comes out once more."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from unetpipe.config import VerifyConfig
from unetpipe.errors import IntegrityError, UnetpipeError
from unetpipe.network.devices import device_like
from unetpipe.network.engine import Engine, open_engine
from unetpipe.network.openvino_network import describe_backend, on_backend
from unetpipe.network.weights import load_network
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.model import Model
from unetpipe.records.prediction import Prediction, PredictionPlan
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.verification import (
    BlockAgain,
    FoundProblem,
    PredictionAgain,
    Verification,
)
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.progress import Progress
from unetpipe.segmentation.original_grid import differing_object_shards
from unetpipe.storage.named_files import KINDS
from unetpipe.storage.predictions import PredictionStore
from unetpipe.storage.recipes import arithmetic_code
from unetpipe.storage.verification import (
    Commands,
    ComparedBlock,
    Finding,
    Tolerance,
    compare_block,
    differing_circumstances,
    sample_blocks_to_verify,
    verify_kept,
    verify_named_files,
    verify_network,
    verify_prediction,
    verify_recomputed,
    verify_segmentation,
    verify_volume,
)

log = logging.getLogger(__name__)

# How far a stored probability (0 to 255) may be from one that another kind of device,
# library or number of threads computes. ASSUME: as the precision's last digits add up.
# In int8 a last digit can put a value on the other side of a step, and so on from layer
# to layer: between AVX2 and SSE4.1 up to 1 voxel in 1000 was off by 17 to 47.
TOLERANCE = {
    "fp32": Tolerance(1),
    "fp16": Tolerance(4),
    "bf16": Tolerance(16),
    "int8": Tolerance(16, share_beyond=0.01),
}


def verify(
    *,
    volumes: list[Path],
    networks: list[dict[str, str]],
    predictions: list[dict[str, str]],
    settings: VerifyConfig,
    outdated: Mapping[str, str] = MappingProxyType({}),
    commands: Commands,
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
        ``model`` and ``model_json`` of each network, and ``export`` if it is packed.
    predictions : list of dict
        ``prediction``, ``segmentation``, ``ingest``, ``model`` and ``model_json`` of
        each prediction, ``ctc`` and ``ngff04`` of its exports. What is not there yet
        is passed over.
    settings : VerifyConfig
        How much is computed again.
    outdated : mapping
        Records that do not answer what is asked today: in words, why.
    commands : Commands
        That mend what is wrong.
    record : Path
        Where to write ``verify.json``, also where something is wrong.

    Raises
    ------
    IntegrityError
        Listing what is wrong and the command that mends it.
    """
    began = time.monotonic()
    findings = [Finding(told, commands.snakemake) for told in outdated.values()]
    for volume in filter(Path.exists, volumes):
        findings += _tried(volume, verify_volume, volume, commands)
        log.info("%s: read", volume)
    broken = set[str]()  # weights, which nothing can be computed with
    for network in networks:
        model, description = Path(network["model"]), Path(network["model_json"])
        if description.exists():
            found = _tried(description, verify_network, model, description, commands)
            findings += [*found, *verify_kept(model)]
            broken.update([str(model)] if found else [])
    paths_of = (path for of in (*networks, *predictions) for path in of.values())
    for made in dict.fromkeys([*volumes, *map(Path, paths_of)]):
        if made.name in KINDS and made.exists():
            findings += _tried(made, verify_named_files, made, commands)
    finished = [p for p in predictions if Path(p["prediction"]).exists()]
    summaries = []
    for paths in finished:
        again = None if paths["model"] in broken else settings
        summary, found = _verify_one(paths, again, commands)
        summaries.append(summary)
        findings += found
    if not finished:
        log.warning(
            "there is no finished prediction to verify yet; run %s", commands.snakemake
        )
    Verification(
        findings=tuple(FoundProblem(**asdict(finding)) for finding in findings),
        predictions=tuple(summaries),
        circumstances=Circumstances.here(seconds=time.monotonic() - began),
    ).write(record)
    if findings:
        listed = "\n  ".join(map(str, findings))
        count = f"{len(findings)} problem{'s' if len(findings) > 1 else ''}"
        raise IntegrityError(f"{count} found, see {record}:\n  {listed}")
    log.info("all is as it was written")


def _tried(record: Path, check: Any, *arguments: Any) -> list[Finding]:
    """Return what a check finds; a file that cannot be read is a finding too."""
    commands: Commands = arguments[-1]
    try:
        found: list[Finding] = check(*arguments)
    except (UnetpipeError, OSError) as error:
        return [Finding(str(error), commands.again(record))]
    return found


def _verify_one(
    paths: dict[str, str], settings: VerifyConfig | None, commands: Commands
) -> tuple[PredictionAgain, list[Finding]]:
    """Verify one prediction and what was made of it; None: compute nothing again."""
    record, segmentation = Path(paths["prediction"]), Path(paths["segmentation"])
    num_shards, blocks = 0, tuple[BlockAgain, ...]()
    try:
        checked, findings = verify_prediction(record, commands)
        num_shards = checked.num_shards
        if not findings and settings is not None:
            compared = _Again(paths).compare(settings)
            blocks = tuple(BlockAgain(**asdict(block)) for block in compared)
            findings += verify_recomputed(record, compared, commands)
    except (UnetpipeError, OSError) as error:
        findings = [Finding(f"{record}: {error}", commands.again(record))]
    if segmentation.exists():
        findings += _tried(segmentation, _verify_objects, segmentation, commands)
    again = PredictionAgain(prediction=record, num_shards=num_shards, blocks=blocks)
    return again, findings


def _verify_objects(record: Path, commands: Commands) -> list[Finding]:
    """Verify mask and objects, and what was written of them on the original grid."""
    findings = verify_segmentation(record, commands)
    segmented = Segmentation.read(record)
    if findings or segmented.original is None:
        return findings
    if not (differing := differing_object_shards(segmented)):
        return []
    store = segmented.original.store
    what = f"{store} is not what its objects give: {', '.join(map(str, differing))}"
    return [Finding(what, f"rm -r {store} && {commands.again(record)}")]


class _Again:
    """Predicts blocks of a finished prediction once more, writing nothing.

    This stands in the stage, because it needs the network and the stores.
    """

    def __init__(self, paths: dict[str, str]) -> None:
        record = Path(paths["prediction"])
        self._prediction = Prediction.read(record)
        plan = PredictionPlan.read_if_there(record.with_name("plan.json"))
        self._autotune = plan is not None and plan.autotune
        self._paths, self._device = paths, torch.device("cpu")
        self._code = arithmetic_code(self._prediction.identity.backend)

    def compare(self, settings: VerifyConfig) -> list[ComparedBlock]:
        """Compute a random sample of blocks and compare each with what is stored."""
        numbers = sample_blocks_to_verify(
            self._prediction.geometry.num_blocks,
            at_least=settings.blocks,
            fraction=settings.fraction,
            seed=settings.seed,
        )
        if not numbers:
            return []
        store = self._open_store()
        made_on = {str(c.device) for n in numbers for c in self._made(store, n)}
        self._device = device_like(made_on)
        engine = self._open_engine()
        compared = []
        with Progress("computing again", len(numbers), "block") as progress:
            for number in numbers:
                made = self._made(store, number)
                torch.set_num_threads(made[0].threads or 1)
                (block,) = engine.predict_blocks(iter([store.read(number)]))
                compared.append(
                    compare_block(
                        block,
                        store,
                        made,
                        device=self._here,
                        differs_in=self._why_bits_may_differ(made),
                        tolerance=TOLERANCE[self._prediction.identity.precision],
                    )
                )
                progress.update()
        return compared

    @property
    def _here(self) -> str:
        identity = self._prediction.identity
        return describe_backend(self._device, identity.backend, identity.precision)

    def _made(self, store: PredictionStore, number: int) -> list[Circumstances]:
        """Return the circumstances of a block's shards."""
        return [
            store.shards.receipt(index).circumstances
            for index, _ in store.shards.shards(number)
        ]

    def _open_store(self) -> PredictionStore:
        volume = IngestedVolume.read(Path(self._paths["ingest"]))
        return PredictionStore(self._prediction, volume, mode="r")

    def _open_engine(self) -> Engine:
        identity = self._prediction.identity
        model = Model.read(Path(self._paths["model_json"]))
        if model.weights_sha256 != identity.weights_sha256:
            raise IntegrityError(
                f"{self._paths['model_json']} describes other weights than those that "
                "predicted it; repeat the run's own command, which predicts anew"
            )
        network = load_network(Path(self._paths["model"]), model)
        quantised = [
            path for name, path in self._paths.items() if name.startswith("quantised")
        ]
        return open_engine(
            identity,
            self._prediction.geometry,
            on_backend(network, identity, list(map(Path, quantised))),
            device=self._device,
            autotune=self._autotune,
        )

    def _why_bits_may_differ(self, made: list[Circumstances]) -> str | None:
        """Return what is not as when the block was made; None: the bits must agree."""
        if told := differing_circumstances(
            made, self._here, is_cuda=self._device.type == "cuda"
        ):
            return told
        if self._prediction.identity.code != self._code:
            return "the package's arithmetic, which has changed since"
        return "prediction.autotune" if self._autotune else None
