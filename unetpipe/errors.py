"""Every error that a user can meet.

::

    UnetpipeError
    ├── ConfigError        the configuration or the sheet is wrong
    ├── DataError          an input file, volume or label is not what was promised
    ├── GeometryError      a shape, tile, chunk, shard or block does not fit
    ├── IntegrityError     stored bytes differ from what their record says
    ├── IdentityError      going on would mix results of different recipes
    ├── ResourceError      memory or disk does not suffice
    └── Interrupted        a signal asked the job to end; what is done is kept

A message has three parts: what is wrong, with the value; which file, axis or key;
what would work.
"""


class UnetpipeError(ValueError):
    """Base of all errors that are the user's or a file's to mend.

    A ``ValueError``, so that validators may raise it.
    """


class ConfigError(UnetpipeError):
    """The configuration or the sheet is wrong."""


class DataError(UnetpipeError):
    """An input file, volume or label is not what was promised."""


class GeometryError(UnetpipeError):
    """A shape, tile, chunk, shard or block does not fit."""


class IntegrityError(UnetpipeError):
    """Stored bytes differ from what their record says."""


class IdentityError(UnetpipeError):
    """Going on would mix results of different recipes."""


class ResourceError(UnetpipeError):
    """Memory or disk does not suffice."""


class Interrupted(UnetpipeError):
    """A signal asked the job to end; repeating it goes on where it stopped."""
