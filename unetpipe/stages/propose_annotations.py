"""Rule propose_annotations: the crops that would teach a network most."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from unetpipe.config.proposals import ProposeConfig
from unetpipe.errors import ConfigError, DataError
from unetpipe.evaluation.corrected_crops import is_worked_on
from unetpipe.evaluation.proposals import Chosen, Crops, choose_crops, score_crops
from unetpipe.evaluation.proposed_volumes import PredictedVolume, ProposedVolume
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.proposals import CORRECTED, PREDICTED, Proposal, Proposals
from unetpipe.report.proposal_viewer import SCRIPT, VIEWER
from unetpipe.runtime.files import hash_file, write_bytes_atomic
from unetpipe.runtime.text import format_table
from unetpipe.tiling.boxes import Roi

log = logging.getLogger(__name__)
HEADER = ("crop", "score", "entropy", "disagreement", "novelty")


def propose_annotations(
    *,
    volumes: list[dict[str, Any]],
    settings: ProposeConfig,
    made_from: dict[str, Any],
    folder: Path,
) -> None:
    """Write crops of image and predicted ids to be corrected, and how to open them.

    Crops that somebody has worked on are left as they are and not proposed again.

    Parameters
    ----------
    volumes : list of dict
        ``PredictedVolume``: the records of each volume.
    settings : ProposeConfig
    made_from : dict
        ``sheet``, ``config`` and ``network``: what a later training goes on from.
    folder : Path
        Where to write ``proposals.json``, and a folder for each crop.

    Raises
    ------
    ConfigError
        If a network needs stacks of sections.
    DataError
        If every section is annotated.
    """
    ingest = made_from["config"].get("ingest") or {}
    is_scaled = isinstance(ingest.get("scale"), int | float)
    opened = [
        ProposedVolume(PredictedVolume.model_validate(one), is_scaled_again=is_scaled)
        for one in volumes
    ]
    if any(volume.ndim == 3 for volume in opened):
        raise ConfigError(
            "a network in three dimensions learns from stacks of sections, but crops "
            "of single sections are proposed; annotate whole stacks for it"
        )
    crops = [volume.crops(settings.side_vox) for volume in opened]
    scores = score_crops(crops)
    if settings.by == "chance":
        rng = np.random.default_rng(settings.seed)
        scores = [np.where(np.isfinite(s), rng.random(s.shape), s) for s in scores]
    before = Proposals.read_if_there(folder / "proposals.json")
    old = before.proposals if before else ()
    kept = tuple(one for one in old if is_worked_on(folder, one))
    known = {one.name for one in kept} | set(made_from["known"])
    known |= {path.parent.name for path in folder.glob(f"*/{CORRECTED}")}
    chosen = choose_crops(crops, scores, settings.number, frozenset(known))
    if not chosen:
        raise DataError(
            "every section that was predicted is annotated or was corrected: there is "
            "nothing to propose; add volumes with the role predict"
        )
    for one in set(old) - set(kept):
        shutil.rmtree(folder / one.name, ignore_errors=True)
    proposals = [
        _write(crops[one.volume], one, opened[one.volume], folder) for one in chosen
    ]
    write_bytes_atomic(folder / SCRIPT, VIEWER.encode())
    _record(opened, (*kept, *proposals), made_from).write(folder / "proposals.json")
    _tell(proposals, folder)


def _record(
    opened: list[ProposedVolume],
    proposals: tuple[Proposal, ...],
    made_from: dict[str, Any],
) -> Proposals:
    first = opened[0]
    return Proposals(
        proposals=proposals,
        label_kind="instances" if first.num_classes == 2 else "classes",
        axes="yx" if first.ingested.num_channels == 1 else "cyx",
        voxel_sizes_nm={
            one.files.volume: size for one in opened if (size := one.voxel_size_nm)
        },
        sheet=made_from["sheet"],
        config=made_from["config"],
        network=made_from["network"],
        circumstances=Circumstances.here(),
    )


def _write(
    crops: Crops, chosen: Chosen, volume: ProposedVolume, folder: Path
) -> Proposal:
    """Write a crop into a folder of its own; return what it is."""
    name, start = crops.name(chosen.place), crops.corner(chosen.place)
    z, y, x = start
    roi = Roi(start, (z + 1, y + crops.side[0], x + crops.side[1]))
    volume.write(roi, folder / name)
    return Proposal(
        name=name,
        volume=crops.volume,
        start=start,
        labels_at=volume.place_in_files(start),
        shape=(1, *crops.side),
        score=chosen.score,
        entropy=float(crops.entropy[chosen.place]),
        disagreement=float(crops.disagreement[chosen.place]),
        novelty=float(crops.novelty[start[0]]),
        predicted_sha256=hash_file(folder / name / PREDICTED),
    )


def _tell(proposals: list[Proposal], folder: Path) -> None:
    rows = [
        (
            one.name,
            f"{one.score:.3f}",
            f"{one.entropy:.3f}",
            f"{one.disagreement:.3f}",
            f"{one.novelty:.2f}",
        )
        for one in proposals
    ]
    print(format_table(HEADER, rows))
    print(
        f"\ncorrect them, with napari; what you changed is saved as {CORRECTED}:\n"
        f"  napari {folder / SCRIPT}\n"
        f"(or, with another program, save {PREDICTED} as {CORRECTED} beside it);\n"
        "then make the sheet of the next training, which goes on from this network:\n"
        f"  python scripts/make_sheet.py --corrections {folder} --name NEW"
    )
