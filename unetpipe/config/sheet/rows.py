"""Rows of the sheet, and all of them together."""

from dataclasses import dataclass

from unetpipe.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Row:
    """One range of sections of a volume in one role.

    ``sections`` is None for all of them, else sorted section numbers from 0. ``time``
    and ``voxel_size_nm`` are None where the file is to say it, ``channels`` is empty.
    ``unlabelled`` is the label id of voxels that nobody annotated, or None. The files
    of an ``optional`` row may be missing in a local folder.
    """

    volume: str
    image: str
    labels: str
    sections: tuple[int, ...] | None
    role: str
    fold: str
    axes: str
    voxel_size_nm: tuple[float, float, float] | None
    label_kind: str
    unlabelled: int | None
    time: int | None = None
    channels: tuple[str, ...] = ()
    optional: bool = False

    def section_numbers(self, num_sections: int) -> tuple[int, ...]:
        """Return the row's sections of a volume that has ``num_sections``.

        Raises
        ------
        ConfigError
            If the row names a section that the volume does not have.
        """
        if self.sections is None:
            return tuple(range(num_sections))
        if self.sections and self.sections[-1] >= num_sections:
            raise ConfigError(
                f"volume {self.volume}: the sheet names section {self.sections[-1]}, "
                f"the image has sections 0 to {num_sections - 1}; correct `sections`"
            )
        return self.sections


@dataclass(frozen=True, slots=True)
class Sheet:
    """All rows, checked."""

    rows: tuple[Row, ...]

    @property
    def volumes(self) -> tuple[str, ...]:
        """Names of the volumes, in the order of the sheet."""
        return tuple(dict.fromkeys(row.volume for row in self.rows))

    @property
    def folds(self) -> tuple[str, ...]:
        """Names of the folds, sorted; one without a name where there are none."""
        return tuple(sorted({row.fold for row in self.rows if row.fold})) or ("",)

    def of_volume(self, volume: str) -> tuple[Row, ...]:
        """Return the rows of one volume."""
        return tuple(row for row in self.rows if row.volume == volume)

    def of_fold(self, fold: str, *roles: str) -> tuple[Row, ...]:
        """Return the rows that the networks of a fold use in these roles."""
        return tuple(
            row for row in self.rows if row.fold in ("", fold) and row.role in roles
        )

    def volumes_of(self, fold: str, *roles: str) -> tuple[str, ...]:
        """Return the volumes with rows of a fold in these roles."""
        return tuple(dict.fromkeys(row.volume for row in self.of_fold(fold, *roles)))
