"""Corrected labels become rows of a sheet, and a configuration that goes on.

They annotate boxes of the image that they were cut out of, so that its grey values are
normalised as a whole, and the network sees what lies around: crops that are volumes of
their own are normalised by their own mean and deviation, which are others.
"""

import csv
import io
from pathlib import Path
from typing import Any

import tifffile
import yaml

from unetpipe.errors import DataError
from unetpipe.records.proposals import (
    CORRECTED,
    IMAGE,
    Proposal,
    Proposals,
    crops_of_labels,
)

SIZE = "voxel_size_nm"
RECORD = "proposals.json"
ENDING, MOST_LETTERS = "-corrected", 64  # of a volume's name


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
        If nothing was corrected, or a corrected file does not fit its image.
    """
    record = Proposals.read(_find_record(folder))
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
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    told = [line for line in lines if line.startswith("#")]
    rows = [line for line in lines if line.strip() and not line.startswith("#")]
    reader = csv.DictReader(rows, delimiter="\t")
    return told, [{k.strip(): v or "" for k, v in row.items()} for row in reader]


def _add(
    lines: list[dict[str, str]], one: Proposal, record: Proposals, folder: Path
) -> None:
    """Add a box to the row of its image's corrections, or a row."""
    labels = str(folder / one.name / CORRECTED)
    if one.labels_at is None:
        lines.append(_row_of_crop(one, record, folder) | {"labels": labels})
        return
    name = f"{one.volume[: MOST_LETTERS - len(ENDING)]}{ENDING}"
    at, section = ",".join(map(str, one.labels_at)), str(one.labels_at[0])
    for line in lines:
        if line["volume"] == name:
            line["labels"] += f"; {labels}"
            line["labels_at"] += f"; {at}"
            told = {*line["sections"].split(","), section}
            line["sections"] = ",".join(sorted(told, key=int))
            return
    of_image = next(line for line in lines if line["volume"] == one.volume)
    changed = {
        **{"volume": name, "labels": labels, "labels_at": at, "sections": section},
        **{"role": "train", "label_kind": record.label_kind, "unlabelled": ""},
        **{"fold": "", "optional": ""},
    }
    lines.append(of_image | changed)


def _row_of_crop(one: Proposal, record: Proposals, folder: Path) -> dict[str, str]:
    """Return the row of a crop that is a volume of its own."""
    size = record.voxel_sizes_nm.get(one.volume)
    return {
        "volume": one.name,
        "image": str(folder / one.name / IMAGE),
        "sections": "all",
        "role": "train",
        "label_kind": record.label_kind,
        "axes": record.axes,
        **({SIZE: ",".join(f"{n:g}" for n in size)} if size else {}),
    }


def _check(folder: Path) -> None:
    """Compare the sizes of image and corrected labels."""
    shapes = []
    for name in (IMAGE, CORRECTED):
        try:
            with tifffile.TiffFile(folder / name) as file:
                shapes.append(file.series[0].shape[-2:])
        except (OSError, ValueError, tifffile.TiffFileError) as error:
            raise DataError(f"{folder / name} cannot be read: {error}") from None
    if shapes[0] != shapes[1]:
        raise DataError(
            f"{folder / CORRECTED} has {shapes[1]} voxels (y, x), its image "
            f"{shapes[0]}; correct the labels of the whole crop, and crop nothing"
        )


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
