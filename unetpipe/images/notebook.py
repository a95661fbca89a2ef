"""Any image as a lazy array, for notebooks: the same reading as in the workflow."""

from pathlib import Path

from unetpipe.images.reader import ImageReader, Reading
from unetpipe.images.reader import open_image as open_cell_of_sheet


def open_image(
    path: str | Path,
    *,
    axes: str = "",
    time: int | None = None,
    channels: tuple[str, ...] = (),
    level: int = 0,
    num_threads: int = 1,
) -> ImageReader:
    """Open any image that the sheet can name, without reading its voxels.

    Parameters
    ----------
    path : str or Path
        A file, ``file.h5:dataset``, an OME-Zarr, a folder or a pattern of sections.
    axes : str
        Order of its axes, like ``zcyx``; empty: what the file says.
    time : int, optional
        Time point to read, from 0; None: the only one.
    channels : tuple of str
        Names or numbers of the channels to read; empty: all.
    level : int
        Of a pyramid; 0: full resolution.
    num_threads : int
        Sections that are decoded at once.

    Returns
    -------
    ImageReader
        A context manager, with ``dask`` (the lazy array: c, z, y, x),
        ``channel_names``, ``voxel_size_nm`` and ``voxel_size_from``, ``files`` (all
        that voxels lie in) and ``remarks`` (what the file leaves open).

    Raises
    ------
    DataError
        If it cannot be read, or its axes are unclear; the message says what to do.

    Examples
    --------
    >>> import numpy as np, tempfile, zarr
    >>> store = f"{tempfile.mkdtemp()}/a.zarr"
    >>> voxels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    >>> _ = zarr.create_array(store, data=voxels, dimension_names=["z", "y", "x"])
    >>> with open_image(store) as image:
    ...     image.dask.shape, int(image.dask[0, 1, 2, 3].compute())
    ((1, 2, 3, 4), 23)
    """
    how = Reading(
        axes=axes, time=time, channels=channels, level=level, num_threads=num_threads
    )
    return open_cell_of_sheet(str(path), Path(), how)
