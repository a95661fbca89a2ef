"""Which channels of an image are read, as the sheet's column `channels` says."""

from collections.abc import Sequence
from dataclasses import replace

from unetpipe.errors import DataError
from unetpipe.images.axes import AxisPlan


def select_image_channels(
    plan: AxisPlan, wanted: Sequence[str], names: Sequence[str], file: str
) -> AxisPlan:
    """Return a plan that reads some channels only, in the order wanted.

    Parameters
    ----------
    plan : AxisPlan
        Of the file.
    wanted : sequence of str
        Names of channels, or numbers from 0 where no channel has such a name. Empty:
        all channels.
    names : sequence of str
        Of all channels, if the file names them.
    file : str
        For the message.

    Raises
    ------
    DataError
        If a channel is not there, or the image is a colour image.

    Examples
    --------
    >>> plan = AxisPlan("czyx", (3, 9, 64, 64))
    >>> names = ["DAPI", "GFP", "RFP"]
    >>> select_image_channels(plan, ["GFP", "0"], names, "a.tif").channels
    (1, 0)
    """
    if not wanted:
        return plan
    if plan.num_samples:
        raise DataError(
            f"{file} is a colour image, but channels is {','.join(wanted)!r} in the "
            "sheet; write axes with c for its colours (yxc) to choose among them, or "
            "leave channels empty"
        )
    count = plan.shape[0]
    names = names if len(names) == count else ()
    chosen = []
    for channel in wanted:
        if channel in names:
            chosen.append(list(names).index(channel))
        elif channel.isdecimal() and int(channel) < count:
            chosen.append(int(channel))
        else:
            there = f", named {', '.join(names)}" if names else ""
            raise DataError(
                f"{file} has no channel {channel!r}; the sheet's column `channels` may "
                f"name {'0' if count == 1 else f'0 to {count - 1}'}{there}"
            )
    if len(set(chosen)) < len(chosen):
        raise DataError(
            f"{file}: channels is {','.join(wanted)!r} in the sheet, which names one "
            "channel twice; name each once"
        )
    is_all = chosen == list(range(count))
    return plan if is_all else replace(plan, channels=tuple(chosen))
