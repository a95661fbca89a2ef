"""What a network is: nothing of its architecture is passed over."""

from pathlib import Path

import pytest

from unetpipe.errors import DataError
from unetpipe.records.model import Model
from unetpipe.runtime.files import write_record
from unetpipe.tiling.unet_spec import UNetSpec


def test_an_architecture_with_more_than_is_known_is_refused(tmp_path: Path) -> None:
    """By other versions than those that know it, it would be another network."""
    path = tmp_path / "model.json"
    known = UNetSpec(base_channels=2, depth=1).to_json()
    values = {"weights_sha256": "0" * 64, "of_a_later_version": 1}
    write_record(path, values | {"spec": known})
    assert Model.read(path).spec == UNetSpec(base_channels=2, depth=1)
    write_record(path, values | {"spec": known | {"activation": "gelu"}})
    with pytest.raises(DataError, match="activation is not known here") as error:
        Model.read(path)
    assert "Use the version that trained it" in str(error.value)
