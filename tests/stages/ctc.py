"""Sequences in the layout of the Cell Tracking Challenge, drawn and written."""

import numpy as np
import tifffile


def write(path, frame):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, frame, photometric="minisblack")


def drawn_sequence(num_frames=6, size=32):
    """Four cells that stay, ids 1 to 4, as uint16 (t, y, x)."""
    cells = np.zeros((num_frames, size, size), np.uint16)
    for t in range(num_frames):
        for k, (y, x) in enumerate(((2, 2), (2, 18), (18, 2), (18, 18)), start=1):
            cells[t, y : y + 10, x + t % 3 : x + 10 + t % 3] = k
    return cells


def write_sequence(root, cells, *, gold=(1, 4), sparse=(4,), silver=True, digits=3):
    """Write frames, markers of all cells, gold of some frames, silver of all.

    In sparse frames gold lacks cells 3 and 4, and silver lacks cell 4.
    """
    for t, frame in enumerate(cells):
        name = f"{t:0{digits}d}.tif"
        write(root / "01" / f"t{name}", (40 * frame).astype(np.uint8))
        markers = np.zeros_like(frame)
        for k in np.unique(frame[frame > 0]):
            y, x = np.argwhere(frame == k).mean(axis=0).astype(int)
            markers[y : y + 2, x : x + 2] = k
        write(root / "01_GT" / "TRA" / f"man_track{name}", markers)
        if silver:
            kept = np.where(frame == 4, 0, frame) if t in sparse else frame
            write(root / "01_ST" / "SEG" / f"man_seg{name}", kept)
        if t in gold:
            kept = np.where(frame > 2, 0, frame) if t in sparse else frame
            write(root / "01_GT" / "SEG" / f"man_seg{name}", kept)
    tracks = "".join(f"{k} 0 {len(cells) - 1} 0\n" for k in range(1, 5))
    (root / "01_GT" / "TRA" / "man_track.txt").write_text(tracks)
