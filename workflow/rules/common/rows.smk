"""Which rows of the sheet a network or a volume has."""


def without_validation(*roles):
    """Return the roles of an ensemble: its members chose on validation sections."""
    return [role for role in roles if role != "validate"]


def rows_of_network(model, *roles):
    """Return the rows of the sheet that a network uses in these roles.

    An ensemble uses those without a fold: each other section may have taught a member.
    A network that is not trained here has no use for rows to train on.
    """
    if ADOPTED:
        roles = [role for role in roles if role != "train"]
    if model in ENSEMBLES:
        return SHEET.of_fold("", *without_validation(*roles))
    return SHEET.of_fold(NETWORKS[model].fold, *roles)


def rows_of_volume(wildcards):
    """Return a volume's rows of the sheet."""
    return [plain_row(row) for row in SHEET.of_volume(wildcards.volume)]


def plain_row(row):
    """Return what a row says of its voxels, as plain values."""
    # A column that says nothing is no reason to do anything again.
    unsaid = set() if row.level else {"level"}
    return row.model_dump(mode="json", exclude={"optional", *unsaid})


def local_originals(wildcards):
    """Return size and date of a volume's files where the source is a local folder.

    As parameters, not as inputs: dates of two machines are then never compared, only
    whether a file is still the one that was read.
    """
    root = Path(CONFIG.source).expanduser()
    if not root.is_dir():
        return {}
    row = SHEET.of_volume(wildcards.volume)[0]
    try:
        paths = [
            path
            for cell in (row.image, row.labels)
            if cell
            for path in find_files(cell, root)
        ]
    except UnetpipeError as error:
        raise WorkflowError(f"volume {row.volume}: {error}") from None
    return {str(p): [p.stat().st_size, p.stat().st_mtime_ns] for p in paths}


def located_rows(model, *roles):
    """Return where the sections lie that a network has in these roles."""
    return [
        {
            "ingest": f"{RESULTS}/volumes/{row.volume}/ingest.json",
            "weight_map": f"{RESULTS}/volumes/{row.volume}/weight_map.json",
            "sections": row.sections,
            "role": row.role,
        }
        for row in rows_of_network(model, *roles)
    ]


def rows_to_train(model):
    """Return where a network's training and validation sections lie."""
    return [] if model in ADOPTED else located_rows(model, "train", "validate")


def training_rows(wildcards):
    """Return where a network's training and validation sections lie."""
    return rows_to_train(wildcards.model)


def example_row(wildcards):
    """Return the first row that a network learns from, or else that it predicts."""
    met = located_rows(wildcards.model, "validate", "test", "predict")
    return [*training_rows(wildcards), *met][0]


def first_training_records(name):
    """Return a record of each volume that the first network learns from."""
    return sorted({row[name] for row in rows_to_train(next(iter(NETWORKS)))})


def training_records(name):
    """Return an input function: a record of each volume that a network learns from."""

    def records(wildcards):
        return sorted({row[name] for row in training_rows(wildcards)})

    return records


def scored_rows(wildcards):
    """Return the sections of a volume on which a network is scored."""
    return [
        {"role": row.role, "sections": row.sections}
        for row in rows_of_network(wildcards.model, "validate", "test")
        if row.volume == wildcards.volume
    ]


def annotated_volumes():
    """Return the volumes that some network learns from."""
    if ADOPTED:
        return []
    rows = [r for r in SHEET.rows if r.role in ("train", "validate")]
    return list(dict.fromkeys(row.volume for row in rows))


def adopted_file(name):
    """Return an input function: a file of a network that is not trained here."""

    def file(wildcards):
        return f"{ADOPTED[wildcards.model]}/{name}"

    return file


def ingested_parts():
    """Return the records of an image's parts, if they have jobs of their own."""
    count = CONFIG.ingest.parts
    return [f"{INGESTED}/parts/{p}.json" for p in range(count)] if count > 1 else []
