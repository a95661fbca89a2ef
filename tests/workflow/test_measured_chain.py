"""Measured objects, outlines and tracks through the whole chain, asked for by keys."""

import json

import pandas as pd
import pytest

from tests.workflow.conftest import TINY

pytestmark = pytest.mark.slow

WANTED = """
measure: {properties: all, parts: 2}
export_outlines: [geojson]
track: {enabled: true}
export_ctc: true
segmentation: {threshold: 0.0, smallest_object_vox: 0, method: components}
"""


def test_objects_are_measured_with_the_conditions_of_the_sheet(fresh) -> None:
    sheet = fresh.folder / "config" / "tiny.tsv"
    header, *rows = sheet.read_text().splitlines()
    told = [f"{header}\tcondition_drug", *(f"{row}\tnone" for row in rows)]
    sheet.write_text("\n".join(told))
    (fresh.folder / "config" / "tiny.yaml").write_text(TINY + WANTED)
    fresh.snakemake()
    results = fresh.folder / "results" / "tiny"
    table = pd.read_parquet(results / "measurements.parquet")
    objects = pd.read_parquet(
        next((results / "unet" / "cells").glob("segmentation-*/objects.parquet"))
    )
    assert table["id"].tolist() == objects["id"].tolist()
    assert (table["condition_drug"] == "none").all()
    area = objects["voxels"] * 16.0
    assert (table["area_nm2"] == area).all()
    outlines = json.loads((results / "unet/cells/outlines.geojson").read_text())
    assert {f["properties"]["name"] for f in outlines["features"]} == set(
        map(str, table["id"])
    )
    page = (results / "unet" / "report.html").read_text()
    assert f"area nm2, {len(table)} objects" in page
    tracked = pd.read_parquet(results / "unet" / "cells" / "tracked_objects.parquet")
    assert tracked["id"].tolist() == table["id"].tolist()
    assert f"{tracked['track'].nunique()} over" in page
    lines = (results / "unet/cells/cells_RES/res_track.txt").read_text().splitlines()
    assert len(lines) == tracked["track"].nunique() < len(tracked)
    assert fresh.planned() == {}
    # A condition is no reason to predict or segment again.
    sheet.write_text("\n".join([told[0], *(f"{row}\tx" for row in rows)]))
    assert fresh.planned() == {"collect_measurements": 1}
