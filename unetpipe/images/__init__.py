"""Read any image file as sections: what a cell names, formats, axes, voxel sizes.

::

    cell of the sheet --cells--> ImageSource (the file's own axes)
                      --axes---> ImageReader (c, z, y, x)
"""

from unetpipe.images.reader import ImageReader, Reading, open_image, open_masks

__all__ = ["ImageReader", "Reading", "open_image", "open_masks"]
