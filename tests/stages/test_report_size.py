"""The page of a thousand volumes stays small enough to send, the worst first."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.stages.reported import arguments, cells, ingested, predicted, scored, trained
from unetpipe.report.page.gallery import PICTURE_BYTES
from unetpipe.report.page.many import MOST_DETAILED
from unetpipe.runtime.files import read_record, write_record
from unetpipe.stages.report import report

NUM_VOLUMES = 1000
MOST_BYTES = 20_000_000
SHAPE = (4, 384, 384)


@pytest.mark.slow
def test_a_thousand_volumes_fit_into_twenty_megabytes(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = cells(SHAPE)
    mask = (labels > 0).astype(np.uint8)
    noise = np.random.default_rng(0).random(SHAPE)
    mask[noise < 0.02] = 0  # errors everywhere: maps that do not compress
    ingest = read_record(ingested(Path(), "first", labels))
    trained(Path())
    paths = predicted(Path(), "first", mask, scored("first"))
    run = arguments(Path()) | {"ingests": [], "predictions": []}
    write_record(
        Path("manifest.json"),
        {"source": "x", "kind": "folder", "root": ".", "files": []},
    )
    for number in range(NUM_VOLUMES):
        name = f"volume-{number:04d}"
        write_record(Path(name, "ingest.json"), ingest | {"volume": name})
        metrics = scored(name, v_rand=0.9 - 0.0005 * number)
        write_record(Path("unet", name, "metrics.json"), metrics)
        run["ingests"].append(Path(name, "ingest.json"))
        run["predictions"].append(
            paths | {"volume": name, "metrics": f"unet/{name}/metrics.json"}
        )
    report(**run)
    page = run["output"].read_text()
    pictures = sum(len(part.partition('"')[0]) for part in page.split('src="data:')[1:])
    assert pictures > 0.7 * PICTURE_BYTES, "the budget is used"
    assert len(page.encode()) < MOST_BYTES
    told = [f"volume-{NUM_VOLUMES - 1 - number:04d}" for number in range(NUM_VOLUMES)]
    assert found(r"<strong>(volume-\d+)</strong>", page) == told[:MOST_DETAILED]
    assert page.count('alt="errors"') >= MOST_DETAILED, "each of them shows a section"
    lines = page.partition("A line for each volume")[2]
    assert found(r'<th scope="row">(volume-\d+)</th>', lines)[:NUM_VOLUMES] == told


def found(pattern: str, text: str) -> list[str]:
    return re.findall(pattern, text)
