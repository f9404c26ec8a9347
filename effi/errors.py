"""Errors whose text names the thing and the mend; the terminal prints them without a traceback."""

from __future__ import annotations


class EffiError(Exception):
    """Base of every error that a user can mend."""


class DataError(EffiError):
    """A data set that is unknown, missing, corrupt or unusable."""


class ParameterError(EffiError):
    """A notebook parameter or option that is unknown or has the wrong type or value."""


class RecordError(EffiError):
    """A record that cannot be written or read."""


class TrainingError(EffiError):
    """A training run that cannot go on, for example because its loss is not a number."""
