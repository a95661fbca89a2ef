"""Small volumes and networks, as the tests of the stages have them."""

from tests.stored import make_model, make_volume

__all__ = ["make_model", "make_volume"]
