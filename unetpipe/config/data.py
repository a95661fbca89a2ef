"""What a user may set of the originals and of how volumes are stored."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unetpipe.config.fields import ClassId, Colour, Count, Percent, Section
from unetpipe.errors import ConfigError

LARGEST_GREY = 65_535

Factor = Annotated[float, Field(ge=1 / 64, le=8)]


class PhantomConfig(Section):
    """The seeded membrane phantom that ``source: phantom:cells`` draws."""

    shape: tuple[Count, Count, Count] = (8, 256, 256)
    """Voxels along z, y, x."""
    num_cells: Annotated[int, Field(ge=1, le=65_535)] = 60
    """Cells in the volume."""
    noise: Annotated[float, Field(ge=0)] = 24.0
    """Standard deviation of the grey-value noise, in grey values of 0 to 255."""
    seed: int = 1
    """Another seed draws another phantom."""


class LabelsConfig(Section):
    """What the values of label images mean."""

    palette: dict[Colour, ClassId | None] | None = None
    """With ``label_kind: classes``, or ``binary`` and the classes 0 and 1: the class of
    each colour (``"#ff0000"``, in quotes), grey value (``255``) or range of grey values
    (``128-255``) of the label images, and ``null`` for what nobody annotated. Null:
    values are the classes themselves."""
    threshold: Annotated[int, Field(ge=1, le=LARGEST_GREY)] | None = None
    """With ``label_kind: binary``: grey values from this one on are objects, and what
    lies below separates them: for masks with soft edges, or saved as JPEG. Null: 0
    separates, and there is one other value."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes for viewers, class 0 first; null: foreground, or class 0,
    class 1 and so on."""

    @model_validator(mode="before")
    @classmethod
    def _read_keys(cls, values: Any) -> Any:
        """Take grey values as YAML reads them, as numbers; colours in either case."""
        palette = values.get("palette") if isinstance(values, dict) else None
        if not isinstance(palette, dict):
            return values
        keys = [str(key).lower() for key in palette]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ConfigError(f"palette names {', '.join(twice)} twice; keep one")
        return {**values, "palette": dict(zip(keys, palette.values(), strict=True))}

    @model_validator(mode="after")
    def _check(self) -> "LabelsConfig":
        if self.threshold is not None and self.palette is not None:
            raise ConfigError(
                f"threshold is {self.threshold}, and there is a palette; a palette "
                "can hold ranges of grey values, such as 128-255: keep one of the two"
            )
        if self.palette is not None and len(set(self.palette.values())) < 2:
            raise ConfigError(
                "palette has fewer than two classes; give each colour of the label "
                "images its class"
            )
        return self

    @property
    def classes(self) -> dict[str, int | None] | None:
        """What the values of label images stand for: the palette, or the threshold."""
        if self.threshold is None:
            return self.palette
        below = self.threshold - 1
        return {f"0-{below}": 0, f"{self.threshold}-{LARGEST_GREY}": 1}


class PyramidConfig(Section):
    """Coarser levels of images, labels and predictions, for viewers."""

    parts: Count = 1
    """Jobs that share the coarser levels of each store; 1: the rule that writes the
    store adds them itself, without a job of their own. The bits are the same."""


class ExportConfig(Section):
    """The trained networks as bioimage.io packages, for other programs."""

    enabled: bool = False
    """Write ``bioimageio.zip`` beside each network: weights, TorchScript, and ONNX
    where the extra ``export`` is installed."""
    authors: tuple[str, ...] = ()
    """Names of the authors of the model."""
    licence: str | None = None
    """Licence of the weights: an SPDX identifier such as ``CC-BY-4.0``."""

    @model_validator(mode="after")
    def _check(self) -> "ExportConfig":
        if self.enabled and not (self.authors and self.licence):
            raise ConfigError(
                f"authors is {list(self.authors)} and licence {self.licence!r}; a "
                "package names both: authors: [your name], licence: CC-BY-4.0"
            )
        return self


class IngestConfig(Section):
    """How volumes are stored."""

    chunk: tuple[Count, Count, Count] = (8, 128, 128)
    """Voxels along z, y, x that Zarr reads at once."""
    shard: tuple[Count, Count, Count] = (8, 1024, 1024)
    """Voxels along z, y, x that Zarr writes as one file; multiples of ``chunk``."""
    nan_policy: Literal["error", "replace"] = "error"
    """What to do with NaN or infinite voxels: refuse, or put the channel's mean."""
    parts: Count = 1
    """Jobs that share the shards of each image, by layers along z; a last one adds
    labels and checks. 1: one job does all. Stores and records are the same."""

    percentiles: tuple[Percent, Percent] | None = None
    """Grey values are normalised by two percentiles of the volume, like [1, 99], in
    place of mean and standard deviation (null), so that a few hot or dead voxels do not
    take the contrast of all others: the middle of the two becomes 0, and their distance
    what it is in a normal distribution of standard deviation 1. A network remembers
    which it has learnt with, and brings it along where it is used again (``trained``).
    """

    scale: Literal["keep", "match"] | Factor = "keep"
    """A number: all volumes, those too that a network learns from, are stored with so
    many voxels for each one along the axes that the network sees. 0.5 is worth a try
    where cells are a hundred voxels wide: the network sees twice as far at a quarter of
    the cost. ``match``: volumes that no network learns from are resampled to the voxel
    size that the network has learnt at. Either way voxels are means where they shrink,
    cubic where they grow, and labels those of the nearest voxel; scores are of the new
    grid, and objects are written back on the volume's own as well. Sections stay as
    they are with ``network.ndim: 2``.
    """

    @model_validator(mode="after")
    def _check(self) -> "IngestConfig":
        problems = [
            f"shard is {shard} voxels along {axis}, not a multiple of chunk {chunk}; "
            f"use {chunk * max(1, shard // chunk)}"
            for axis, chunk, shard in zip("zyx", self.chunk, self.shard, strict=True)
            if shard % chunk
        ]
        if self.percentiles and not self.percentiles[0] < 50 < self.percentiles[1]:
            low, high = self.percentiles
            problems.append(
                f"percentiles are {low:g} and {high:g}; give one below and one above "
                "50, like [1, 99]"
            )
        if self.parts > 1 and self.nan_policy == "replace":
            problems.append(
                f"parts is {self.parts}, but nan_policy replace needs the mean of all "
                "voxels first; use parts 1, or nan_policy error"
            )
        if self.parts > 1 and self.scale != "keep":
            problems.append(
                f"parts is {self.parts}, but scale {self.scale} resamples in one job; "
                "use parts 1, or scale keep"
            )
        if problems:
            raise ConfigError("; ".join(problems))
        return self
