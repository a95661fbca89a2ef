"""What the end of a run says: where the results are, what failed, what is left over."""

import shlex

from snakemake.io import regex_from_filepattern

from unetpipe.runtime.logs import last_error
from unetpipe.runtime.machine import folder_bytes
from unetpipe.runtime.text import format_table

# Of many volumes the first ones are told; the catalogue has all.
TOLD = 5
SILENT = "it ended without a word: cancelled, or killed (out of memory?)"
# What Snakemake says of Ctrl-C, and of SIGTERM.
WAS_STOPPED = re.compile("Terminating processes on user|Will exit after finishing curr")


def describe_results():
    """Return where the results are and how to look at them."""
    told = []
    for model, volume in predicted_pairs("validate", "test", "predict"):
        record = Path(f"{RESULTS}/{model}/{volume}/segmentation.json")
        prediction = Path(f"{RESULTS}/{model}/{volume}/prediction.json")
        ingest = Path(f"{RESULTS}/volumes/{volume}/ingest.json")
        if record.exists() and ingest.exists() and prediction.exists():
            image = read_record(ingest)["image"]["store"]
            shown = read_record(prediction)["outputs"]["probability"]["store"]
            store = read_record(record)["store"]
            stores = [image, *([] if is_dropped(Path(shown)) else [shown]), store]
            told.append(
                f"Segmentation of {volume} by {model}: {store}\n"
                f"  look at it:  napari {' '.join(stores)}"
            )
    lines = told[:TOLD]
    if len(told) > TOLD:
        lines.append(f"{len(told) - TOLD} more: {RESULTS}/catalogue.csv lists all.")
    lines += describe_dropped()
    page = Path(f"{RESULTS}/report.html")
    if page.exists():
        lines += [f"Report: {page}", f"  look at it:  xdg-open {page}"]
    return "\n".join(["", *lines, *describe_left_over()])


def describe_dropped():
    """Return how much disk was given back by dropping probabilities."""
    if CONFIG.prediction.keep_probability:
        return []
    found = predicted(
        rules.drop_probability.output.record, "validate", "test", "predict"
    )
    records = [read_record(Path(path)) for path in found if Path(path).exists()]
    saved = sum(record["num_bytes"] for record in records)
    return [
        f"keep_probability: false saves {saved} bytes ({describe_quantity(saved, 'B')}) "
        f"of disk, in {len(records)} predictions"
    ]


def describe_failure(run_log):
    """Return which jobs failed and why, and what to do.

    Parameters
    ----------
    run_log : str or list of str
        Snakemake's own log of the run; what cannot be read there is left out.
    """
    rows = [failed_row(*job) for job in failed_jobs(run_log)]
    was_told = bool(WAS_STOPPED.search(read_log(run_log)))
    causes = ("Interrupted: ", SILENT) if was_told else ("Interrupted: ",)
    is_stopped = all(row[-1].startswith(causes) for row in rows) if rows else was_told
    how = "stopped" if is_stopped else "failed"
    lines = ["", f"Something {how}; the logs are in {LOGS}/."]
    if rows:
        table = format_table(("volume", "network", "rule", "cause"), sorted(rows))
        many = f"{len(rows)} jobs {how}:"
        one = f"A job {'was ' if is_stopped else ''}{how}:"
        lines = ["", many if rows[1:] else one, table]
    again = shlex.join(["snakemake", *sys.argv[1:]])
    lines += [
        (
            "All finished work is kept. To go on, repeat"
            if is_stopped
            else "What does not depend on it is done, and all finished work is kept: "
            "mend the cause and repeat"
        ),
        f"  {again}",
    ]
    if not is_stopped and any(volume for volume, *_ in rows):
        lines.append(
            "Catalogue and reports wait for all volumes of the sheet. To do without "
            f"one, write # before its rows in {CONFIG.volumes}."
        )
    return "\n".join(lines)


def failed_jobs(run_log):
    """Return (rule, log) of the jobs that failed and were not done by a later attempt."""
    failed = {}
    events = re.finditer(
        r"^Error in rule\s(?P<rule>\w+):\n(?P<about>(?: +.*\n)*)"
        r"|Finished jobid: (?P<done>\d+)",
        read_log(run_log),
        re.MULTILINE,
    )
    for event in events:
        if event["done"]:
            failed.pop(event["done"], None)
            continue
        about = dict(re.findall(r"^    (\w+): (\S+)", event["about"], re.MULTILINE))
        if {"jobid", "log"} <= about.keys():
            failed[about["jobid"]] = (event["rule"], about["log"].rstrip(","))
    return list(failed.values())


def read_log(run_log):
    """Return what Snakemake wrote into its own log, or logs, of the run."""
    paths = [run_log] if isinstance(run_log, str) else run_log
    return "".join(Path(path).read_text(errors="replace") for path in paths)


def failed_row(rule, log):
    """Return volume, network, rule and one-line cause of a failed job."""
    pattern = regex_from_filepattern(str(workflow.get_rule(rule).log[0]))
    found = re.match(pattern, log)
    of = found.groupdict() if found else {}
    cause = last_error(Path(log)) or SILENT
    volume = of.get("volume", of.get("place", "").split("/")[-1])
    return (volume, of.get("model", ""), rule, f"{cause}  ({log})")


def describe_left_over():
    """Return one line on volumes that have results and are in the sheet no more."""
    root, folders = Path(RESULTS), {}
    found = [*root.glob("volumes/*/"), *(p.parent for p in root.glob("*/*/p*-*/"))]
    for folder in found + [path.parent for path in root.glob("*/*/p*.json")]:
        if folder.name not in (*SHEET.volumes, *RUN.left_out):
            folders.setdefault(folder.name, set()).add(folder)
    if not folders:
        return []
    paths = [path for of in folders.values() for path in of]
    size = describe_quantity(sum(map(folder_bytes, paths)), "iB", base=1024)
    names = sorted(folders)
    told = ", ".join(names[:TOLD]) + (", ..." if names[TOLD:] else "")
    return [
        f"No more in {CONFIG.volumes}: {told}; the results stay ({size}). To delete "
        "them:",
        "  rm -r " + " ".join(f"{RESULTS}/*/{name}" for name in names),
    ]
