"""Command make_sheet: a folder of images becomes a sheet and a configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from unetpipe.config import check_config
from unetpipe.errors import ConfigError, DataError
from unetpipe.machine import has_cuda_driver, num_processors
from unetpipe.records import write_bytes_atomic
from unetpipe.sheet import parse_sheet
from unetpipe.survey.candidates import Candidate
from unetpipe.survey.contents import list_contents, look_into_hdf5, look_into_zarr
from unetpipe.survey.kinds import Kind, Tally, judge
from unetpipe.survey.layouts import find_mask_folders, find_sequences
from unetpipe.survey.names import plain_name, read_name
from unetpipe.survey.pairing import make_candidates
from unetpipe.survey.prints import make_prints, object_diameter
from unetpipe.survey.rows import RoleRow, assign_roles
from unetpipe.survey.sampling import count_labels
from unetpipe.survey.settings import (
    Setting,
    choose_challenge,
    choose_parts,
    choose_settings,
    describe_ndim,
)
from unetpipe.survey.table import describe_volumes
from unetpipe.survey.texts import write_configuration, write_sheet
from unetpipe.survey.volumes import Found, find_volumes


def make_sheet(
    *,
    folder: Path,
    name: str | None = None,
    config_dir: Path = Path("config"),
    images: Literal["auto", "independent", "stack"] = "auto",
    label_kind: Literal["auto", "instances", "binary", "classes"] = "auto",
    force: bool = False,
) -> None:
    """Read a folder, write ``<name>.tsv`` and ``<name>.yaml``, and say why.

    Headers of images are read, and the values of labels; the folder is left as it is.

    Parameters
    ----------
    folder : Path
        Of images, with or without labels: see ``config/README.md`` for the layouts.
    name : str, optional
        Of the run; None: the folder's.
    config_dir : Path
        Where to write.
    images : {"auto", "independent", "stack"}
        Whether numbered files of one size are images of their own, or the sections of
        one volume; ``auto`` compares neighbours.
    label_kind : {"auto", "instances", "binary", "classes"}
        What values of labels mean; ``auto`` judges by what they hold.
    force : bool
        Overwrite files that are there.

    Raises
    ------
    ConfigError
        If a file is there already, or the name is not one.
    DataError
        If the folder holds nothing that can be read.
    """
    folder = folder.expanduser().resolve()
    name = name or plain_name(folder.name) or "mine"
    check_config({"name": name}, "--name")
    sheet, config = (config_dir / f"{name}{ending}" for ending in (".tsv", ".yaml"))
    there = [str(path) for path in (sheet, config) if path.exists()]
    if there and not force:
        raise ConfigError(
            f"{' and '.join(there)} exist{'s' * (len(there) == 1)}; choose another "
            "--name, or overwrite with --force"
        )
    found = _understand(folder, name, images, label_kind)
    texts = found.write(name, str(folder), sheet.as_posix())
    parse_sheet(texts[0], str(sheet))
    check_config(yaml.safe_load(texts[1]), str(config))
    config_dir.mkdir(parents=True, exist_ok=True)
    for path, text in zip((sheet, config), texts, strict=True):
        write_bytes_atomic(path, text.encode())
    print("\n".join([*found.describe(), "", f"wrote {sheet} and {config}", ""]))
    print(
        "next:\n"
        f"  snakemake --configfile {config} -n    # what would run\n"
        f"  snakemake --configfile {config}       # run it"
    )


@dataclass(slots=True)
class _Understood:
    """All that was found out about a folder."""

    rows: list[RoleRow]
    kind: Kind
    settings: list[Setting]
    diameter: float | None
    notes: list[str] = field(default_factory=list)

    def write(self, name: str, source: str, sheet: str) -> tuple[str, str]:
        """Return the texts of sheet and configuration."""
        kind = self.kind.label_kind
        notes = [*self._facts(), *self.notes]
        return (
            write_sheet(self.rows, kind, notes),
            write_configuration(name, source, sheet, self.kind, self.settings, notes),
        )

    def describe(self) -> list[str]:
        """Return what to print."""
        table = describe_volumes(self.rows, self.kind.label_kind)
        notes = [*self._facts(), *self.notes]
        return [table, "", *(f"- {note}" for note in notes)]

    def _facts(self) -> list[str]:
        if not self.kind.why:
            return []
        facts = [f"labels: {self.kind.label_kind or 'cannot be used'}: {self.kind.why}"]
        if self.diameter:
            facts.append(
                f"objects are about {self.diameter:.0f} voxels wide, section by section"
            )
        return facts


def _understand(folder: Path, name: str, images: str, label_kind: str) -> _Understood:
    candidates, notes = _find_candidates(folder, images)
    volumes, more = find_volumes(candidates, folder, name)
    notes += more
    if not volumes:
        raise DataError(
            "\n  ".join([f"{folder} holds no image that can be read:", *notes])
        )
    kind, tally, filled, more = _judge_labels(volumes, folder, label_kind)
    notes += more
    if not kind.label_kind:
        volumes = [v.without_labels() for v in volumes]
    rows, more = assign_roles(volumes, filled)
    notes += more
    settings: list[Setting] = []
    diameter = None
    if any(row.role == "train" for row in rows):
        settings = choose_settings(
            make_prints(rows, tally, kind),
            kind,
            num_channels=volumes[0].header.shape[0],
            has_gpu=has_cuda_driver(),
            num_threads=num_processors(),
        )
        diameter = object_diameter(tally, kind)
    shapes = [v.header.shape[1:] for v in volumes]
    settings += choose_parts(shapes)
    if any(v.kind == "instances" for v in volumes):
        settings += choose_challenge(str(folder))
    sizes = {v.header.voxel_size_nm for v in volumes}
    if None in sizes:
        notes.append(
            "the files do not say how large a voxel is: if you know it, write z,y,x in "
            "nm into the column voxel_size_nm (until then lengths are voxels)"
        )
    depth = max(0 if v.kind == "instances" else v.num_sections for v in volumes)
    notes += filter(None, [describe_ndim(volumes[0].header.voxel_size_nm, depth)])
    return _Understood(rows, kind, settings, diameter, notes)


def _find_candidates(folder: Path, images: str) -> tuple[list[Candidate], list[str]]:
    """Return what may become volumes, layout by layout."""
    contents = list_contents(folder)
    notes = contents.notes
    sequences, left, more = find_sequences(contents.files)
    notes += more
    with_masks, left, more = find_mask_folders(left)
    notes += more
    candidates = [*sequences, *with_masks]
    loose = list(left)
    for path in contents.hdf5 + contents.stores:
        look = look_into_zarr if path in contents.stores else look_into_hdf5
        try:
            inside = look(folder, path)
        except (DataError, OSError) as error:
            notes.append(f"{path} is left out: {error}")
            continue
        notes += inside.notes
        if inside.image and inside.labels:
            split = read_name(path).split
            candidates.append(Candidate((inside.image,), (inside.labels,), split))
        else:
            loose.append(inside.image or inside.labels)
    more_candidates, more = make_candidates(loose, folder, images)
    return candidates + more_candidates, notes + more


def _judge_labels(
    volumes: Sequence[Found], folder: Path, wanted: str
) -> tuple[Kind, Tally, dict[str, int], list[str]]:
    """Return the kind of all labels, what they hold, and notes."""
    annotated = [volume for volume in volumes if volume.annotated]
    if not annotated:
        return Kind("", ""), Tally(), {}, []
    tally, filled, notes = count_labels(annotated, folder)
    if not tally.num_sections:
        return Kind("", "they cannot be read"), tally, filled, notes
    if annotated[0].kind:
        said = "ids of the Cell Tracking Challenge"
        if annotated[0].kind == "masks":
            said = "one file for each object"
        return Kind(annotated[0].kind, said), tally, filled, notes
    is_independent = all(len(volume.annotated) == 1 for volume in annotated)
    kind = judge(tally, is_independent=is_independent, wanted=wanted)
    return kind, tally, filled, notes
