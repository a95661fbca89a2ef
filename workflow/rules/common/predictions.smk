"""Which predictions there are, and the records of their parts."""


def segmentation_parts(step):
    """Return the records of one step's parts."""
    return [
        f"{PREDICTED}/{step}/{part}.json" for part in range(CONFIG.segmentation.parts)
    ]


def steps_of_segmentation():
    """Return the records of all steps that have jobs of their own."""
    if CONFIG.segmentation.parts == 1:
        return []
    merged = f"{PREDICTED}/segment/merge.json"
    return [*segmentation_parts("segment"), merged, *segmentation_parts("relabel")]


def planned_memory_mb(wildcards, attempt):
    """Return the projected memory of a part, more after each failure."""
    plan = Path(f"{RESULTS}/{wildcards.model}/{wildcards.volume}/plan.json")
    planned = 4 * 2**30
    if plan.exists():
        planned = read_record(plan)["projected"]["peak_rss_bytes"]
    return (planned // 2**20 + SNAKEMAKE_MB) * attempt


def predicted_pairs(*roles):
    """Return (model, volume) of all predictions in these roles."""
    return trained_pairs(*roles) + [
        (model, volume)
        for model in ENSEMBLES
        for volume in SHEET.volumes_of("", *without_validation(*roles))
    ]


def trained_pairs(*roles):
    """Return (model, volume) of the predictions by networks that are no ensembles."""
    return [
        (model, volume)
        for model, network in NETWORKS.items()
        for volume in SHEET.volumes_of(network.fold, *roles)
    ]


def members(pattern):
    """Return an input function: a file of each member of an ensemble."""

    def files(wildcards):
        return [pattern.format(model=m) for m in ENSEMBLES[wildcards.model].members]

    return files


def predicted(pattern, *roles):
    """Fill a path pattern with every model and volume in these roles."""
    pairs = predicted_pairs(*roles)
    return [pattern.format(model=model, volume=volume) for model, volume in pairs]


def exported_models():
    """Return the records of all exported networks, if any are wanted."""
    if not CONFIG.export_model.enabled:
        return []
    return expand(rules.export_model.output.record, model=list(NETWORKS))


def marker_of_kind(wildcards):
    """Return the record that says that a probability is there, if it is coarsened."""
    is_wanted = wildcards.kind == "prediction"
    return f"{RESULTS}/{wildcards.place}/probability.json" if is_wanted else []


def scores_of_pair(wildcards):
    """Return the scores of a prediction, if it is scored."""
    pair = (wildcards.model, wildcards.volume)
    is_scored = pair in predicted_pairs("validate", "test")
    return rules.evaluate_prediction.output.record if is_scored else []


def exports_of_pair(wildcards):
    """Return the records of what is exported of a prediction's probability."""
    return rules.export_ngff04.output.record if CONFIG.export_ngff04 else []


def pages_of_model(wildcards):
    """Return the pages that show a network's probabilities."""
    return [rules.report.output.page, rules.report_run.output.page]


def pages_before_dropping():
    """Return the page that probabilities wait for as for something ancient, if any do.

    If the page is made anew, Snakemake overlooks every reason of what is behind them,
    such as a row that was removed. What names the page itself is made anew with it.
    """
    kept = CONFIG.prediction.keep_probability
    return [] if kept else [rules.report_run.output.page]


def probabilities():
    """Return the records that probabilities are there, or that they were dropped."""
    kept = CONFIG.prediction.keep_probability
    record = (
        rules.finish_prediction.output.marker
        if kept
        else rules.drop_probability.output.record
    )
    return predicted(record, "validate", "test", "predict")


def left_over_results(wildcards):
    """Return where results lie that sheet and configuration ask for no more.

    No job makes any, so a run does not change them; whoever deletes them does.
    """
    wanted = predicted_pairs("validate", "test", "predict")
    asked = {Path(RESULTS, model, volume) for model, volume in wanted}
    found = (
        path.parent
        for kind in ("prediction", "segmentation")
        for path in Path(RESULTS).glob(f"*/*/{kind}-*")
    )
    return sorted(str(path) for path in set(found) - asked)


def pyramids_of_pair(wildcards):
    """Return the records of the pyramids of a prediction and its image, if any."""
    if CONFIG.pyramid.parts == 1:
        return []
    places = {
        "ingest": f"volumes/{wildcards.volume}",
        "prediction": f"{wildcards.model}/{wildcards.volume}",
        "segmentation": f"{wildcards.model}/{wildcards.volume}",
    }
    return [f"{RESULTS}/{p}/{kind}-pyramid.json" for kind, p in places.items()]


def pyramids():
    """Return the records of all pyramids that have jobs of their own."""
    if CONFIG.pyramid.parts == 1:
        return []
    volumes = expand(
        rules.finish_pyramid.output.record,
        place=[f"volumes/{volume}" for volume in SHEET.volumes],
        kind="ingest",
    )
    predictions = expand(
        rules.finish_pyramid.output.record,
        place=[
            f"{model}/{volume}"
            for model, volume in predicted_pairs("validate", "test", "predict")
        ],
        kind=["prediction", "segmentation"],
    )
    return [*volumes, *predictions]
