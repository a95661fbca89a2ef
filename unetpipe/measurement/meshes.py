"""Surfaces of objects, each of its own box, in files that neuroglancer reads.

::

    mesh/info     {"@type": "neuroglancer_legacy_mesh"}
    mesh/7:0      {"fragments": ["7:0:0"]}       written last: only this says "done"
    mesh/7:0:0    number of vertices, x y z of each in nanometres, three a triangle

https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/meshes.md
"""

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ConfigError
from unetpipe.runtime.files import write_bytes_atomic

INFO = {"@type": "neuroglancer_legacy_mesh"}
FEWER = 100  # times fewer triangles, as far as the error allows


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """A closed surface, its triangles seen from outside counterclockwise.

    Attributes
    ----------
    vertices : float32 array, shape (n, 3)
        x, y, z in nanometres; voxel 0 reaches from 0 to its size.
    triangles : uint32 array, shape (m, 3)
        Vertices of each.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.uint32]

    @property
    def volume_nm3(self) -> float:
        """What it encloses."""
        a, b, c = np.moveaxis(self.vertices.astype(np.float64)[self.triangles], 1, 0)
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)

    def to_bytes(self) -> bytes:
        """Return the content of its file, little-endian."""
        return b"".join(
            (
                np.array(len(self.vertices), "<u4").tobytes(),
                self.vertices.astype("<f4").tobytes(),
                self.triangles.astype("<u4").tobytes(),
            )
        )


def load_mesher() -> ModuleType:
    """Return the library that makes surfaces.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        return importlib.import_module("zmesh")
    except ImportError as error:
        raise ConfigError(
            "export_precomputed.meshes are made by the library zmesh, which is not "
            'installed: pip install "unetpipe[meshes]", or leave the key out'
        ) from error


def mesh_mask(
    mask: NDArray[np.bool_],
    start: Sequence[int],
    voxel_size_nm: tuple[float, float, float],
) -> Mesh:
    """Return the surface of an object, by marching cubes, with fewer triangles.

    Parameters
    ----------
    mask : bool array, shape (z, y, x)
        Its box, and nothing of others: so the mesh does not depend on where blocks end.
    start : (z, y, x)
        First voxel of the box.
    voxel_size_nm : (z, y, x)

    Notes
    -----
    No vertex moves by more than the shortest voxel edge. Around the box lies a margin
    of background, so the surface is closed also where the object touches a face.
    """
    mesher = load_mesher().Mesher(voxel_size_nm[::-1])
    mesher.mesh(np.asfortranarray(np.pad(mask, 1).T, np.uint8))
    found = mesher.get(
        1,
        normals=False,
        reduction_factor=FEWER,
        max_error=min(voxel_size_nm),
        voxel_centered=True,
    )
    origin = (np.array(start, np.float64) - 1) * voxel_size_nm
    vertices = found.vertices.astype(np.float64) + origin[::-1]
    mesh = Mesh(vertices.astype(np.float32), found.faces.astype(np.uint32))
    if mesh.volume_nm3 < 0:
        return Mesh(mesh.vertices, mesh.triangles[:, ::-1])
    return mesh


def write_mesh(folder: Path, number: int, mesh: Mesh) -> None:
    """Write the surface of an object, and last what names it."""
    write_bytes_atomic(folder / f"{number}:0:0", mesh.to_bytes())
    manifest = json.dumps({"fragments": [f"{number}:0:0"]})
    write_bytes_atomic(folder / f"{number}:0", manifest.encode())


def is_mesh_written(folder: Path, number: int) -> bool:
    """Say whether the surface of an object is there."""
    return (folder / f"{number}:0").exists()


def write_mesh_info(folder: Path) -> None:
    """Say what the folder holds."""
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes_atomic(folder / "info", json.dumps(INFO).encode())
