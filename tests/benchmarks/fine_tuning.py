"""What a network of another animal gives: few annotated sections, equal steps.

A network learns membranes on the nerve cord of a larva (``drosophila-vnc-sstem``), then
goes on with 3, 6 and 21 sections of ISBI 2012, beside one that begins with random
weights: two networks at once, of one thread each. Test and validation sections are the
same for all; thresholds and checkpoints come from validation sections.
``UNETPIPE_DATA`` names the folder of the sets (else ``shared/data`` beside the
repository), ``UNETPIPE_TUNING=FOLDER`` keeps the runs, so that one that was interrupted
goes on, ``UNETPIPE_STEPS`` sets the steps (600). The scores are drawn in
``fine_tuning.svg`` there.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.figures import CannotRun, Figure
from tests.benchmarks.first_hour import call, data_folder
from tests.benchmarks.settings import ROOT, Settings
from unetpipe.records.metrics import OURS, TEST, Metrics
from unetpipe.report.page.svg import Line, line_chart, standalone_svg
from unetpipe.runtime.files import write_bytes_atomic

# Both halves of the stack, which differ in noise, are in each.
SECTIONS = {
    3: "5,15,25",
    6: "1,7,11,17,21,27",
    21: "0-1,3,5-8,10-11,13,15-18,20-21,23,25-28",
}
METRICS = {"v_rand": "V_Rand", "v_info": "V_Info", "dice_class_1": "Dice"}
TRAINING = {
    **{"patch": [1, 412, 412], "optimizer": "adamw", "learning_rate": 0.001},
    **{"schedule": "cosine", "warmup_steps": 30, "gradient_clip": 1.0},
    "threads": 1,
}
STEPS = 600
LINES = {"tuned": "fine-tuned", "scratch": "from scratch"}
NETWORK = {"base_channels": 16}
MEMBRANE, INSIDE = (0, 32, 64, 96, 128, 159), (191, 223, 255)


Scores = dict[int, dict[str, dict[str, float]]]  # by sections, start and metric


def measure(settings: Settings) -> list[Figure]:
    """Train the parent, then each pair; compare the scores of the test sections."""
    if settings.is_quick:
        raise CannotRun("there is no toy of two real sets")
    data = data_folder()
    sets = [data / "drosophila-vnc-sstem", data / "isbi2012-em"]
    if gone := [str(folder) for folder in sets if not folder.is_dir()]:
        raise CannotRun(f"not here: {', '.join(gone)}")
    home = Path(os.environ.get("UNETPIPE_TUNING", settings.folder / "tuning")).resolve()
    steps = int(os.environ.get("UNETPIPE_STEPS", STEPS))
    common = {"network": NETWORK, "weight_map": {"class_balance": False}}
    parent = home / "parent"
    _run(parent, _parent(sets[0]) | common, _nerve_cord(), 2 * steps)
    scores = {}
    for count in SECTIONS:
        project = home / f"sections-{count}"
        start = str(parent / "results/parent/unet")
        variants = {"scratch": {}, "tuned": {"training": {"start_from": start}}}
        values = {"name": "child", "source": str(sets[1]), "variants": variants}
        _run(project, values | common, _isbi(SECTIONS[count]), steps)
        scores[count] = {name: _scores(project, name) for name in LINES}
    write_bytes_atomic(home / "fine_tuning.svg", _draw(scores))
    return [figure for count in SECTIONS for figure in _compare(scores, count, steps)]


def _parent(source: Path) -> dict[str, Any]:
    palette = dict.fromkeys(MEMBRANE, 0) | dict.fromkeys(INSIDE, 1)
    labels = {"palette": palette, "class_names": ["membrane", "inside"]}
    return {"name": "parent", "source": str(source), "labels": labels}


def _nerve_cord() -> str:
    image, labels = "stack1/raw/*.tif", "stack1/labels/*.png"
    rows = (("0-15", "train"), ("16-19", "validate"))
    return _sheet((f"vnc\t{image}\t{labels}\t{z}\t{r}\tclasses" for z, r in rows))


def _isbi(sections: str) -> str:
    rows = ((sections, "train"), ("2,12,22", "validate"), ("4,9,14,19,24,29", "test"))
    paths = "train/image/*.png\ttrain/label/*.png"
    return _sheet((f"isbi\t{paths}\t{z}\t{role}\tbinary" for z, role in rows))


def _sheet(rows: Any) -> str:
    columns = ("volume", "image", "labels", "sections", "role", "label_kind")
    return "\n".join(["\t".join(columns), *rows, ""])


def _run(project: Path, values: dict[str, Any], sheet: str, steps: int) -> None:
    config = project / "config"
    config.mkdir(parents=True, exist_ok=True)
    (config / "sheet.tsv").write_text(sheet)
    training = TRAINING | {"steps": steps, "validate_every": max(1, steps // 5)}
    more = {"volumes": "config/sheet.tsv", "training": training}
    (config / "run.yaml").write_text(yaml.safe_dump(values | more))
    snakemake = ("-m", "snakemake", "-s", ROOT / "workflow/Snakefile", "--cores", "2")
    options = ("--resources", "gpu=2", "--rerun-incomplete")
    call(project, [*snakemake, *options, "--configfile", "config/run.yaml"])


def _compare(scores: Scores, count: int, steps: int) -> list[Figure]:
    tuned, scratch = scores[count]["tuned"], scores[count]["scratch"]
    return [
        Figure(
            f"{told}, {count} sections: tuned less from scratch",
            tuned[metric] - scratch[metric],
            basis=f"{tuned[metric]:.4f} and {scratch[metric]:.4f} "
            f"on 6 test sections, {steps} steps each",
            at_least=0.0,
        )
        for metric, told in METRICS.items()
    ]


def _draw(scores: Scores) -> bytes:
    """Draw each metric over the number of annotated sections, side by side."""
    charts = []
    for metric, told in METRICS.items():
        lines = [
            Line([(n, scores[n][name][metric]) for n in scores], words, look, True)
            for look, (name, words) in zip(("s0", "s1"), LINES.items(), strict=True)
        ]
        title = f"{told} of six test sections"
        charts.append(line_chart(title, lines, x_label="annotated sections"))
    return standalone_svg(charts)


def _scores(project: Path, variant: str) -> dict[str, float]:
    (path,) = project.glob(f"results/child/{variant}/isbi/metrics.json")
    return {
        row.metric: row.chosen.score
        for table in Metrics.read(path).tables
        for row in table.rows
        if table.role == TEST and row.predictor == OURS
        if row.chosen and row.chosen.score is not None
    }
