"""What is written for viewers beside the stores themselves."""

from typing import Annotated, Literal

from pydantic import Field

from unetpipe.config.fields import Count, Section


class PrecomputedConfig(Section):
    """Neuroglancer's precomputed volumes of image and objects, and surfaces."""

    enabled: bool = False
    """Write ``precomputed-<id>/image`` and ``/objects`` beside each segmentation, all
    levels, one file a chunk (extra ``cloud``)."""
    meshes: Literal["all"] | tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Ids of objects with a surface, or ``all`` (extra ``meshes``)."""
    smallest_mesh_vox: Count = 1000
    """With ``all``: objects of fewer voxels have none."""
    largest_mesh_vox: Count = 2**26
    """Objects whose box has more voxels have none, and the log says so: a box is held
    in memory as a whole, some 20 bytes a voxel."""
