"""From files to candidates: image and labels, one volume each or a series."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from unetpipe.errors import DataError
from unetpipe.originals import natural_key
from unetpipe.survey.candidates import Candidate, list_briefly
from unetpipe.survey.cells import write_cell, write_series
from unetpipe.survey.headers import Header, compare_neighbours, read_header
from unetpipe.survey.names import Name, read_name
from unetpipe.survey.pairs import pair_names

MIN_SERIES = 2


@dataclass(slots=True)
class Pairing:
    """Collects candidates from files of images and labels, and what is unclear.

    Parameters
    ----------
    root : Path
        Folder of the originals.
    images : str
        ``independent``, ``stack``, or ``auto``: what numbered files of one size are.
    """

    root: Path
    images: str
    candidates: list[Candidate] = field(default_factory=list)
    headers: dict[str, Header] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    judged: dict[bool, list[str]] = field(default_factory=dict)

    def add(self, paths: Iterable[str]) -> None:
        """Make candidates of all files, TIFF, PNG, or a cell of a store."""
        names = [read_name(path) for path in paths]
        labels = [name for name in names if name.is_labels]
        images = [name for name in names if not name.is_labels]
        if labels and not images:
            self.notes.append(
                "all names say labels, so the files are taken as images; rename a "
                "folder to images and the other to labels"
            )
            images, labels = labels, []
        images = self._leave_out_others(images)
        images = [name for name in images if self._read(name)]
        found, notes = pair_names(images, labels)
        self.notes += notes
        series, single = self._find_series(images, found)
        self._tell_series()
        free = [n.path for n in labels if n.path not in set(found.values())]
        used: set[str] = set()
        for group in series:
            used |= self._add_series(group, found, free)
        for name in single:
            labels_of = found.get(name.path, "")
            if not labels_of and len(images) == 1 and len(free) == 1:
                labels_of = self._only_one(name.path, free[0])
            used.add(labels_of)
            pair = (labels_of,) if labels_of else ()
            self.candidates.append(Candidate((name.path,), pair, name.split))
        stray = [n.path for n in labels if n.path not in used]
        paired_anyway = [p for p in stray if p not in set(found.values())]
        if paired_anyway:
            self.notes.append(
                f"{len(paired_anyway)} label file{'s' * (len(paired_anyway) > 1)} "
                f"without an image: {list_briefly(paired_anyway)}; give image and "
                "labels the same name"
            )

    def _read(self, name: Name) -> bool:
        try:
            self.headers[name.path] = read_header(write_cell(name.path), self.root)
        except (DataError, OSError) as error:
            self.notes.append(f"{name.path} is left out: {error}")
            return False
        return True

    def _only_one(self, image: str, labels: str) -> str:
        self.notes.append(
            f"{image} and {labels} are paired, though their names have nothing in "
            "common: there is nothing else"
        )
        return labels

    def _leave_out_others(self, images: list[Name]) -> list[Name]:
        """Leave out folders beside one that says image, with files of its names."""
        folders: dict[str, list[Name]] = defaultdict(list)
        for name in images:
            folders[name.folder].append(name)
        said = {folder for folder, names in folders.items() if names[0].says_image}
        left, others = [], defaultdict[str, list[str]](list)
        for folder, names in folders.items():
            parent = str(PurePosixPath(folder).parent)
            twins = [f for f in said if str(PurePosixPath(f).parent) == parent]
            stems = {n.stem_key for f in twins for n in folders[f]}
            if folder not in said and twins and stems >= {n.stem_key for n in names}:
                others[twins[0]].append(folder)
                continue
            left += names
        self.notes += [
            f"{list_briefly(folders)}: left out, because by name they are neither "
            f"images nor labels, and their files are named like those of {twin}; if "
            "one holds the labels, rename it to labels"
            for twin, folders in others.items()
        ]
        return left

    def _find_series(
        self, images: Sequence[Name], found: dict[str, str]
    ) -> tuple[list[list[Name]], list[Name]]:
        """Return groups of files that are sections of one volume, and all others."""
        groups: dict[object, list[Name]] = defaultdict(list)
        for name in images:
            is_flat = self.headers[name.path].shape[1] == 1
            groups[name.series if is_flat else name.path].append(name)
        series, single = [], []
        for group in groups.values():
            group.sort(key=lambda name: natural_key(name.path))
            if len(group) >= MIN_SERIES and self._is_series(group):
                series.append(group)
            else:
                single += group
        return series, single

    def _is_series(self, group: Sequence[Name]) -> bool:
        """Decide whether files are the sections of one volume, and say why."""
        if self.images == "independent":
            return False
        where = f"{group[0].folder}/" if group[0].folder != "." else "the folder"
        about = f"the {len(group)} files of {where}"
        numbers = [name.number for name in group]
        first = self.headers[group[0].path]
        is_alike = all(
            (self.headers[n.path].shape, self.headers[n.path].dtype)
            == (first.shape, first.dtype)
            for n in group
        )
        if not is_alike or not write_series([n.path for n in group], self.root):
            if self.images == "stack":
                self.notes.append(
                    f"{about} differ in size, type or ending, so each stays a volume"
                )
            return False
        if self.images == "stack":
            return True
        known = [n for n in numbers if n is not None]
        is_running = len(set(known)) == len(group) == max(known) - min(known) + 1
        if not is_running:
            return False
        likeness = compare_neighbours([n.path for n in group], self.root)
        if likeness is None:
            return False
        self.judged.setdefault(likeness.is_series, []).append(
            f"{about} (neighbours correlate by {likeness.near:.2f}, files far apart by "
            f"{likeness.far:.2f})"
        )
        return likeness.is_series

    def _tell_series(self) -> None:
        """Say what numbered files of one size are taken for, and how to say no."""
        for is_series, groups in self.judged.items():
            self.notes.append(
                f"numbered files of one size: {list_briefly(groups, 2)} are taken as "
                + (
                    "the sections of one volume each; if each file is an image of its "
                    "own: --images independent"
                    if is_series
                    else "images of their own; if they are the sections of one volume: "
                    "--images stack"
                )
            )

    def _add_series(
        self, group: Sequence[Name], found: dict[str, str], free: list[str]
    ) -> set[str]:
        """Add a series with its labels; return the labels that it has."""
        paths = tuple(name.path for name in group)
        labels = tuple(found[path] for path in paths if path in found)
        if not labels:
            labels = self._labels_of_one_shape(paths[0], len(paths), free)
        elif not self._fit_together(paths, labels):
            for path in paths:  # each by itself has its labels
                own = (found[path],) if path in found else ()
                self.candidates.append(Candidate((path,), own, read_name(path).split))
            return set(labels)
        self.candidates.append(
            Candidate(paths, labels, group[0].split, is_sequence=True)
        )
        return set(labels)

    def _fit_together(self, paths: Sequence[str], labels: Sequence[str]) -> bool:
        """Tell whether labels of sections are a series that is read in their order."""
        ordered = sorted(labels, key=natural_key)
        is_whole = len(labels) == len(paths) and ordered == list(labels)
        by_path = {read_name(path).number for path in paths}
        numbers = [read_name(path).number for path in labels]
        is_partial = None not in numbers and set(numbers) <= by_path
        return bool(
            (is_whole or is_partial)
            and (len(labels) > 1 or len(paths) == 1)
            and write_series(labels, self.root)
        )

    def _labels_of_one_shape(
        self, image: str, num_sections: int, free: list[str]
    ) -> tuple[str, ...]:
        """Return the only stack of labels with as many sections of the same shape."""
        wanted = (num_sections, *self.headers[image].shape[2:])
        fitting = []
        for path in free:
            try:
                header = read_header(write_cell(path), self.root)
            except (DataError, OSError):
                continue
            if header.shape[1:] == wanted:
                fitting.append(path)
        if len(fitting) != 1:
            return ()
        self.notes.append(
            f"{fitting[0]} is taken as the labels of the sections in "
            f"{read_name(image).folder}: it alone has their shape {wanted}"
        )
        return (fitting[0],)
