"""A run whose folder was renamed, or copied, lives from its own stores.

Records name stores by their path from the working folder, with the name of the run in
it. Where a record names a store of another folder, and the same store lies in its own,
the folder is a renamed one or a copy.
"""

import os
import re
from pathlib import Path

from unetpipe.runtime.files import write_bytes_atomic
from unetpipe.runtime.run_files import list_small_files

TEXTS = (".json", ".html")
# Tables that name stores: whoever asks for them has them made again.
TABLES = ("catalogue.csv", "catalogue.parquet", "metrics.csv")
# A path begins in a record, in the text of a page, or where a page's viewer serves it.
BEFORE = rb"(?<=[\s\"'>;])|(?<=:8080/)"
STORE = re.compile(r'"store": "(?P<root>[^"]+)/volumes/(?P<rest>[^"/]+/[^"/]+\.zarr)"')


def former_folder(results: Path) -> str | None:
    """Return the folder that the records of a run name in place of its own."""
    for record in sorted(results.glob("volumes/*/ingest.json")):
        found = STORE.search(record.read_text(errors="replace"))
        if (
            found
            and found["root"] != str(results)
            and (results / "volumes" / found["rest"]).is_dir()
        ):
            return found["root"]
    return None


def take_over_records(results: Path) -> str:
    """Let the records of a renamed or copied run name its own stores.

    Dates stay, so that nothing is made again for it but tables of paths.

    Parameters
    ----------
    results : Path
        Folder of the run.

    Returns
    -------
    str
        A line on it; empty where there was nothing to do.
    """
    former = former_folder(results)
    if former is None:
        return ""
    begins = re.compile(b"(?:%s)" % BEFORE + re.escape(f"{former}/").encode())
    for path in list_small_files(results):
        if path.suffix not in TEXTS:
            continue
        text = path.read_bytes()
        own = begins.sub(f"{results}/".encode(), text)
        if own != text:
            dates = path.stat()
            write_bytes_atomic(path, own)
            os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    for name in TABLES:
        (results / name).unlink(missing_ok=True)
    # They know records by hashes. Without them settings and dates tell what is done.
    for journal in results.glob("lots/**/*.jsonl"):
        journal.unlink()
    return (
        f"The records of {results} named stores in {former}, from which it was renamed "
        "or copied; they name its own now."
    )
