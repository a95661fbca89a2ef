"""Where a volume is predicted: the stores of one recipe, empty until parts fill them.

::

    prediction-<id>/
        probability.ome.zarr     and classes.ome.zarr where there are more than two
        tiles.npy                which tiles the mask keeps, if there is one
        receipts/                one a shard
"""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetpipe.errors import IdentityError
from unetpipe.runtime.files import hash_of, write_bytes_atomic
from unetpipe.storage.ngff import Channel, colour_classes
from unetpipe.storage.prediction_store import MASK_FILE
from unetpipe.storage.volumes import (
    create_volume,
    is_store,
    read_attributes,
    set_channels,
)
from unetpipe.tiling.grids import PredictionGeometry

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionHome:
    """The folder of one recipe for one volume.

    Attributes
    ----------
    folder : Path
        Where the folder ``prediction-<id>`` lies.
    geometry : PredictionGeometry
        Grids of the stores.
    voxel_size_nm : (z, y, x)
        Size of a voxel.
    identity : dict
        What decides the stored bits.
    channels : sequence of Channel
        The probabilities as viewers show them: of the foreground, or of all classes.
    """

    folder: Path
    geometry: PredictionGeometry
    voxel_size_nm: tuple[float, float, float]
    identity: dict[str, Any]
    channels: Sequence[Channel]

    @property
    def identity_sha256(self) -> str:
        """Hash of the identity."""
        return hash_of(self.identity)

    @property
    def path(self) -> Path:
        """The folder of this recipe."""
        return self.folder / f"prediction-{self.identity_sha256[:8]}"

    @property
    def receipts(self) -> Path:
        """The folder of the receipts."""
        return self.path / "receipts"

    @property
    def outputs(self) -> dict[str, Any]:
        """The stores to fill: probabilities, and classes where there are many."""
        names = [channel.name for channel in self.channels]
        store = self.path / "probability.ome.zarr"
        outputs: dict[str, Any] = {
            "probability": {"store": str(store), "channels": names}
        }
        if len(self.channels) > 1:
            store = self.path / "classes.ome.zarr"
            outputs["classes"] = {"store": str(store), "channels": None}
        return outputs

    def create(self, mask: bytes | None) -> None:
        """Create the empty stores under another name, then give them theirs.

        Parameters
        ----------
        mask : bytes, optional
            What ``tiles.npy`` is to hold.
        """
        staging = self.path.with_name(f"{self.path.name}.partial")
        shutil.rmtree(staging, ignore_errors=True)
        for output in self.outputs.values():
            self._create_store(staging / Path(output["store"]).name, output)
        if mask is not None:
            write_bytes_atomic(staging / MASK_FILE, mask)
        (staging / "receipts").mkdir()
        staging.rename(self.path)

    def restore(self) -> None:
        """Check the stores that are there; create anew what somebody deleted of them.

        Raises
        ------
        IdentityError
            If a store was made from another recipe.
        """
        for output in self.outputs.values():
            store = Path(output["store"])
            if not is_store(store):
                log.warning("%s is gone; it is created anew and filled again", store)
                staging = store.with_name(f"{store.name}.partial")
                shutil.rmtree(staging, ignore_errors=True)
                self._create_store(staging, output)
                shutil.rmtree(store, ignore_errors=True)
                staging.rename(store)
            elif read_attributes(store) != {"identity": self.identity}:
                raise IdentityError(
                    f"{self.path} was made from another recipe; move it away and run "
                    "again"
                )
        self.receipts.mkdir(exist_ok=True)

    def name_channels(self) -> None:
        """Let viewers show the classes by their present names and colours."""
        store = Path(self.outputs["probability"]["store"])
        set_channels(store, self.channels)

    def tell_differences(self) -> None:
        """Log what differs from the predictions that are there already."""
        for other in sorted(self.folder.glob("prediction-????????")):
            theirs = read_attributes(other / "probability.ome.zarr").get("identity", {})
            differing = sorted(
                key
                for key in {*self.identity, *theirs}
                if self.identity.get(key) != theirs.get(key)
            )
            log.info(
                "%s stays as it is; this recipe differs in %s",
                other,
                ", ".join(differing),
            )

    def _create_store(self, store: Path, output: dict[str, Any]) -> None:
        create_volume(
            store,
            shape=self.geometry.volume_shape,
            dtype="uint8",
            chunk=self.geometry.chunk,
            shard=self.geometry.shard,
            voxel_size_nm=self.voxel_size_nm,
            channels=output["channels"],
            is_labels=output["channels"] is None,
            colours=colour_classes(len(self.channels)),
            attributes={"identity": self.identity},
        )
