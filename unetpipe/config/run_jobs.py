"""Which jobs a whole run has, each by a record that it leaves behind.

::

    records_of_jobs     a run that is described  -> a file a job
"""

from collections.abc import Iterator

from unetpipe.config.described import Described
from unetpipe.config.lot_steps import LEFT_BY, LotSteps


def records_of_jobs(shown: Described, steps: LotSteps) -> dict[str, bool]:
    """Return of each job of a run one file that it leaves; ``all`` is none.

    And whether the job predicts the volumes of a lot.

    Parameters
    ----------
    shown : Described
    steps : LotSteps
        Of the volumes, which share jobs or have jobs of their own.
    """
    layout, alone = shown.layout, steps.alone()
    found = [
        layout.manifest,
        *(getattr(layout, LEFT_BY[rule][0]).format(**n) for rule, n in alone),
        *_of_networks(shown),
        *_of_copies(shown),
        *_of_pages(shown),
    ]
    lots = {lot["record"]: bool(lot["model"]) for lot in steps.watched()}
    return dict.fromkeys(found, False) | lots


def _of_networks(shown: Described) -> Iterator[str]:
    """Yield what is left of each network: trained, taken over, joined, calibrated."""
    lookups, layout = shown.lookups, shown.layout
    for model in lookups.models:
        is_joined = model in lookups.ensembles
        yield (layout.model if is_joined else layout.training).format(model=model)
        if model not in lookups.adopted:  # else it brings its own
            yield from lookups.calibrated(layout.calibration, model)
    yield from lookups.exported_models()


def _of_copies(shown: Described) -> Iterator[str]:
    """Yield what is left of pyramids in parts, and of probabilities that go."""
    lookups, layout = shown.lookups, shown.layout
    for record in lookups.pyramids():
        folder, _, name = record.rpartition("/")
        place = folder.removeprefix(f"{layout.results}/")
        kind = name.removesuffix("-pyramid.json")
        pattern = layout.pyramid_part.replace("{place}", place).replace("{kind}", kind)
        yield from lookups.parts(pattern, "pyramid")
        yield record
    if not shown.config.prediction.keep_probability:
        for model, volume in lookups.predicted_pairs():
            yield layout.dropped.format(model=model, volume=volume)


def _of_pages(shown: Described) -> Iterator[str]:
    """Yield the pages, and the tables of the run."""
    lookups, layout = shown.lookups, shown.layout
    for model in lookups.models:
        yield from (layout.page.format(model=model), *shown.suggestions_of(model))
    yield from shown.comparison()
    yield from lookups.measured_tables()
    yield from (layout.table, layout.catalogue, layout.run_page)
