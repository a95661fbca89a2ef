"""Which files of the sheet a local folder lacks, and which volumes it may lack."""

from collections.abc import Collection
from pathlib import Path

from unetpipe.config.messages import list_problems
from unetpipe.config.sheet import Row, Sheet
from unetpipe.errors import ConfigError, DataError
from unetpipe.images.files import PHANTOM, find_image_files, is_remote, source_kind

LISTED = 10  # missing files that a message names

Cells = dict[str, str]


def leave_out_missing(
    sheet: Sheet, source: str, stored: Collection[str] = ()
) -> tuple[Sheet, dict[str, str]]:
    """Return the sheet without optional volumes that a local folder lacks.

    A volume is lacking if its image or its labels are: without labels it could not be
    scored, and nobody asked for it to be segmented only. Archives and addresses are
    taken at the sheet's word: what they hold is known once they are unpacked.

    Parameters
    ----------
    sheet : Sheet
    source : str
        As in the configuration.
    stored : collection of str
        Volumes that are stored already: nobody needs their originals.

    Returns
    -------
    Sheet, dict
        The other rows, and by volume a line on what is left out; under an empty name
        one on originals that are gone and not needed.

    Raises
    ------
    ConfigError
        If the folder lacks files of a volume that is not optional, or of all volumes.
    DataError
        If the source is nothing that can be read.
    """
    root = Path(source).expanduser()
    rows = {row.volume: row for row in sheet.rows}
    gone = _tell_gone(root.absolute())
    if "://" not in source and not root.exists() and rows.keys() <= set(stored):
        return sheet, {} if source == PHANTOM else gone
    if source_kind(source) != "folder":
        return sheet, {}
    wrong: list[str] = []
    lacking: dict[str, Cells] = {}
    for volume, row in rows.items():
        try:
            if found := _lacking(row, root):
                lacking[volume] = found
        except (ConfigError, DataError) as error:
            wrong.append(f"volume {volume}: {error}")
    unneeded = [lacking.pop(volume) for volume in lacking.keys() & set(stored)]
    left_out = [volume for volume in lacking if rows[volume].optional]
    if len(left_out) == len(rows):
        left_out = []
    for volume, cells in lacking.items():
        if volume not in left_out:
            wrong += [
                f"volume {volume}: {cell!r} is not in {root.absolute()}; correct the "
                "sheet or `source`"
                for cell in cells.values()
            ]
    if wrong:
        lines = list_problems("the files that the sheet names", wrong).splitlines()
        if len(wrong) > LISTED:
            lines[1 + LISTED :] = [f"  and {len(wrong) - LISTED} more like these"]
        raise ConfigError("\n".join(lines))
    kept = tuple(row for row in sheet.rows if row.volume not in left_out)
    told = {v: _tell(v, lacking[v], root) for v in left_out}
    return Sheet(kept), told | (gone if unneeded else {})


def _tell_gone(root: Path) -> dict[str, str]:
    return {
        "": f"Originals are not in {root} any more: what is stored of them is used."
    }


def _lacking(row: Row, root: Path) -> Cells:
    """Return the cells of a volume that name nothing in a folder, by column."""
    lacking: Cells = {}
    for name, cells in row.file_cells.items():
        for cell in cells:
            if not (is_remote(cell) or find_image_files(cell, root)):
                lacking.setdefault(name, cell)
    return lacking


def _tell(volume: str, cells: Cells, root: Path) -> str:
    """Return one line on an optional volume that is left out."""
    files = " and ".join(f"{name} {cell!r}" for name, cell in cells.items())
    are = "are" if "labels" in cells else "is"
    hint = (
        "; its image is there: a row with the role predict and no labels would have it "
        "segmented"
        if "image" not in cells
        else ""
    )
    return (
        f"Volume {volume}, optional in the sheet, is left out: its {files} {are} not "
        f"in {root.absolute()}{hint}."
    )
