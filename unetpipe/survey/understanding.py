"""Everything that is found out about a folder, one thing after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from unetpipe.errors import DataError
from unetpipe.images.files import listed_channels
from unetpipe.ingestion.palette import choose_palette
from unetpipe.runtime.machine import has_cuda_driver
from unetpipe.survey.candidates import make_candidates
from unetpipe.survey.contents import (
    Field,
    list_contents,
    look_into_hdf5,
    look_into_zarr,
)
from unetpipe.survey.counts import (
    count_labels,
    keep_drawn_sections,
    make_volume_prints,
    object_diameter,
)
from unetpipe.survey.headers import correlate_sections
from unetpipe.survey.label_kinds import Kind, Tally, judge_label_kind
from unetpipe.survey.names import parse_file_name
from unetpipe.survey.pairs import Candidate, list_briefly
from unetpipe.survey.roles import MANY, RoleRow, assign_roles
from unetpipe.survey.series import find_mask_folders, find_sequences
from unetpipe.survey.settings import (
    Setting,
    choose_settings,
    describe_ndim,
    rate_of_processors,
    suggest_challenge,
    suggest_parts,
    suggest_scores,
)
from unetpipe.survey.volumes import Found, find_volumes
from unetpipe.survey.writing import (
    describe_volumes,
    write_configuration,
    write_pair,
    write_sheet,
)


@dataclass(slots=True)
class Understood:
    """All that was found out about a folder."""

    rows: list[RoleRow]
    kind: Kind
    settings: list[Setting]
    diameter: float | None
    notes: list[str] = field(default_factory=list)

    @property
    def can_train(self) -> bool:
        """Whether anything is annotated."""
        return any(row.role == "train" for row in self.rows)

    def write(self, name: str, source: str, sheet: str) -> tuple[str, str]:
        """Return the texts of sheet and configuration."""
        notes = [*self._facts(), *self.notes]
        return (
            write_sheet(self.rows, self.kind, notes),
            write_configuration(name, source, sheet, self.kind, self.settings, notes),
        )

    def describe(self) -> list[str]:
        """Return what to print."""
        table = describe_volumes(self.rows, self.kind.label_kind)
        notes = [*self._facts(), *self.notes, *self._reasons()]
        return [table, "", *(f"- {note}" for note in notes)]

    def _reasons(self) -> list[str]:
        """Return which settings have which reason."""
        pairs: dict[str, list[str]] = {}
        for setting in self.settings:
            pair = write_pair(setting.key, setting.value)
            pairs.setdefault(setting.why, []).append(pair)
        return [f"set {', '.join(keys)}, because {why}" for why, keys in pairs.items()]

    def _facts(self) -> list[str]:
        if not self.kind.why:
            return []
        facts = [f"labels: {self.kind.label_kind or 'cannot be used'}: {self.kind.why}"]
        if self.diameter:
            sizes = {row.volume.header.voxel_size_nm for row in self.rows}
            size = sizes.pop() if len(sizes) == 1 else None
            in_nm = f" ({self.diameter * size[2]:,.0f} nm)" if size else ""
            facts.append(
                f"objects are about {self.diameter:.0f} voxels{in_nm} wide, section by "
                "section"
            )
            if any(
                len(r.sections) > 1 and not r.volume.header.are_times for r in self.rows
            ):
                facts.append(
                    "objects of the result lie in single sections, unless "
                    "segmentation.connectivity: 3d joins them across sections"
                )
        return facts


def understand(
    folder: Path, name: str, images: str, label_kind: str, labels: str = ""
) -> Understood:
    """Return what lies in a folder, and which settings suit it.

    Parameters
    ----------
    folder : Path
        With images.
    name : str
        Of the run: of a volume that has no name of its own, too.
    images, label_kind : str
        What the user says of both; ``auto``: nothing.
    labels : str
        The folder that the user says holds the labels, or nothing.

    Raises
    ------
    DataError
        If nothing can be read.
    """
    candidates, notes = _find_candidates(folder, images, labels)
    volumes, more = find_volumes(candidates, folder, name)
    notes += more
    if not volumes:
        raise DataError(
            "\n  ".join([f"{folder} holds no image that can be read:", *notes])
        )
    volumes, more = _keep_one_kind(volumes)
    notes += more
    volumes, more = keep_drawn_sections(volumes, folder)
    notes += more
    kind, tally, filled, more = _judge_labels(volumes, folder, label_kind)
    notes += more
    if not kind.label_kind:
        volumes = [v.without_labels() for v in volumes]
    rows, more = assign_roles(volumes, filled, compare_sections(volumes, folder))
    notes += more
    settings: list[Setting] = []
    diameter = None
    is_challenge = any(v.kind == "instances" for v in volumes)
    if any(row.role == "train" for row in rows):
        prints = make_volume_prints(rows, tally, kind)
        settings = choose_settings(
            prints,
            kind,
            num_channels=volumes[0].header.shape[0],
            rate=None if has_cuda_driver() else rate_of_processors(),
        )
        touching = tally.touching / max(1, tally.places)
        settings += (
            suggest_challenge(
                str(folder), touching, any(v.num_files > 1 for v in volumes)
            )
            if is_challenge
            else suggest_scores(prints, kind, touching)
        )
        diameter = object_diameter(tally, kind)
    shapes = [v.header.shape[1:] for v in volumes]
    settings += suggest_parts(shapes)
    sizes = {v.header.voxel_size_nm for v in volumes}
    if None in sizes:
        notes.append(
            "the files do not say how large a voxel is: if you know it, write z,y,x in "
            "nm into the column voxel_size_nm (until then lengths are voxels)"
        )
    depth = max(
        0 if v.kind == "instances" or v.header.are_times else v.num_sections
        for v in volumes
    )
    notes += filter(None, [describe_ndim(volumes[0].header.voxel_size_nm, depth)])
    return Understood(rows, kind, settings, diameter, notes)


def _find_candidates(
    folder: Path, images: str, labels: str
) -> tuple[list[Candidate], list[str]]:
    """Return what may become volumes, layout by layout."""
    contents = list_contents(folder)
    notes, left = contents.notes, contents.files
    sequences, with_masks = list[Candidate](), list[Candidate]()
    if not labels:
        sequences, left, more = find_sequences(left)
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
            split = parse_file_name(path).split
            candidates.append(Candidate((inside.image,), inside.all_labels, split))
        else:
            loose.append(inside.image or inside.labels)
    candidates += [_take_field(folder, field) for field in contents.fields]
    more_candidates, more = make_candidates(loose, folder, images, labels)
    return candidates + more_candidates, notes + more


def _take_field(folder: Path, found: Field) -> Candidate:
    """Return the candidate of one field of a plate."""
    inside = look_into_zarr(folder, found.path)
    plate = found.path.split("/")[0] if ".zarr" in found.path else ""
    return Candidate(
        (inside.image,),
        inside.all_labels,
        name=f"{plate.removesuffix('.zarr')}/{found.well}-{found.field}",
        well=found.well,
        field=found.field,
    )


def compare_sections(volumes: Sequence[Found], folder: Path) -> dict[str, float]:
    """Return how alike neighbouring annotated sections of volumes are."""
    found = {}
    for volume in volumes:
        if len(volume.annotated) < MANY or volume.header.num_times > 1:
            continue
        try:
            likeness = correlate_sections(
                volume.image, folder, volume.annotated, axes=volume.header.axes
            )
        except (DataError, OSError):
            continue  # ingesting tells what is wrong
        if likeness is not None:
            found[volume.name] = likeness
    return found


def _keep_one_kind(volumes: list[Found]) -> tuple[list[Found], list[str]]:
    """Use the labels of one layout: those of the first annotated volume."""
    kinds = list(dict.fromkeys(v.kind for v in volumes if v.annotated))
    others = [v for v in volumes if v.annotated and v.kind not in kinds[:1]]
    if not others:
        return volumes, []
    note = (
        f"the labels of {list_briefly(v.name for v in others)} are left out: they are "
        "laid out in another way than the first; make a sheet of each"
    )
    return [v.without_labels() if v in others else v for v in volumes], [note]


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
        if annotated[0].kind == "classes":
            names = listed_channels(annotated[0].labels)
            said = f"a folder of masks for each class: {', '.join(names)}"
        if wanted not in ("auto", annotated[0].kind) and not (
            wanted == "instances" and annotated[0].kind == "masks"
        ):
            raise DataError(
                f"--label-kind {wanted}: the layout of {folder} says {said}; leave the "
                "option out, or move the files into two folders, images and labels"
            )
        kind = Kind(annotated[0].kind, said)
        if kind.label_kind == "classes":
            kind = replace(
                kind, class_names=("none", *names), num_classes=len(names) + 1
            )
        return kind, tally, filled, notes
    is_independent = all(len(volume.annotated) == 1 for volume in annotated)
    kind = judge_label_kind(tally, is_independent=is_independent, wanted=wanted)
    if wanted != "auto" and not kind.label_kind:
        raise DataError(f"--label-kind {wanted}: the labels of {folder}: {kind.why}")
    palette = choose_palette(kind.classes, kind.label_kind)
    if kind.label_kind == "binary" and palette is not None:
        tally, filled, notes = count_labels(annotated, folder, palette)
    return kind, tally, filled, notes
