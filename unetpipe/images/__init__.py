"""Read any image as sections: TIFF, PNG, sequences, HDF5, OME-Zarr.

::

    cell of the sheet --cells--> ImageSource (the file's own axes)
                      --axes---> ImageReader (c, z, y, x)
"""

from unetpipe.images.reader import ImageReader, Reading, open_image, open_masks

__all__ = ["ImageReader", "Reading", "open_image", "open_masks"]
