"""Images where they lie: OME-Zarr in object storage and on web servers.

obstore asks the servers, zarr reads what they send. Credentials are found as obstore
finds them (environment, machine's own role), and never written down.
"""

import hashlib
import importlib
import logging
import re
from collections import OrderedDict
from datetime import timedelta
from typing import Any

import zarr
from zarr.storage import WrapperStore

from unetpipe.errors import DataError
from unetpipe.images.array_source import load_format_library
from unetpipe.images.files import METADATA, REMOTE, Address
from unetpipe.images.ngff_metadata import read_ngff_level
from unetpipe.images.source import ImageSource
from unetpipe.images.tensor_source import TensorSource
from unetpipe.images.zarr_store import ZarrSource

log = logging.getLogger(__name__)

KEPT_BYTES = 1 << 28  # of answers: neighbouring boxes share chunks at their borders
TOLD = 200  # letters of what a library says
CLIENT = {"timeout": "60s", "connect_timeout": "10s", "allow_http": True}
RETRIES = {
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=10),
        "base": 2,
    },
}


class CountedStore(WrapperStore[Any]):
    """A store that counts requests and bytes, and keeps the latest answers."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.num_requests = self.num_bytes = self._kept_bytes = 0
        self._kept: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self.metadata: dict[str, bytes] = {}

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Return an answer; of one that is kept nobody is asked."""
        place = (key, repr(byte_range))
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place]
        self.num_requests += 1
        found = await self._store.get(key, prototype, byte_range)
        size = 0 if found is None else len(found)
        self.num_bytes += size
        if found is not None and key.rpartition("/")[2] in METADATA:
            self.metadata[key] = found.to_bytes()
        self._kept[place] = found
        self._kept_bytes += size
        while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= 0 if oldest is None else len(oldest)
        return found

    async def get_partial_values(self, prototype: Any, key_ranges: Any) -> list[Any]:
        """Return several answers."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]


class RemoteZarr(ZarrSource):
    """One level of an OME-Zarr image, or a Zarr array, on a server.

    Parameters
    ----------
    address : str
        Of an image, or of an array inside of one.
    level : int
        Of an image's pyramid; 0: full resolution.
    """

    def __init__(self, address: str, *, level: int = 0) -> None:
        self._address = Address(address)
        self._store = open_store(address)
        try:
            node = zarr.open(self._store, mode="r")
            self._describe_node(self._address, node, level)
        except DataError:
            raise
        except Exception as error:
            raise explain_server_error(address, error) from error
        whole = sorted(self._store.metadata.items())
        self._address.num_bytes = sum(len(text) for _, text in whole)
        digest = hashlib.sha256()
        for key, text in whole:
            digest.update(f"{key}\0{len(text)}\n".encode() + text)
        self._address.sha256 = digest.hexdigest()
        self.files, self._folder = (self._address,), self._address
        self._is_zipped = False

    def _failed(self, place: str, error: Exception) -> DataError:
        return explain_server_error(str(self._path), error, place)

    def all_files(self) -> tuple[Any, ...]:
        """Return the address: of its metadata the hash is known."""
        return self.files

    def recorded(self) -> tuple[Any, ...]:
        """Return the address."""
        return self.files

    def warnings(self) -> list[str]:
        """Say nothing: which chunks there are a web server does not tell."""
        return []

    @property
    def is_ready(self) -> bool:
        """Whether it can be used where it is: its halos would be fetched anew."""
        return False

    @property
    def traffic(self) -> tuple[int, int]:
        """Requests, and bytes that came."""
        return self._store.num_requests, self._store.num_bytes

    def close(self) -> None:
        """Tell what was fetched."""
        log.info("%s: %d requests, %d bytes", self._path, *self.traffic)

    def _look_around(self, path: Any) -> Any:
        """Return what an image says that lies around an array."""
        for parent in list(path.parents)[:3]:
            if str(parent).count("/") < 3:
                break
            try:
                group = zarr.open_group(open_store(str(parent)), mode="r")
            except Exception:
                log.debug("no group at %s", parent)
                continue
            if found := read_ngff_level(
                parent, group, path.relative_to(parent).as_posix()
            ):
                return found
        return None


def open_remote(address: str, level: int = 0) -> ImageSource:
    """Open an image by its address.

    Raises
    ------
    DataError
        If nothing is there, the server is dead or forbids it, or cannot send parts; or
        if the address holds a password.
    """
    match = REMOTE.match(address)
    assert match
    if "@" in match["address"].split("/")[2] or "?" in address:
        raise DataError(
            "an address in the sheet holds a user, a password or a signature, which "
            "records would tell; leave them out: credentials are taken from the "
            "environment (AWS_ACCESS_KEY_ID and so on)"
        )
    if match["form"]:
        return TensorSource.of_address(
            match["form"], match["address"], level, explain_server_error
        )
    return RemoteZarr(match["address"].rstrip("/"), level=level)


def open_store(address: str) -> CountedStore:
    """Return the store at an address, asked with retries that wait ever longer."""
    library = load_format_library("obstore", "obstore", address, extra="cloud")
    stores = importlib.import_module(f"{library.__name__}.store")
    client = {**CLIENT}
    store = stores.from_url(address, client_options=client, retry_config=RETRIES)
    return CountedStore(zarr.storage.ObjectStore(store, read_only=True))


def explain_server_error(address: str, error: Exception, place: str = "") -> DataError:
    """Return an error that says what a server did, and what helps."""
    said = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")
    # What a path, a port or a duration is made of says nothing.
    words = re.sub(r"\w+://\S+|[\d.]+ ?[mµn]?s\b", "", said).lower()
    where = f" at {place}" if place else ""
    if isinstance(error, FileNotFoundError) or "notfound" in words:
        what = "holds no Zarr store: correct the sheet, or copy the store there"
    elif re.search(r"\brange|partial", words):
        what = (
            "lies on a server that sends files only as wholes, not the parts that were "
            "asked for (it knows no ranges); put it on one that does (nginx, S3), or "
            "copy it to a disk"
        )
    elif re.search(
        r"permission|unauthenticated|forbidden|\b40[13]\b|credential", words
    ):
        what = (
            "may not be read: give credentials in the environment (AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS), or for public "
            "data AWS_SKIP_SIGNATURE=true or GOOGLE_SKIP_SIGNATURE=true"
        )
    elif re.search(r"codec|decompress|checksum|jsondecode|metadata", words):
        what = "is damaged: write or copy it again"
    else:
        what = "cannot be reached; repeat the same command: what was stored is kept"
    return DataError(f"{address}{where} {what} ({said[:TOLD]})")
