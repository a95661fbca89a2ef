"""A network of an earlier run is applied to volumes that nobody annotated."""

import json
import re

APPLIED = """
name: applied
trained: results/tiny/unet
source: phantom:cells
volumes: config/applied.tsv
phantom: {shape: [4, 64, 64], num_cells: 12}
prediction: {parts: 1, threads: 1, stride: [1, 32, 32]}
"""
SHEET = "volume\timage\trole\taxes\ncells\tphantom/image.tif\tpredict\tzyx\n"


def test_a_network_is_applied_without_training_or_annotations(finished):
    (finished.folder / "config/applied.yaml").write_text(APPLIED)
    (finished.folder / "config/applied.tsv").write_text(SHEET)
    done = finished.snakemake(config="applied")
    ran = set(re.findall(r"[(]Rule: (\w+)[)]", done.stderr))
    assert "adopt_network" in ran
    assert not ran & {"train_unet", "compute_weight_map", "suggest_settings"}
    results = finished.folder / "results"
    ours, theirs = (
        json.loads((results / run / "unet/cells/prediction.json").read_text())
        for run in ("applied", "tiny")
    )
    assert ours["content_sha256"] == theirs["content_sha256"]
    page = (results / "applied/report.html").read_text()
    assert "was taken over from results/tiny/unet" in page
    assert "Nothing to be done" in finished.snakemake(config="applied").stderr
    status = finished.snakemake("--cores", "1", "status", config="applied").stdout
    assert re.search(r"unet +adopt_network +done", status)
