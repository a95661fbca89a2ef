"""Rule predict_lot: predict, segment and score a lot's volumes in one process."""

from collections.abc import Mapping, Sequence
from typing import Any

from unetpipe.lots.orders import read_orders
from unetpipe.lots.running import LotFiles, run_lot


def predict_lot(
    *,
    orders: Mapping[str, Sequence[Mapping[str, Any]]],
    files: LotFiles,
) -> None:
    """Take volumes from probing to scores by the steps of jobs of their own.

    Parameters
    ----------
    orders : mapping
        Of each volume its steps, as ``StepOrder``.
    files : LotFiles
        What is left, beside each volume's own records and stores.

    Raises
    ------
    DataError
        After the last volume, if some have failed; names them and their causes.
    Interrupted
        If the job was told to stop; repeating it goes on.
    """
    run_lot(read_orders(orders), files)
