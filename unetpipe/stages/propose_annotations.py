"""Rule propose_annotations: the crops that would teach a network most."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from unetpipe.config.proposals import ProposeConfig
from unetpipe.errors import ConfigError, DataError
from unetpipe.evaluation.proposals import Chosen, Crops, choose_crops, score_crops
from unetpipe.evaluation.proposed_volumes import PredictedVolume, ProposedVolume
from unetpipe.records.circumstances import Circumstances
from unetpipe.records.proposals import CORRECTED, Proposal, Proposals
from unetpipe.report.proposal_viewer import SCRIPT, VIEWER
from unetpipe.runtime.files import write_bytes_atomic
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

    Crops that somebody has corrected are left as they are and not proposed again.

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
    corrected = {path.parent.name for path in folder.glob(f"*/{CORRECTED}")}
    known = corrected | set(made_from["known"])
    chosen = choose_crops(crops, scores, settings.number, frozenset(known))
    if not chosen:
        raise DataError(
            "every section that was predicted is annotated or was corrected: there is "
            "nothing to propose; add volumes with the role predict"
        )
    _tidy(folder, corrected)
    proposals = [
        _describe(crops[one.volume], one, opened[one.volume]) for one in chosen
    ]
    for one, proposal in zip(chosen, proposals, strict=True):
        stop = tuple(a + n for a, n in zip(proposal.start, proposal.shape, strict=True))
        roi = Roi(proposal.start, (stop[0], stop[1], stop[2]))
        opened[one.volume].write(roi, folder / proposal.name)
    write_bytes_atomic(folder / SCRIPT, VIEWER.encode())
    kept = _kept(folder, corrected)
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


def _describe(crops: Crops, chosen: Chosen, volume: ProposedVolume) -> Proposal:
    start = crops.corner(chosen.place)
    return Proposal(
        name=crops.name(chosen.place),
        volume=crops.volume,
        start=start,
        labels_at=volume.place_in_files(start),
        shape=(1, *crops.side),
        score=chosen.score,
        entropy=float(crops.entropy[chosen.place]),
        disagreement=float(crops.disagreement[chosen.place]),
        novelty=float(crops.novelty[start[0]]),
    )


def _tidy(folder: Path, corrected: set[str]) -> None:
    """Remove what was proposed before and nobody has corrected."""
    record = Proposals.read_if_there(folder / "proposals.json")
    for old in record.proposals if record else ():
        if old.name not in corrected:
            shutil.rmtree(folder / old.name, ignore_errors=True)


def _kept(folder: Path, corrected: set[str]) -> tuple[Proposal, ...]:
    record = Proposals.read_if_there(folder / "proposals.json")
    old = record.proposals if record else ()
    return tuple(one for one in old if one.name in corrected)


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
        "then make the sheet of the next training, which goes on from this network:\n"
        f"  python scripts/make_sheet.py --corrections {folder} --name NEW"
    )
