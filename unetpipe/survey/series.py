"""Whether numbered files of one size are sections of one volume, or images apart."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unetpipe.images.files import natural_key
from unetpipe.survey.candidates import list_briefly
from unetpipe.survey.cells import write_series
from unetpipe.survey.headers import Header, compare_neighbours
from unetpipe.survey.names import Name

FEWEST_SECTIONS = 2


@dataclass(slots=True)
class SeriesFinder:
    """Puts files of one section each together, and remembers why.

    Parameters
    ----------
    root : Path
        Folder of the originals.
    images : str
        ``independent``, ``stack``, or ``auto``: compare neighbours.
    headers : mapping
        Path -> header of each image.
    """

    root: Path
    images: str
    headers: Mapping[str, Header]
    judged: dict[bool, list[str]] = field(default_factory=dict)
    unlike: list[str] = field(default_factory=list)

    def find(self, images: Sequence[Name]) -> tuple[list[list[Name]], list[Name]]:
        """Return groups of files that are sections of one volume, and all others."""
        groups: dict[object, list[Name]] = defaultdict(list)
        for name in images:
            is_flat = self.headers[name.path].shape[1] == 1
            groups[name.series if is_flat else name.path].append(name)
        series, single = [], list[Name]()
        for group in groups.values():
            group.sort(key=lambda name: natural_key(name.path))
            if len(group) >= FEWEST_SECTIONS and self._is_series(group):
                series.append(group)
            else:
                single += group
        return series, single

    def notes(self) -> list[str]:
        """Say what numbered files of one size are taken for, and how to say no."""
        found = []
        if self.unlike:
            found.append(
                f"{list_briefly(self.unlike)} differ in size, type or ending, so each "
                "stays a volume"
            )
        for is_series, groups in self.judged.items():
            meaning = (
                "the sections of one volume each; if each file is an image of its own: "
                "--images independent"
                if is_series
                else "images of their own; if they are the sections of one volume: "
                "--images stack"
            )
            found.append(
                f"numbered files of one size: {list_briefly(groups, 2)} are taken as "
                f"{meaning}"
            )
        return found

    def _is_series(self, group: Sequence[Name]) -> bool:
        """Decide whether files are the sections of one volume."""
        if self.images == "independent":
            return False
        folder, paths = group[0].folder, [name.path for name in group]
        about = f"the {len(group)} files of {'the folder' if folder == '.' else folder}"
        kinds = {(self.headers[p].shape, self.headers[p].dtype) for p in paths}
        if len(kinds) > 1 or not write_series(paths, self.root):
            self.unlike += [about] if self.images == "stack" else []
            return False
        if self.images == "stack":
            return True
        numbers = {name.number for name in group if name.number is not None}
        if len(numbers) < len(group):
            return False
        missing = max(numbers) - min(numbers) + 1 - len(numbers)
        gaps = f", {missing} missing in between" if missing else ""
        likeness = compare_neighbours(paths, self.root)
        if likeness is None:
            self.judged.setdefault(False, []).append(f"{about} (too few to compare)")
            return False
        self.judged.setdefault(likeness.is_series, []).append(
            f"{about}{gaps} (neighbours correlate by {likeness.near:.2f}, files far "
            f"apart by {likeness.far:.2f})"
        )
        return likeness.is_series
