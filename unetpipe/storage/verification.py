"""Compare what is stored with what its records say, and say what mends a difference.

Nothing here changes a file.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from unetpipe.errors import UnetpipeError
from unetpipe.runtime.files import hash_file, hash_of, read_record
from unetpipe.runtime.progress import Progress
from unetpipe.storage.dropping import is_dropped
from unetpipe.storage.keeping import kept_networks
from unetpipe.storage.prediction_store import PredictionStore
from unetpipe.storage.receipted import (
    CheckedShards,
    check_shards,
    parts_of_shards,
    shards_of_block,
)
from unetpipe.storage.receipts import receipt_path
from unetpipe.storage.volumes import (
    encode_shard,
    iterate_sections,
    open_volume,
    read_attributes,
)
from unetpipe.tiling.blocks import BlockPrediction
from unetpipe.tiling.grids import PredictionGeometry


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
class Commands:
    """What a user types to have results made again.

    Attributes
    ----------
    snakemake : str
        The command of the run, with its configuration file.
    num_parts : int
        Parts of a prediction.
    """

    snakemake: str
    num_parts: int

    def again(self, *outputs: Path) -> str:
        """Return the command that makes files again, and what depends on them."""
        return f"{self.snakemake} --forcerun {' '.join(map(str, outputs))}"

    def parts_again(
        self, record: Path, shards: set[Any], geometry: PredictionGeometry
    ) -> str:
        """Return the command that computes again what is not whole of some shards."""
        parts = parts_of_shards(shards, geometry, self.num_parts)
        return self.again(*(record.parent / "parts" / f"{p}.json" for p in parts))

    def blocks_again(
        self, record: Path, blocks: list[int], geometry: PredictionGeometry
    ) -> str:
        """Return the command that computes blocks again although they look whole."""
        shards = {i for number in blocks for i in shards_of_block(number, geometry)}
        receipts = receipts_of(read_record(record))
        paths = " ".join(str(receipt_path(receipts, i)) for i in sorted(shards))
        return f"rm {paths} && {self.parts_again(record, shards, geometry)}"


def receipts_of(prediction: dict[str, Any]) -> Path:
    """Return the folder of a finished prediction's receipts."""
    return Path(prediction["outputs"]["probability"]["store"]).parent / "receipts"


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
    prediction = read_record(record)
    geometry = PredictionGeometry.from_json(prediction["geometry"])
    receipts = receipts_of(prediction)
    home, identity = receipts.parent, prediction["identity_sha256"]
    finish = commands.again(record)
    if hash_of(prediction["identity"]) != identity:
        what = f"{record} holds another recipe than the one it was written for"
        return CheckedShards(), [Finding(what, finish)]
    arrays, findings = {}, []
    for name, output in prediction["outputs"].items():
        store = Path(output["store"])
        arrays[name] = open_volume(store)
        if hash_of(read_attributes(store).get("identity")) != identity:
            findings.append(Finding(f"{store} names another recipe", finish))
    if is_dropped(Path(prediction["outputs"]["probability"]["store"])):
        arrays = {}  # of what was dropped the receipts are left
    checked = check_shards(geometry, receipts, arrays, identity)
    if checked.problems:
        what = (
            f"{len(checked.problems)} of {geometry.num_shards} shards of {home} are "
            f"not whole:\n  {checked.describe_problems()}"
        )
        remedy = commands.parts_again(record, set(checked.problems), geometry)
        findings.append(Finding(what, remedy))
    elif checked.content_sha256 != prediction["content_sha256"]:
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
    results = {"probability": block.probability}
    if block.classes is not None:
        results["classes"] = block.classes
    count = 0
    for index, shard in store.geometry.shards(block.roi):
        wanted = read_record(receipt_path(store.receipts, index))["files"]
        inside = shard.relative_to(block.roi.start).slices
        made = {}
        for name in wanted:
            pieces = encode_shard(
                store.arrays[name], index, results[name][..., *inside]
            )
            made[name] = hashlib.sha256(b"".join(pieces)).hexdigest()
        count += made != wanted
    return count


def verify_volume(record: Path, commands: Commands) -> list[Finding]:
    """Read an ingested volume and its labels and compare them with their hashes.

    Parameters
    ----------
    record : Path
        ``ingest.json``.
    commands : Commands
        For the remedies.
    """
    volume = read_record(record)
    findings = []
    for kind in ("image", "labels"):
        about = volume.get(kind)
        if about and (wanted := about.get("content_sha256")):
            store = Path(about["store"])
            found = _hash_or_error(store)
            if found != wanted:
                own = store.absolute().is_relative_to(record.parent.absolute())
                findings.append(
                    Finding(
                        f"{store} has the content {found}, not {wanted} as {record} "
                        "says",
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
    segmented = read_record(record)
    prediction = read_record(record.with_name("prediction.json"))
    geometry = PredictionGeometry.from_json(prediction["geometry"])
    store = Path(segmented["store"])
    arrays = {
        "mask": open_volume(store),
        "objects": open_volume(Path(segmented["objects"])),
    }
    identity = segmented["identity_sha256"]
    checked = check_shards(geometry, store.parent / "receipts", arrays, identity)
    if not checked.problems:
        return []
    what = (
        f"{len(checked.problems)} of {geometry.num_shards} shards of {store} are not "
        f"whole:\n  {checked.describe_problems()}"
    )
    return [Finding(what, f"{commands.again(record)}; again if it says so")]


def verify_network(model: Path, description: Path, commands: Commands) -> list[Finding]:
    """Hash a network's weights and compare with its description."""
    wanted = read_record(description)["weights_sha256"]
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
            wanted = read_record(description)["weights_sha256"]
            if kept.exists() and hash_file(kept) == wanted:
                continue
            what = f"{kept} is not the file that its model.json describes ({wanted})"
        except (UnetpipeError, KeyError):
            damaged = description
            what = f"{description} does not describe a network any more"
        remedy = f"restore {damaged} from a copy, or rm -r {folder}"
        findings.append(Finding(what, remedy))
    return findings


def _hash_or_error(store: Path) -> str:
    try:
        return hash_voxels(open_volume(store))
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
