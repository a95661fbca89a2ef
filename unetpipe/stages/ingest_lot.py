"""Rule ingest_lot: store the small volumes of a lot in one process."""

from collections.abc import Mapping, Sequence
from typing import Any

from unetpipe.lots.orders import read_orders
from unetpipe.lots.running import LotFiles, run_lot


def ingest_lot(
    *,
    orders: Mapping[str, Sequence[Mapping[str, Any]]],
    files: LotFiles,
    may_fail: bool,
) -> None:
    """Store volumes and labels by the steps that jobs of their own would take.

    Parameters
    ----------
    orders : mapping
        Of each volume its steps, as ``StepOrder``.
    files : LotFiles
        What is left, beside each volume's own records and stores.
    may_fail : bool
        A volume that fails is tried again by the lot's prediction, so that it keeps no
        other waiting: no network learns from any, and one predicts all.

    Raises
    ------
    DataError
        After the last volume, if some have failed and may not.
    """
    run_lot(read_orders(orders), files, may_fail=may_fail)
