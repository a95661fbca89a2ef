"""What the reports read and compare."""


def compared_pairs():
    """Return (model, volume) of all test scores that are compared.

    Ensembles of folds are among them: what they are tested on all networks are.
    """
    return predicted_pairs("test") if any(SHEET.folds) else trained_pairs("test")


def scored_networks():
    """Return what tells the networks of all test scores apart, in their order."""
    return [
        {
            "model": model,
            "volume": volume,
            "variant": MODELS[model].variant,
            "fold": "" if model in ENSEMBLES else NETWORKS[model].fold,
            "seed": None if model in ENSEMBLES else NETWORKS[model].seed,
            "shared": shared_sections(volume),
            "is_joined": model in ENSEMBLES,
        }
        for model, volume in compared_pairs()
    ]


def shared_sections(volume):
    """Return the test sections that the networks of all folds have in common."""
    rows = SHEET.of_fold("", "test") if any(SHEET.folds) else ()
    sections = [row.sections for row in rows if row.volume == volume]
    return "all" if None in sections else sorted(set().union(*sections))


def compared_variants():
    """Return what tells variants apart; each of several adopted networks is one."""
    if len(ADOPTED) > 1:
        return {name: {"trained": folder} for name, folder in ADOPTED.items()}
    return CONFIG.variants


def suggested(record):
    """Return an input function: the suggestions, if a network learns from annotations."""

    def records(wildcards):
        return [] if ADOPTED or wildcards.model in ENSEMBLES else [record]

    return records


def are_networks_compared():
    """Tell whether several networks are scored."""
    return len({model for model, _ in trained_pairs("test")}) > 1


def compared(pattern):
    """Fill a path pattern with every network and volume that are compared."""
    return [pattern.format(model=m, volume=v) for m, v in compared_pairs()]


def training_files(wildcards):
    """Return the files that the report reads of a network, or of an ensemble."""
    model = wildcards.model
    if model not in ENSEMBLES:
        return files_of_training(model)
    members = [files_of_training(member) for member in ENSEMBLES[model].members]
    own = {"model": model, "model_json": f"{RESULTS}/{model}/model.json"}
    return own | {"members": members}


def files_of_training(model):
    """Return the files that tell how a network was trained."""
    names = {
        "record": "train.json",
        "model_json": "model.json",
        "history": "history.csv",
    }
    return {"model": model} | {
        key: f"{RESULTS}/{model}/{file}" for key, file in names.items()
    }


def trained_files(wildcards):
    """Return the records of a network, or of an ensemble and its members."""
    files = training_files(wildcards)
    if wildcards.model not in ENSEMBLES:
        return files["record"]
    records = [member["record"] for member in files["members"]]
    return [files["model_json"], *records]


def prediction_files(model=None):
    """Return the files that the reports read of each prediction, or of a network's."""
    scored = set(predicted_pairs("validate", "test"))
    names = ("probe", "plan", "prediction", "segmentation", "metrics")
    return [
        {"model": of, "volume": volume}
        | {
            name: (
                f"{RESULTS}/{of}/{volume}/{name}.json"
                if name != "metrics" or (of, volume) in scored
                else None
            )
            for name in names
        }
        for of, volume in predicted_pairs("validate", "test", "predict")
        if model in (None, of)
    ]


def configuration_of(wildcards):
    """Return the whole configuration of a network, as plain values."""
    return MODELS[wildcards.model].config.model_dump(mode="json")


def predictions_of(wildcards):
    """Return the files that a network's report reads of its predictions."""
    return prediction_files(wildcards.model)


def reported(name):
    """Return an input function: a record of each prediction of a network."""

    def records(wildcards):
        return [p[name] for p in predictions_of(wildcards) if p[name]]

    return records


def reported_volumes(pattern, *roles):
    """Return an input function: a record of each volume of a network, in its roles."""

    def records(wildcards):
        rows = rows_of_network(wildcards.model, *roles)
        volumes = dict.fromkeys(row.volume for row in rows)
        return [pattern.format(volume=volume) for volume in volumes]

    return records


def compared_models():
    """Return the networks that the first page compares, the reference first."""
    ours = [
        {
            "name": f"{CONFIG.name}/{model}" if CONFIG.compare else model,
            "folder": f"{RESULTS}/{model}",
            "volumes": SHEET.volumes_of(network.fold, "validate", "test", "predict"),
        }
        for model, network in NETWORKS.items()
    ]
    ours += [
        {
            "name": f"{CONFIG.name}/{model}" if CONFIG.compare else model,
            "folder": f"{RESULTS}/{model}",
            "volumes": SHEET.volumes_of("", "test", "predict"),
        }
        for model in ENSEMBLES
    ]
    earlier = [
        {
            "name": "/".join(Path(folder).parts[-2:]),
            "folder": folder,
            "volumes": [
                volume
                for volume in SHEET.volumes
                if Path(folder, volume, "segmentation.json").exists()
            ],
        }
        for folder in CONFIG.compare
    ]
    return earlier + ours


def earlier_records():
    """Return the records of earlier runs that the first page reads."""
    return [
        str(path)
        for model in compared_models()
        if model["folder"] in CONFIG.compare
        for path in (
            Path(model["folder"], "train.json"),
            *(
                Path(model["folder"], volume, "segmentation.json")
                for volume in model["volumes"]
            ),
        )
    ]
