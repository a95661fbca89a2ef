"""Compare what is stored with what its records say, and say what mends a difference.

Nothing here changes a file.
"""

import hashlib
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from unetpipe.errors import UnetpipeError
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.exports import NgffCopy
from unetpipe.records.model import Model
from unetpipe.records.prediction import Prediction
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.volume import IngestedVolume
from unetpipe.runtime.files import hash_file, hash_of
from unetpipe.runtime.progress import Progress
from unetpipe.storage.dropping import are_shards_dropped
from unetpipe.storage.growing_arrays import (
    CheckedShards,
    ReceiptedStore,
    parts_of_shards,
)
from unetpipe.storage.keeping import kept_networks
from unetpipe.storage.named_files import changed_files
from unetpipe.storage.predictions import PredictionStore, arrays_to_store
from unetpipe.storage.receipts import receipt_path
from unetpipe.storage.volumes import (
    encode_shard,
    hash_sections,
    iterate_sections,
    open_volume,
    read_store_attributes,
    read_stored_roi,
)
from unetpipe.tiling.assembly import BlockPrediction
from unetpipe.tiling.boxes import Roi, Zyx
from unetpipe.tiling.grids import TileGrids

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as its record says.

    Attributes
    ----------
    what : str
        What is wrong, and where.
    remedy : str
        The command that mends it.
    """

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}\n    mend it:  {self.remedy}"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far stored probabilities may be off, of 255, and what share of them farther.

    Examples
    --------
    >>> Tolerance(16, 0.01).most_beyond(1000)
    10
    """

    levels: int
    share_beyond: float = 0.0

    def most_beyond(self, num_voxels: int) -> int:
        """Return how many of so many voxels may be off by more than ``levels``."""
        return int(self.share_beyond * num_voxels)

    def num_beyond(self, differences: np.ndarray) -> int:
        """Return how many absolute differences, of 255, are larger than ``levels``."""
        return int(np.count_nonzero(differences > self.levels))

    def allows(self, differences: np.ndarray) -> bool:
        """Whether few enough of these absolute differences, of 255, are beyond."""
        return self.num_beyond(differences) <= self.most_beyond(differences.size)


@dataclass(frozen=True, slots=True)
class ComparedBlock:
    """A block that was computed again.

    ``differs_in`` says why bits may differ, None if they must not; ``largest`` is the
    largest difference of a probability, of 255, and ``num_beyond`` of them differ by
    more than ``tolerance``, where ``most_beyond`` may. Where the probability was
    dropped only hashes of shards are left: ``num_different`` is a number of shards
    then, and ``largest`` is None.
    """

    number: int
    device: str
    differs_in: str | None
    num_different: int
    largest: int | None
    tolerance: int
    num_beyond: int = 0
    most_beyond: int = 0

    @property
    def is_wrong(self) -> bool:
        """Whether other voxels came out than may come out."""
        if self.largest is None:  # of a hash nobody can tell how far it is off
            return self.num_different > 0 and self.differs_in is None
        if self.differs_in is None:
            return self.num_different > 0
        return self.num_beyond > self.most_beyond

    def __str__(self) -> str:
        if self.largest is None:
            return f"block {self.number} ({self.num_different} shards, by their hashes)"
        return (
            f"block {self.number} ({self.num_different} voxels, by up to "
            f"{self.largest} of 255)"
        )


@dataclass(frozen=True, slots=True)
class Commands:
    """What a user types to have results made again.

    Attributes
    ----------
    snakemake : str
        The command of the run, with its configuration file.
    num_parts : int
        Parts of a prediction.
    shared : frozenset of Path
        Folders of volumes, and of their predictions, that are in lots: no rule of the
        run names their files, but a lot makes again what is gone.
    """

    snakemake: str
    num_parts: int
    shared: frozenset[Path] = frozenset()

    def again(self, *outputs: Path) -> str:
        """Return the command that makes files again, and what depends on them."""
        paths = " ".join(map(str, outputs))
        if self.shared.isdisjoint(
            folder for path in outputs for folder in path.parents
        ):
            return f"{self.snakemake} --forcerun {paths}"
        return f"rm -f {paths} && {self.snakemake}"

    def parts_again(self, record: Path, shards: set[Zyx], grids: TileGrids) -> str:
        """Return the command that computes again what is not whole of some shards."""
        parts = parts_of_shards(shards, grids, self.num_parts)
        paths = [record.parent / "parts" / f"{part}.json" for part in parts]
        return self.again(*paths, *[record] * (record.parent in self.shared))

    def blocks_again(self, record: Path, blocks: list[int]) -> str:
        """Return the command that computes blocks again although they look whole."""
        prediction = Prediction.read(record)
        grids = prediction.geometry
        rois = map(grids.block_roi, blocks)
        shards = {index for roi in rois for index, _ in grids.shards(roi)}
        receipts = prediction.outputs.receipts
        paths = " ".join(str(receipt_path(receipts, i)) for i in sorted(shards))
        return f"rm {paths} && {self.parts_again(record, shards, grids)}"


def verify_prediction(
    record: Path, commands: Commands
) -> tuple[CheckedShards, list[Finding]]:
    """Read every shard of a finished prediction and compare it with its receipt.

    Parameters
    ----------
    record : Path
        ``prediction.json``.
    commands : Commands
        For the remedies.
    """
    prediction = Prediction.read(record)
    grids, outputs = prediction.geometry, prediction.outputs
    home, identity = outputs.home, prediction.identity_sha256
    finish = commands.again(record)
    if prediction.identity.sha256 != identity:
        what = f"{record} holds another recipe than the one it was written for"
        return CheckedShards(), [Finding(what, finish)]
    arrays, findings = {}, []
    for name, store in outputs.stores.items():
        arrays[name] = open_volume(store)
        if hash_of(read_store_attributes(store).get("identity")) != identity:
            findings.append(Finding(f"{store} names another recipe", finish))
    if are_shards_dropped(outputs.probability.store):
        arrays = {}  # of what was dropped the receipts are left
    checked = ReceiptedStore(grids, outputs.receipts, arrays, identity).check()
    if checked.problems:
        what = (
            f"{len(checked.problems)} of {grids.num_shards} shards of {home} are "
            f"not whole:\n  {checked.describe_problems()}"
        )
        remedy = commands.parts_again(record, set(checked.problems), grids)
        findings.append(Finding(what, remedy))
    elif checked.content_sha256 != prediction.content_sha256:
        what = f"{home} and its receipts are not those that {record} was written for"
        findings.append(Finding(what, finish))
    return checked, findings


def differing_shards(block: BlockPrediction, store: PredictionStore) -> int:
    """Return how many shards of a block would get other bytes than receipts tell.

    Parameters
    ----------
    block : BlockPrediction
        Computed again.
    store : PredictionStore
        Without shards, with receipts.
    """
    results, count = arrays_to_store(block), 0
    for index, shard in store.shards.shards(block.number):
        wanted = store.shards.receipt(index).files
        inside = shard.relative_to(block.roi.start).slices
        made = {}
        for name in wanted:
            encoded = encode_shard(
                store.shards.arrays[name], index, results[name][..., *inside]
            )
            made[name] = hashlib.sha256(b"".join(encoded)).hexdigest()
        count += made != wanted
    return count


def sample_blocks_to_verify(
    num_blocks: int, *, at_least: int, fraction: float, seed: int
) -> list[int]:
    """Return the blocks to verify by computing them again, drawn at random."""
    count = min(num_blocks, max(at_least, ceil(fraction * num_blocks)))
    return sorted(random.Random(seed).sample(range(num_blocks), count))


def differing_circumstances(
    made: Sequence[Circumstances], device: str, *, is_cuda: bool
) -> str | None:
    """Return what of a block's shards and of this process may change the last bits.

    Parameters
    ----------
    made : sequence of Circumstances
        Of each shard of the block.
    device : str
        That computes here, described.
    is_cuda : bool
        Whether it is a GPU, whose libraries choose the algorithms.

    Returns
    -------
    str or None
        In words; None where all that is recorded agrees.
    """
    now = Circumstances.here()
    devices = {str(shard.device) for shard in made}
    if devices != {device}:
        return f"device: {', '.join(sorted(devices))}, here {device}"
    libraries = ["torch", *(["cuda", "cudnn"] if is_cuda else [])]
    libraries += ["openvino"] * ("openvino" in device)
    for name in libraries:
        version = str(now.libraries.get(name))
        versions = {str(shard.libraries.get(name)) for shard in made}
        if versions != {version}:
            return f"{name}: {', '.join(sorted(versions))}, here {version}"
    return "threads, within the block" if len({s.threads for s in made}) > 1 else None


def compare_block(
    block: BlockPrediction,
    store: PredictionStore,
    made: list[Circumstances],
    *,
    device: str,
    differs_in: str | None,
    tolerance: Tolerance,
) -> ComparedBlock:
    """Compare a block that was computed again with what is stored of it.

    Parameters
    ----------
    block : BlockPrediction
    store : PredictionStore
        With shards, or with their receipts alone.
    made : list of Circumstances
        Of the shards.
    device : str
        That computed it again.
    differs_in : str or None
        What is not as when the block was made; None: all bits must agree.
    tolerance : Tolerance
        How far probabilities may be off where they need not agree.
    """
    if store.is_dropped:
        return ComparedBlock(
            number=block.number,
            device=device,
            differs_in=differs_in or _packed_otherwise(made),
            num_different=differing_shards(block, store),
            largest=None,
            tolerance=0,
        )
    stored = read_stored_roi(store.shards.arrays["probability"], block.roi)
    difference = np.abs(stored.astype(np.int16) - block.probability)
    num_different = int(np.count_nonzero(difference))
    if block.classes is not None and differs_in is None:
        classes = read_stored_roi(store.shards.arrays["classes"], block.roi)
        num_different += int(np.count_nonzero(classes != block.classes))
    allowed = tolerance if differs_in else Tolerance(0)
    return ComparedBlock(
        number=block.number,
        device=device,
        differs_in=differs_in,
        num_different=num_different,
        largest=int(difference.max()),
        tolerance=allowed.levels,
        num_beyond=allowed.num_beyond(difference),
        most_beyond=allowed.most_beyond(difference.size),
    )


def _packed_otherwise(made: list[Circumstances]) -> str | None:
    """Return why equal voxels may be packed into other bytes than when shards were."""
    here = Circumstances.here().libraries["numcodecs"]
    versions = {shard.libraries.get("numcodecs") for shard in made}
    if versions == {here}:
        return None
    return f"numcodecs: {', '.join(sorted(map(str, versions)))}, here {here}"


def verify_recomputed(
    record: Path, compared: list[ComparedBlock], commands: Commands
) -> list[Finding]:
    """Verify stored blocks by what was computed again; return those that differ.

    Parameters
    ----------
    record : Path
        ``prediction.json``.
    compared : list of ComparedBlock
    commands : Commands
        For the remedies.
    """
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
                "(%s), so they are compared within %d of 255%s; the largest difference "
                "is %d",
                *(record, len(some), reason, some[0].tolerance),
                _but_for(some),
                max(c.largest or 0 for c in some),
            )
    wrong = [c for c in compared if c.is_wrong]
    if not wrong:
        return []
    listed = ", ".join(map(str, wrong))
    what = f"{record}: computed again from its recipe, other voxels come out: {listed}"
    remedy = commands.blocks_again(record, [c.number for c in wrong])
    return [Finding(what, remedy)]


def _but_for(some: Sequence[ComparedBlock]) -> str:
    """Say how many voxels are farther off, where some may be."""
    most = sum(block.most_beyond for block in some)
    found = sum(block.num_beyond for block in some)
    return f", but for {found} voxels, where {most} may be farther off" if most else ""


def verify_volume(record: Path, commands: Commands) -> list[Finding]:
    """Read an ingested volume and its labels and compare them with their hashes.

    Parameters
    ----------
    record : Path
        ``ingest.json``.
    commands : Commands
        For the remedies.
    """
    volume = IngestedVolume.read(record)
    findings = []
    stored: dict[Path, tuple[str, Sequence[Roi] | None]] = {
        volume.image.store: (volume.image.content_sha256, None)
    }
    if volume.labels:
        labels = volume.labels
        stored[labels.store] = labels.content_sha256, labels.rois
    for store, (wanted, boxes) in stored.items():
        found = _hash_or_error(store, boxes)
        if found != wanted:
            own = store.absolute().is_relative_to(record.parent.absolute())
            findings.append(
                Finding(
                    f"{store} has the content {found}, not {wanted} as {record} says",
                    commands.again(record)
                    if own
                    else f"restore {store}, which is used where it is",
                )
            )
    return findings


def verify_segmentation(record: Path, commands: Commands) -> list[Finding]:
    """Read every shard of a segmentation and compare it with its receipt.

    Parameters
    ----------
    record : Path
        ``segmentation.json``, with ``prediction.json`` beside it.
    commands : Commands
        For the remedies.
    """
    segmented = Segmentation.read(record)
    grids = Prediction.read(record.with_name("prediction.json")).geometry
    store, identity = segmented.store, segmented.identity_sha256
    arrays = {
        "mask": open_volume(store),
        "objects": open_volume(segmented.objects),
    }
    receipts = store.parent / "receipts"
    checked = ReceiptedStore(grids, receipts, arrays, identity).check()
    if not checked.problems:
        return []
    what = (
        f"{len(checked.problems)} of {grids.num_shards} shards of {store} are not "
        f"whole:\n  {checked.describe_problems()}"
    )
    return [Finding(what, f"{commands.again(record)}; again if it says so")]


def verify_named_files(record: Path, commands: Commands) -> list[Finding]:
    """Compare tables and exports with the hashes that their record tells.

    Parameters
    ----------
    record : Path
        One of ``named_files.KINDS``, by its name.
    commands : Commands
        For the remedies.
    """
    found = changed_files(record)
    remedy = commands.again(record)
    if record.name == "ngff04.json":  # what is there is taken as whole
        remedy = f"rm -rf {NgffCopy.read(record).folder} && {remedy}"
    return [Finding(what, remedy) for what in found]


def verify_network(model: Path, description: Path, commands: Commands) -> list[Finding]:
    """Hash a network's weights and compare with its description."""
    wanted = Model.read(description).weights_sha256
    if not model.exists() or hash_file(model) != wanted:
        what = f"{model} is not the file that {description} describes ({wanted})"
        return [Finding(what, f"rm -f {model} && {commands.snakemake}")]
    return []


def verify_kept(model: Path) -> list[Finding]:
    """Hash the networks that are kept beside one, but those that are links to it."""
    findings = []
    for folder in kept_networks(model.parent):
        kept = folder / model.name
        if model.exists() and kept.exists() and kept.samefile(model):
            continue
        damaged, description = kept, folder / "model.json"
        try:
            wanted = Model.read(description).weights_sha256
            if kept.exists() and hash_file(kept) == wanted:
                continue
            what = f"{kept} is not the file that its model.json describes ({wanted})"
        except UnetpipeError:
            damaged = description
            what = f"{description} does not describe a network any more"
        remedy = f"restore {damaged} from a copy, or rm -r {folder}"
        findings.append(Finding(what, remedy))
    return findings


def _hash_or_error(store: Path, boxes: Sequence[Roi] | None) -> str:
    try:
        array = open_volume(store)
        return hash_voxels(array) if boxes is None else hash_sections(array, boxes)
    except UnetpipeError as error:
        return f"that cannot be read ({error})"
    except Exception as error:  # codecs raise their own
        return f"that cannot be read ({type(error).__name__}: {error})"


def hash_voxels(array: zarr.Array[Any]) -> str:
    """Return the ``content_sha256`` of an ingested array, however it is cut.

    Section by section, (c, y, x) in C order, little-endian. Memory: one layer of
    chunks.
    """
    digest = hashlib.sha256()
    little = array.dtype.newbyteorder("<")
    with Progress("reading", array.shape[-3], "section") as progress:
        for _, section in iterate_sections(array, range(array.shape[-3])):
            digest.update(np.ascontiguousarray(section, little).data)
            progress.update()
    return digest.hexdigest()
