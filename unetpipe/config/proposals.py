"""What ``snakemake propose_annotations`` proposes, and where ``view`` listens."""

from typing import Annotated, Literal

from pydantic import Field

from unetpipe.config.fields import Count, Section


class ProposeConfig(Section):
    """What ``snakemake propose_annotations`` proposes to be annotated next."""

    number: Count = 10
    """Crops of single sections, from all volumes together."""
    side_vox: Annotated[int, Field(ge=16)] = 512
    """Side of a crop in voxels; sections that are smaller are proposed whole."""
    by: Literal["uncertainty", "chance"] = "uncertainty"
    """``uncertainty``: where the stored probabilities are near the threshold or
    networks disagree, and sections whose grey values are unlike those learnt;
    ``chance``: anywhere, to compare with."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of chance."""


class ViewConfig(Section):
    """Where ``snakemake view`` serves the run to viewers: on this computer alone."""

    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """0: any that is free; a number, to reach it through ``ssh -L``."""
