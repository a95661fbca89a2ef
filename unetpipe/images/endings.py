"""Endings of file names: what is read as what, and what needs another program first.

This is the one table: readers open by it, and the survey of a folder looks by it.
"""

from typing import NamedTuple

SECTIONS = (".png", ".tif", ".tiff")
"""Files that may be one section each, one channel each, or one object each."""
# Slides, microscopes and large files are TIFF by other names.
TIFF = (
    *(".tif", ".tiff", ".btf", ".tf2", ".tf8", ".svs", ".scn", ".ndpi", ".qptiff"),
    *(".bif", ".lsm", ".stk"),
)
PICTURES = (".jpg", ".jpeg", ".bmp", ".gif")
"""Sections too, where a folder has no others."""
HDF5 = (".h5", ".hdf5", ".hdf", ".h5.gz", ".hdf5.gz", ".hdf.gz")
NIFTI = (".nii", ".nii.gz")
MRC = (".mrc", ".mrcs", ".rec", ".st", ".map")
NRRD = (".nrrd",)
IMARIS = (".ims",)
MICROSCOPES = (".czi", ".nd2", ".lif")
ZIPPED_ZARR = (".zip", ".ozx")

CHANNELS = (*SECTIONS, *NIFTI, *MRC, *NRRD)
"""Files that may be one channel each."""
_OF_FIELDS = (*NIFTI, *MRC, *NRRD, *IMARIS, *MICROSCOPES)
IMAGES = (*SECTIONS, *TIFF, *PICTURES, *_OF_FIELDS, *ZIPPED_ZARR)
"""Files of one image each; HDF5 and OME-Zarr folders may hold several."""


class Foreign(NamedTuple):
    """A format that is not read: what it is, and what to do."""

    kind: str
    advice: str


_MICROSCOPES = "convert it to OME-TIFF or OME-Zarr, with Fiji (Bio-Formats) or "
_UNPACK = "unpack it, or give it as `source`"
CONVERTED = {
    ending: Foreign(kind, f"{_MICROSCOPES}bioformats2raw")
    for ending, kind in {
        ".oib": "Olympus OIB",
        ".oif": "Olympus OIF",
        ".vsi": "Olympus VSI",
        ".dm3": "Gatan DM3",
        ".dm4": "Gatan DM4",
    }.items()
} | {
    ".n5": Foreign("N5", "name its arrays in the sheet by hand, such as a.n5/s0"),
    ".nhdr": Foreign("a header of NRRD", "save header and voxels as one .nrrd file"),
    **dict.fromkeys(
        (".hdr", ".img"),
        Foreign("half of a pair (NIfTI, Analyze)", "save it as one .nii.gz file"),
    ),
    ".npy": Foreign("an array of NumPy", "save it as TIFF, PNG or OME-Zarr"),
    **dict.fromkeys((".zip", ".tar", ".tgz"), Foreign("an archive", _UNPACK)),
    ".gz": Foreign("packed", _UNPACK),
}
"""Ending of a file's name -> what it is, and what its user is to do."""

SUFFIXES = sorted(
    (*IMAGES, *HDF5, ".ome.tif", ".ome.tiff", ".ome.zarr", ".zarr"),
    key=len,
    reverse=True,
)
"""All of them, the longest first; with those of OME-Zarr folders."""


def split_suffix(name: str) -> tuple[str, str]:
    """Return the name of a file without its ending, and the ending.

    Examples
    --------
    >>> split_suffix("cortex.ome.tif")
    ('cortex', '.ome.tif')
    """
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], name[-len(suffix) :]
    return name, ""
