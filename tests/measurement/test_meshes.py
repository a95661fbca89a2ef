"""Surfaces: closed, where the voxels are, of the right volume, in the format."""

import json
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("zmesh", reason="zmesh is not installed: NO mesh was looked at")

from unetpipe.measurement.meshes import (
    is_mesh_written,
    mesh_mask,
    write_mesh,
    write_mesh_info,
)

SIZE_NM = (50.0, 4.0, 3.0)


def ball(radius, sampling=(1, 1, 1)):
    reach = [int(radius / s) + 1 for s in sampling]
    axes = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    far = sum((axis * s) ** 2 for axis, s in zip(axes, sampling, strict=True))
    return far <= radius**2


@pytest.mark.parametrize("radius", [8, 20])
def test_the_mesh_of_a_ball_encloses_its_volume(radius):
    mask = ball(radius)
    mesh = mesh_mask(mask, (0, 0, 0), (2.0, 2.0, 2.0))
    assert mesh.volume_nm3 == pytest.approx(8 * mask.sum(), rel=0.02)


def test_of_flat_voxels_too():
    mask = ball(400, SIZE_NM)
    mesh = mesh_mask(mask, (0, 0, 0), SIZE_NM)
    assert mesh.volume_nm3 == pytest.approx(600 * mask.sum(), rel=0.02)


def test_a_brick_lies_where_its_voxels_are_and_is_closed_at_faces():
    mesh = mesh_mask(np.ones((3, 5, 2), bool), (10, 20, 0), SIZE_NM)
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    np.testing.assert_allclose(low, (0, 80, 500), atol=min(SIZE_NM))
    np.testing.assert_allclose(high, (6, 100, 650), atol=min(SIZE_NM))
    edges = Counter(
        tuple(sorted(edge))
        for a, b, c in mesh.triangles.tolist()
        for edge in ((a, b), (b, c), (c, a))
    )
    assert set(edges.values()) == {2}


def test_the_files_are_what_the_format_says(tmp_path):
    mesh = mesh_mask(ball(4), (0, 0, 0), SIZE_NM)
    write_mesh_info(tmp_path)
    assert not is_mesh_written(tmp_path, 7)
    write_mesh(tmp_path, 7, mesh)
    assert is_mesh_written(tmp_path, 7)
    info = json.loads((tmp_path / "info").read_text())
    assert info == {"@type": "neuroglancer_legacy_mesh"}
    (name,) = json.loads((tmp_path / "7:0").read_text())["fragments"]
    raw = (tmp_path / name).read_bytes()
    (count,) = np.frombuffer(raw, "<u4", 1)
    vertices = np.frombuffer(raw, "<f4", 3 * count, 4).reshape(-1, 3)
    triangles = np.frombuffer(raw, "<u4", -1, 4 + 12 * count).reshape(-1, 3)
    np.testing.assert_array_equal(vertices, mesh.vertices)
    np.testing.assert_array_equal(triangles, mesh.triangles)
    assert triangles.max() == count - 1
