"""What a user may set of prediction, segmentation and scores."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from unetpipe.config.fields import (
    Count,
    Device,
    Fraction,
    NumThreads,
    Positive,
    Section,
)
from unetpipe.errors import ConfigError

Orientation = Annotated[int, Field(ge=0, le=7)]
Interval = tuple[Annotated[int, Field(ge=0)], Count]
# The data sets whose frames have an edge without annotation; others have none.
FieldOfInterest = Literal[
    "BF-C2DL-HSC",
    "BF-C2DL-MuSC",
    "DIC-C2DH-HeLa",
    "Fluo-C2DL-Huh7",
    "Fluo-C2DL-MSC",
    "Fluo-C3DH-H157",
    "Fluo-C3DL-MDA231",
    "Fluo-N2DH-GOWT1",
    "Fluo-N2DL-HeLa",
    "Fluo-N3DH-CE",
    "Fluo-N3DH-CHO",
    "PhC-C2DH-U373",
    "PhC-C2DL-PSC",
]


# Where the warping error is computed; auto: what large sections allow.
WarpingThresholds = Literal["auto", "all", "delivered"]


class PredictionConfig(Section):
    """Overlap-tile prediction (paper: Fig. 2)."""

    precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    """Arithmetic of the forward pass; fp32 instead, with a warning, where the probe
    finds that the processor would only emulate the other. int8 is OpenVINO's, on
    processors, with scales that ``calibrate_network`` finds on the training rows."""
    backend: Literal["auto", "torch", "openvino"] = "auto"
    """What computes the convolutions; auto: OpenVINO for int8, else torch. OpenVINO
    (the extra ``openvino``) computes on processors."""
    device: Device = "auto"
    """Where to predict; auto: the GPU where there is one."""
    largest_flip_fraction: Fraction = 0.01
    """Planning refuses a reduced precision that flips more labels than this."""
    largest_score_loss: Fraction = 0.002
    """Planning refuses int8 where the score that chose the checkpoint is worse than in
    fp32 by more than this, on the validation rows."""
    average: Literal[1, 4, 7, 8] | tuple[Orientation, ...] = 1
    """Average the probabilities over the first so many of the eight orientations (the
    paper: 7), or over those listed: 0 to 3 are quarter turns, 4 to 7 the mirror image,
    turned. Each costs one pass."""
    memory_gb: Positive | Literal["auto"] = "auto"
    """Memory that the activations of one forward pass may take; auto: 4 on a CPU, 70 %
    of a GPU's, or 90 % of what is free there if that is less."""
    stride: tuple[Count, Count, Count] | None = None
    """What each tile keeps (z, y, x); null: chosen for the section shape."""
    batch_tiles: Count | Literal["auto"] = "auto"
    """Tiles in one forward pass; auto: 1 on a CPU, on a GPU as many as fill it."""
    compile: bool = False
    """Run the network through ``torch.compile`` (with CUDA graphs on a GPU) if that
    works where the probe runs."""
    autotune: bool = False
    """Let cuDNN time its algorithms on a GPU. Faster or not, it may choose another one
    in each process, so that the last bits of a prediction depend on interruptions."""
    roi: tuple[Interval, Interval, Interval] | None = None
    """Box to predict: start and stop along z, y, x, in voxels; null: all. Tiles that do
    not touch it stay 0."""
    mask: str | None = None
    """Image or OME-Zarr of which voxels other than 0 are to be predicted, at the
    volume's resolution or a coarser level; ``{volume}`` stands for the volume's name.
    Tiles that it does not touch stay 0."""
    empty_value: float | None = None
    """Tiles that hold nothing brighter than this grey value, as stored, stay 0; null:
    all tiles are predicted."""
    empty_fraction: Fraction = 0.0
    """With ``empty_value``: up to this fraction of a tile's voxels may be brighter."""
    block_shards: tuple[Count, Count, Count] = (1, 1, 1)
    """Shards that one block spans; the unit that an interruption loses at most."""
    parts: Count = 2
    """Jobs that share a volume's blocks."""
    threads: NumThreads = "auto"
    """CPU threads of torch; recorded in the plan and equal in all parts."""
    keep_probability: bool = True
    """False: after a volume is segmented, scored, exported and reported, its stored
    probability is deleted; what needs it later has it computed again."""

    @model_validator(mode="after")
    def _check(self) -> "PredictionConfig":
        if isinstance(self.average, tuple) and (
            not self.average or len(set(self.average)) < len(self.average)
        ):
            raise ConfigError(
                f"average is {list(self.average)}; list each orientation once, at "
                "least one of 0 to 7"
            )
        for axis, (start, stop) in zip("zyx", self.roi or (), strict=False):
            if start >= stop:
                raise ConfigError(
                    f"roi is {start} to {stop} along {axis}, which is empty; give "
                    "start and stop, start first"
                )
        self._check_backend()
        return self

    def _check_backend(self) -> None:
        """Raise ConfigError for what the chosen backend cannot do."""
        if self.precision == "int8" and self.backend == "torch":
            raise ConfigError(
                "precision is int8 with backend torch, which has no such arithmetic; "
                "use backend openvino or auto, or precision bf16"
            )
        if not self.uses_openvino:
            return
        wanted = f"precision {self.precision}, backend {self.backend}"
        if self.precision == "fp16":
            raise ConfigError(f"{wanted}: use fp32, bf16 or int8 with openvino")
        if self.device == "cuda":
            raise ConfigError(
                f"{wanted}: openvino computes on processors, and device is cuda; use "
                "backend torch there, with precision bf16"
            )
        if self.compile:
            raise ConfigError(
                f"{wanted}: compile is torch's, openvino always compiles; remove it"
            )

    @property
    def used_backend(self) -> Literal["torch", "openvino"]:
        """What computes the convolutions."""
        if self.backend != "auto":
            return self.backend
        return "openvino" if self.precision == "int8" else "torch"

    @property
    def uses_openvino(self) -> bool:
        """Whether OpenVINO computes the convolutions."""
        return self.used_backend == "openvino"

    @property
    def used_device(self) -> Device:
        """Where to predict: OpenVINO computes on processors alone."""
        return "cpu" if self.uses_openvino else self.device

    def roi_inside(
        self, shape: tuple[int, int, int], volume: str
    ) -> tuple[Interval, Interval, Interval] | None:
        """Return the box that is predicted of a volume, cut at its faces.

        Raises
        ------
        ConfigError
            If it lies outside.
        """
        if self.roi is None:
            return None
        z, y, x = (
            (start, min(stop, length))
            for (start, stop), length in zip(self.roi, shape, strict=True)
        )
        if any(start >= stop for start, stop in (z, y, x)):
            raise ConfigError(
                f"prediction.roi is {self.roi}, outside volume {volume} of {shape} "
                "voxels; give a box inside it"
            )
        return z, y, x


class SegmentationConfig(Section):
    """From probability to masks and objects."""

    threshold: Fraction | None = None
    """Foreground probability above which a voxel is foreground; null: the threshold
    that scored best on the validation rows, 0.5 without any."""
    choose_by: Literal["auto", "v_rand", "seg", "f1", "dice"] = "auto"
    """What chooses the threshold on the validation rows, in ``train_unet``: V_Rand; SEG
    or F1 of objects; Dice of voxels, with more than two classes a threshold for each.
    auto: what chooses the checkpoint; with more classes none, the most probable counts.
    """
    connectivity: Literal["2d", "3d"] = "2d"
    """Objects within each section, or across sections; voxels connect by faces."""
    object_classes: tuple[int, ...] | None = None
    """With more than two classes: those whose voxels make objects; null: all but 0."""
    method: Literal["auto", "components", "watershed", "mutex"] = "auto"
    """``components``: foreground voxels that connect are one object. ``watershed``:
    objects that touch are cut, each around a seed, and grow into what
    ``flood_threshold`` allows. ``mutex``: a mutex watershed of the affinities that a
    network with ``network.targets: affinities`` predicts, in small boxes, whose
    fragments are then joined. auto: of such a network mutex, else what makes the better
    objects of the validation rows, where annotations tell objects apart, else
    components."""
    seeds: Literal["auto", "cores", "depth", "probability", "learnt"] = "auto"
    """With ``watershed``: ``cores``: what lies deeper in the foreground than
    ``seed_distance_vox``, so necks thinner than twice this are cut; ``depth``: the
    deepest voxel within that distance, a distance-transform watershed;
    ``probability``: the most probable one; ``learnt``: the cores that a network with
    ``network.targets`` border or markers predicts. auto: of such a network the learnt
    ones, else chosen on the validation rows by the score of objects, else cores."""
    seed_distance_vox: Positive | Literal["auto"] = "auto"
    """With ``watershed``: how deep cores lie, or within what distance there is one
    seed; in lengths of the shortest voxel edge; auto: chosen with ``seeds``, else 3.
    """
    core_threshold: Fraction | Literal["auto"] = "auto"
    """With ``seeds: learnt``: probability of a core above which seeds lie; auto: chosen
    on the validation rows with the threshold, else 0.5."""
    seed_reach_vox: Count | Literal["auto"] = "auto"
    """With ``watershed``: steps, voxel to voxel, that an object grows from its seed;
    what is thinner for longer is an object of its own; auto: chosen with ``seeds``,
    from the size of the annotated objects, else 16."""
    seed_threshold: Fraction | Literal["auto"] | None = "auto"
    """With ``watershed``: foreground probability above which seeds are looked for, so
    that objects which only faint foreground joins are cut; null, and below
    ``threshold``: ``threshold``; auto: chosen with ``seeds``, if SEG or F1 chooses."""
    flood_threshold: Fraction | None = None
    """With ``watershed`` and ``mutex``: foreground probability above which an object
    may grow; 0: everywhere; null: ``threshold``. The foreground of affinities is the
    mean of a voxel's nearest ones."""
    merge_threshold: Fraction | Literal["auto"] = "auto"
    """With ``mutex``: mean affinity of all pairs between two fragments above which they
    are one object; auto: chosen on the validation rows by the score of objects, else
    0.5."""
    fragment_vox: tuple[Count, Count, Count] = (64, 64, 64)
    """With ``mutex``: voxels along z, y, x of the boxes in which it is followed, or
    fewer where a shard ends. Part of the recipe, as blocks and parts are not."""
    smallest_object_vox: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Objects of fewer voxels are dropped; with ``mutex`` they join the most alike one
    that they touch, if there is one. auto: chosen on the validation rows, with the
    threshold or after it, by the score of objects; of sizes with equal scores the
    largest up to a quarter of the smallest annotated objects (of one in twenty), so
    that specks go that only other sections have; 0 without a score, and with ``mutex``.
    """
    largest_hole_vox: Annotated[int, Field(ge=0)] = 0
    """With ``components``: background of up to so many voxels inside one object is
    filled; what touches a face of the volume (with 2d: of the section) is no hole."""
    block_shards: tuple[Count, Count, Count] = (1, 1, 1)
    """Shards that one block spans; the unit that an interruption loses at most."""
    parts: Count = 1
    """Jobs that share a volume's blocks; with 1 a single job does all steps."""

    @model_validator(mode="after")
    def _check(self) -> "SegmentationConfig":
        if self.method in ("watershed", "mutex") and self.largest_hole_vox:
            raise ConfigError(
                f"largest_hole_vox is {self.largest_hole_vox} with method "
                f"{self.method}, which looks for no holes; use 0, or method components"
            )
        return self


class EvaluationConfig(Section):
    """Which scores are computed."""

    isbi_scores: bool = True
    """With two classes: the ISBI 2012 scores over thresholds, section by section."""
    warping_error: bool = True
    """With ``isbi_scores``: the warping error too."""
    warping_thresholds: WarpingThresholds = "auto"
    """With ``warping_error``: ``all`` published thresholds, or that of the
    ``delivered`` masks alone; auto: all where a section has at most 2048 x 2048 voxels,
    else the delivered. Of baselines: all, in sections of at most that size."""
    baselines: bool = True
    """Score a constant map, the grey values (of sections of at most 2048 x 2048
    voxels), and a watershed beside the network."""
    field_of_interest_vox: Annotated[int, Field(ge=0)] | FieldOfInterest = 0
    """Cell Tracking Challenge: voxels at the edge of a frame that are not annotated, or
    the name of a data set of the challenge. They weigh nothing in training and count
    for no score; of what reaches into the field SEG sees all. With ``ingest.scale``:
    voxels as the files have them."""


class VerifyConfig(Section):
    """What ``snakemake verify`` computes again; it reads every shard anyway."""

    blocks: Annotated[int, Field(ge=0)] = 2
    """Blocks of each prediction to compute again and compare, at least."""
    fraction: Fraction = 0.0
    """The same as a fraction of all blocks; the larger number counts."""
    seed: int = 0
    """Another seed draws other blocks."""
