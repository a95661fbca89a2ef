"""Corrected labels become rows of a sheet, and a configuration that goes on.

They annotate boxes of the image that they were cut out of, so that its grey values are
normalised as a whole, and the network sees what lies around: crops that are volumes of
their own are normalised by their own mean and deviation, which are others.
"""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import yaml
from numpy.typing import NDArray

from unetpipe.config.fields import LONGEST_NAME
from unetpipe.config.sheet import load_sheet
from unetpipe.config.sheet_cells import Row, parse_row, split_cells, split_header
from unetpipe.errors import DataError
from unetpipe.evaluation.corrected_crops import saved_beside
from unetpipe.ingestion.label_kinds import check_label_dtype
from unetpipe.records.proposals import (
    CORRECTED,
    IMAGE,
    Proposal,
    Proposals,
    crops_of_labels,
)
from unetpipe.runtime.files import hash_of
from unetpipe.runtime.text import format_sections
from unetpipe.tiling.boxes import Roi, Zyx, parts_in

SIZE = "voxel_size_nm"
RECORD = "proposals.json"
ENDING = "-corrected"  # of a volume's name
ALIKE = ("image", "time", "level", "role", "fold", "label_kind")  # in rows of one


def describe_corrections(
    folder: Path, name: str, sheet: str
) -> tuple[tuple[str, str], int]:
    """Return sheet and configuration of the next training, and how many crops are new.

    Parameters
    ----------
    folder : Path
        Of ``propose_annotations``, with what was corrected.
    name : str
        Of the run to be made.
    sheet : str
        Where its sheet will lie.

    Raises
    ------
    DataError
        If nothing was corrected, corrections were saved by another name, a corrected
        file does not fit its image or holds no ids, or the sheet has no row of that
        any more.
    ConfigError
        If the sheet cannot be read.
    """
    record = Proposals.read(_find_record(folder))
    _refuse_other_names(folder, record)
    done = [one for one in record.proposals if (folder / one.name / CORRECTED).exists()]
    if not done:
        raise DataError(
            f"no crop in {folder} was corrected: there is no {CORRECTED} in any of its "
            f"{len(record.proposals)} folders; open them with napari, and save with "
            "Control-S, or write the labels there with another program"
        )
    for one in done:
        _check(folder / one.name)
    head, lines = _read_sheet(Path(record.sheet))
    known = {line["volume"] for line in lines}
    known |= crops_of_labels(line.get("labels", "") for line in lines)
    new = [one for one in done if one.name not in known]
    for one in new:
        _add(lines, one, record, folder.resolve())
    columns = list(dict.fromkeys(key for line in lines for key in line))
    text = io.StringIO()
    text.write("".join(f"{line}\n" for line in head))
    writer = csv.DictWriter(text, columns, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: ln.get(key, "") for key in columns} for ln in lines)
    return (text.getvalue(), _configuration(record, name, sheet)), len(new)


def _refuse_other_names(folder: Path, record: Proposals) -> None:
    """Refuse to pass over what somebody has saved in the folder of a crop."""
    left_out = [
        f"\n  {', '.join(map(str, saved))}"
        for one in record.proposals
        if not (folder / one.name / CORRECTED).exists()
        and (saved := saved_beside(folder, one))
    ]
    if left_out:
        raise DataError(
            f"labels are read from {CORRECTED} alone, but somebody has saved others: "
            f"save them as TIFF by that name, each in its folder, or delete them"
            + "".join(left_out)
        )


def _find_record(folder: Path) -> Path:
    """Return what tells of the crops, if the folder is that of proposals."""
    if (record := folder / RECORD).is_file():
        return record
    if not folder.is_dir():
        raise DataError(f"--corrections: there is no folder {folder}")
    around = (folder / "proposals", folder.parent)
    near = next((place for place in around if (place / RECORD).is_file()), None)
    raise DataError(
        f"--corrections: {folder} holds no {RECORD}, so it is none that snakemake "
        "propose_annotations wrote; name "
        + (str(near) if near else "the folder proposals of a run")
    )


def _read_sheet(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the comments of a sheet, and its rows as they are written."""
    load_sheet(path)  # refuses what a run would refuse
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    told = [line for line in lines if line.startswith("#")]
    head, *rows = (ln for ln in lines if ln.strip() and not ln.startswith("#"))
    names = split_header(head)
    return told, [dict(zip(names, split_cells(row), strict=False)) for row in rows]


def _add(
    lines: list[dict[str, str]], one: Proposal, record: Proposals, folder: Path
) -> None:
    """Add a box to the row of its image's corrections, or a row.

    A crop is a volume of its own where it cannot be a box, or would overlap another.
    """
    if one.labels_at is None:
        lines.append(_row_of_crop(one, record, folder))
        return
    path = folder / one.name / CORRECTED
    new = _row_of_box(lines, one.volume, record)
    new |= {"labels": str(path), "labels_at": ",".join(map(str, one.labels_at))}
    new["sections"] = str(one.labels_at[0])
    known = {line["volume"]: line for line in lines}
    attempt = 0
    while True:
        name = _name(one.volume, ENDING, attempt)
        if name not in known:
            lines.append(new | {"volume": name})
            return
        if row := _row_to_join(known[name], new):
            break
        attempt += 1
    boxes = zip(row.label_cells, row.labels_at, strict=True)
    near = [_box(Path(cell), at) for cell, at in boxes if at[0] == one.labels_at[0]]
    if parts_in(near, _box(path, one.labels_at)):
        lines.append(_row_of_crop(one, record, folder))
        return
    for column in ("labels", "labels_at"):
        known[name][column] += f"; {new[column]}"
    if row.sections is not None:
        told = {*row.sections, one.labels_at[0]}
        known[name]["sections"] = format_sections(tuple(told))
    known[name]["field_of_view"] = ""


def _name(name: str, ending: str = "", attempt: int = 0) -> str:
    """Return the name of a volume; a hash tells apart what is cut, or taken."""
    if not attempt and len(name + ending) <= LONGEST_NAME:
        return name + ending
    ending = f"-{hash_of([name, attempt])[:8]}{ending}"
    return name[: LONGEST_NAME - len(ending)] + ending


def _row_to_join(line: dict[str, str], new: dict[str, str]) -> Row | None:
    """Return a row as it is read, if it holds other corrections of the same image."""
    row, _ = parse_row(list(line), list(line.values()))
    if row is None or not row.labels_at:
        return None
    is_corrected = all(Path(cell).name == CORRECTED for cell in row.label_cells)
    is_alike = all(line.get(key, "") == new.get(key, "") for key in ALIKE)
    return row if is_corrected and is_alike else None


def _row_of_box(
    lines: list[dict[str, str]], volume: str, record: Proposals
) -> dict[str, str]:
    """Return the row of a volume with annotations, but for what they are."""
    of_image = next((line for line in lines if line["volume"] == volume), None)
    if of_image is None:
        raise DataError(
            f"{record.sheet} has no row of volume {volume} any more, of which crops "
            "were corrected; write it into the sheet again, with the role predict"
        )
    return of_image | {
        **{"role": "train", "label_kind": record.label_kind, "unlabelled": ""},
        **{"fold": "", "optional": "", "field_of_view": ""},
    }


def _row_of_crop(one: Proposal, record: Proposals, folder: Path) -> dict[str, str]:
    """Return the row of a crop that is a volume of its own."""
    size = record.voxel_sizes_nm.get(one.volume)
    return {
        "volume": _name(one.name),
        "image": str(folder / one.name / IMAGE),
        "labels": str(folder / one.name / CORRECTED),
        "sections": "all",
        "role": "train",
        "label_kind": record.label_kind,
        "axes": record.axes,
        **({SIZE: ",".join(f"{n:g}" for n in size)} if size else {}),
    }


def _check(folder: Path) -> None:
    """Refuse corrected labels that hold no ids, or have another size than the image."""
    path = folder / CORRECTED
    labels = _read(path)
    if labels.ndim > 2 and labels.shape[-1] in (3, 4):
        raise DataError(
            f"{path} holds colours, not ids: save the labels themselves, not how they "
            "are shown"
        )
    check_label_dtype(labels.dtype, labels, str(path))
    of_image, of_labels = _size(folder / IMAGE), labels.shape[-2:]
    if of_image != of_labels:
        raise DataError(
            f"{path} has {of_labels} voxels (y, x), its image {of_image}; "
            "correct the labels of the whole crop, and crop nothing"
        )


def _box(path: Path, at: Zyx) -> Roi:
    """Return where labels of a section lie that begin at a corner."""
    y, x = _size(path)
    return Roi(at, (at[0] + 1, at[1] + y, at[2] + x))


def _size(path: Path) -> tuple[int, int]:
    """Return the size (y, x) of an image of a section."""
    y, x = _read(path).shape[-2:]
    return y, x


def _read(path: Path) -> NDArray[Any]:
    """Return the voxels of a small TIFF."""
    try:
        return np.asarray(tifffile.imread(path))
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _configuration(record: Proposals, name: str, sheet: str) -> str:
    """Return the run's own configuration, going on from its network."""
    values: dict[str, Any] = dict(record.config)
    values.pop("trained", None)
    values |= {"name": name, "volumes": sheet}
    values["training"] = {
        **(values.get("training") or {}),
        "start_from": record.network,
    }
    return (
        "# Made by scripts/make_sheet.py of corrected annotations.\n"
        + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    )
