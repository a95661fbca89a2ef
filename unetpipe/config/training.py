"""What a user may set of the network and of its training."""

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
from unetpipe.tiling.unet_spec import Targets, UNetSpec


class NetworkConfig(Section):
    """The architecture (paper: Fig. 1)."""

    ndim: Literal[2, 3] = 2
    """2: each section by itself; 3: volumetric."""
    num_classes: Annotated[int, Field(ge=2, le=255)] = 2
    """Classes of the output; class 0 is background."""
    depth: Annotated[int, Field(ge=1, le=7)] = 4
    """Number of poolings."""
    base_channels: Count = 64
    """Feature channels of the first level; they double with each pooling."""
    padding: Literal["valid", "same"] = "valid"
    """``valid`` as in the paper, or ``same`` (padded convolutions)."""
    normalization: Literal["none", "batch"] = "none"
    """Normalisation after each convolution."""
    head: Literal["softmax", "sigmoid"] = "softmax"
    """Final activation; ``sigmoid`` has one channel for two classes."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Rate at the end of the contracting path."""
    initialization: Literal["he", "default"] = "he"
    """``he``: N(0, sqrt(2/N)) as in the paper; ``default``: the library's own."""
    pooling: tuple[tuple[int, int, int], ...] = ()
    """Pooling factor (z, y, x) of each level; empty: 2 on every axis it sees."""
    targets: Targets = "cells"
    """What is learnt of objects that touch, with two classes. ``cells``: a gap between
    them, which ``weight_map`` makes heavy. ``border``: a third class, the voxels of
    cells near another cell. ``markers``: a third class, the rim of each cell, so that
    what is left is its core. With the latter two masks are those of whole cells, and
    a watershed cuts them around the cores that the network predicts. ``affinities``:
    of pairs of voxels whether both are of one cell, from labels with ids, for neurons
    and what else touches everywhere; needs ``head: sigmoid``, makes objects by
    ``segmentation.method: mutex``, and ``weight_map`` gives no border term."""
    affinity_offsets: tuple[tuple[int, int, int], ...] = ()
    """With ``targets: affinities``: where the other voxel of each pair lies, in voxels
    along z, y, x; empty: the neighbours along each axis that it sees, and the voxels 3
    and 9 away, along z as much nearer as ``pooling`` pools it less."""

    @property
    def has_border_term(self) -> bool:
        """Whether the border term of the paper applies: there is a border to learn."""
        return self.targets != "affinities"

    def spec(self, in_channels: int = 1) -> UNetSpec:
        """Return the architecture for images of so many channels."""
        values = self.model_dump(exclude={"initialization"})
        return UNetSpec(in_channels=in_channels, **values)

    @model_validator(mode="after")
    def _check(self) -> "NetworkConfig":
        self.spec()  # raises GeometryError where numbers do not fit
        return self


class WeightMapConfig(Section):
    """Loss weights (paper: eq. 2)."""

    enabled: bool = True
    """False: no border term."""
    w0: Annotated[float, Field(ge=0)] = 10.0
    """Weight where two cells touch."""
    sigma_vox: Positive = 5.0
    """Width of the border, in lengths of the shortest voxel edge: gaps of equal length
    weigh the same along all axes."""
    class_balance: bool | Literal["root"] = True
    """Weigh classes by their inverse frequency, or by its square root (``root``), where
    some are a hundred times as rare as others: they are learnt, and do not swell. With
    ``network.targets: affinities`` pairs, for each offset by itself."""
    border_class: int | None = None
    """With ``label_kind: classes``: the class that separates cells."""
    border_vox: Annotated[float, Field(ge=1)] | Literal["auto"] = "auto"
    """With ``network.targets`` border or markers: how wide the border, or the rim, is
    inside each cell, in lengths of the shortest voxel edge; auto: ``border_share`` of
    the diameter that cells of the volume usually have, at least 1."""
    border_share: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """With ``border_vox: auto``: that share."""


class AugmentationConfig(Section):
    """Random changes of each training patch (paper: Sect. 3.1)."""

    shift_vox: Annotated[float, Field(ge=0)] = 10.0
    """Largest random shift beyond the random crop, in voxels."""
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 180.0
    """Largest rotation in the section plane, in degrees."""
    # DEPARTS: the paper shifts, rotates, deforms and varies grey values, without flips.
    flip: bool = True
    """Mirror along y and x at random."""
    zoom: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Objects grow or shrink by up to the factor 1 + zoom, at random, where their size
    in the volumes to predict may be another; 0.2: from 1/1.2 to 1.2; 0, as in the
    paper: they keep their size."""
    elastic_sigma_vox: Annotated[float, Field(ge=0)] = 10.0
    """Standard deviation of the random displacements, in voxels; 0: none."""
    elastic_grid: Annotated[int, Field(ge=2)] = 3
    """Displacements are drawn on a grid of so many points an axis."""
    grey_scale: Annotated[float, Field(ge=0)] = 0.2
    """Contrast varies by up to this fraction."""
    grey_shift: Annotated[float, Field(ge=0)] = 0.2
    """Brightness varies by up to this many standard deviations of the image."""


class TrainingConfig(Section):
    """The optimisation (paper: Sect. 3)."""

    patch: tuple[Count, Count, Count] | Literal["largest"] | None = None
    """Voxels along z, y, x of the network's input, rounded up to a legal size; null:
    572 in the plane, or less where the volume is smaller; largest: what whole sections
    need, up to 4 GiB a patch: a step takes longer, and sees more annotated voxels for
    the same arithmetic."""
    start_from: str | None = None
    """Fine-tuning: the folder of a trained network (`model.safetensors`,
    `model.json`) whose weights are the first ones; null: random weights. With another
    number of channels the first layer begins afresh, with other classes the last one;
    the rest of the section `network` must be the same."""
    freeze_contracting: bool = False
    """With ``start_from``: the contracting path keeps the weights it has, and only the
    expansive path learns: faster, and steadier with very few annotations."""
    steps: Count = 40_000
    """Number of optimiser steps."""
    batch_size: Count = 1
    """Patches a step; the paper takes one large patch."""
    foreground_fraction: Fraction = 0.0
    """Share of patches whose centre is drawn from the foreground alone, for objects
    that are rare; 0: any annotated voxel may be the centre. The classes keep their
    weights, so the foreground gets more than its share."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """``sgd``: stochastic gradient descent with momentum, as in the paper; ``adamw``:
    Adam with decoupled weight decay, which learns much faster in trainings of up to
    some thousand steps."""
    learning_rate: Positive = 1e-3
    """Step size. With ``sgd`` and momentum 0.99, steps above 1e-3 need ``warmup_steps``
    and ``gradient_clip``, or the loss becomes infinite."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = "auto"
    """Momentum of the gradient; the first beta of ``adamw``. auto: 0.99 with ``sgd``,
    as in the paper; 0.9 with ``adamw``."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """``sgd``: L2 penalty; ``adamw``: share of the weights that each step takes away,
    times the learning rate."""
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """Course of the learning rate."""
    schedule_every: Count = 10_000
    """With ``step``: multiply by ``schedule_factor`` every so many steps."""
    schedule_factor: Positive = 0.1
    """With ``step``: the factor."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Raise the learning rate linearly over the first so many steps."""
    gradient_clip: Positive | None = None
    """Largest norm of the gradient; null: no clipping."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Arithmetic of the forward and backward pass; losses are always fp32. auto: bf16
    where the device computes in it, fp32 elsewhere: a processor that only emulates bf16
    is several times slower in it. What was chosen is part of the recipe."""
    validate_every: Count | Literal["auto"] = "auto"
    """Score the validation rows every so many steps, and after the last one; the best
    checkpoint is kept. auto: every 500 steps, and after 50, 100 and 200, so that a
    short training has a curve as well."""
    patience: Count | None = None
    """Stop after so many validations without a better score; null: never. Of
    ``validate_every: auto`` those every 500 steps count."""
    validation_metric: Literal["auto", "v_rand", "seg", "f1", "dice", "loss"] = "auto"
    """What chooses the checkpoint: V_Rand; SEG or F1 of objects (with two classes);
    mean Dice or the loss. auto: what the
    annotations ask for: dice for several classes and for masks without ids, f1 for
    objects with ids, v_rand where cells fill the sections, seg where no background is
    annotated. v_rand chooses together with the Dice of the foreground, seg with f1,
    since alone they do not see what is found in the background."""
    temperature_scaling: bool = False
    """Fit one temperature to the validation rows, so that a probability of 0.8 is right
    in four cases of five, and record it in `model.json`. What is stored, thresholds and
    masks stay as they are: it tells what a stored probability is worth. Two classes;
    not part of the recipe."""
    averaging: Literal["none", "ema", "swa"] = "none"
    """Average the weights over the steps and score the mean as well, each time; the
    better of the two may become the result. ``ema``: exponentially fading; ``swa``:
    their plain mean."""
    averaging_decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """With ``ema``: what is kept of the mean at each update."""
    averaging_start: Annotated[int, Field(ge=0)] = 0
    """Begin to average after so many steps; for ``swa`` the last quarter is usual."""
    averaging_every: Count = 1
    """Average the weights of every so many steps."""
    checkpoint_every: Count | Literal["auto"] = "auto"
    """Save the training state every so many steps. auto: about once a minute, beside
    the training."""
    seed: int = 0
    """Of initialisation, patches, augmentation and dropout."""
    threads: NumThreads = "auto"
    """CPU threads of torch; they change fp32 bits, so a resumed training keeps them."""
    deterministic: bool = False
    """Give the same bits every time on the same machine on a GPU too, at the price of
    speed. CPUs do so anyway, if the number of threads is the same."""
    processes: Count = 1
    """Processes that share the patches of a step, on each node: one for each GPU. At
    most ``batch_size`` on all nodes together. Not part of the recipe."""
    nodes: Count = 1
    """Computers that train together, with ``processes`` each."""
    node_command: str = (
        "srun --overlap --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 {gpus}"
    )
    """With more than one node: what starts a command once on each of them. `{gpus}` is
    `--gpus-per-node` with a GPU for each process where SLURM has given some."""
    device: Device = "auto"
    """Where to compute; auto: a GPU where torch sees one. Not part of the recipe."""
    tensorboard: bool = False
    """Write losses and scores for TensorBoard too, into the folder of the training
    state; needs ``pip install unetpipe[tensorboard]``."""
