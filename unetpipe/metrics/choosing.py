"""When a choice, or what came of it, looks like a mistake."""

FLAT = 1e-3  # scores that differ by less choose nothing
FACTOR = 3.0  # found against true objects


def notes_on_chosen_metric(
    num_found: int, num_true: int, where: str
) -> tuple[str, ...]:
    """Say that found and true objects differ by more than three times, with advice.

    Parameters
    ----------
    num_found, num_true : int
        Objects that were made, and that were annotated.
    where : str
        Of what, for the sentence.

    Examples
    --------
    >>> notes_on_chosen_metric(30, 10, "the test sections")
    ()
    >>> "drops small" in notes_on_chosen_metric(40, 10, "the test sections")[0]
    True
    >>> "cuts those" in notes_on_chosen_metric(2, 10, "the test sections")[0]
    True
    """
    if num_true and num_true / FACTOR <= num_found <= num_true * FACTOR:
        return ()
    if not num_true and not num_found:
        return ()
    advice = (
        "segmentation.smallest_object_vox drops small ones; of affinities a lower "
        "segmentation.merge_threshold joins more"
        if num_found > num_true
        else "segmentation.method: watershed cuts those that touch; of affinities a "
        "higher segmentation.merge_threshold joins fewer"
    )
    return (
        f"{num_found} objects are found in {where}, where {num_true} are annotated; "
        f"{advice}",
    )
