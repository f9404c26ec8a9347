"""Errors whose text names the thing and the mend; the terminal prints them without a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


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


class NotebookError(EffiError):
    """A notebook that stopped for a reason that is no mistake of the user's."""


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """The end of a sentence about an unknown name: a guess where one is close, and all that there are."""
    names = [str(each) for each in known]
    listed = ", ".join(names) or "none"
    close = get_close_matches(str(name), names, 1)
    return f"; did you mean {close[0]!r}? Known: {listed}." if close else f"; known: {listed}."


def duration(seconds: float) -> str:
    """Seconds as a person says them: 3 s, 3 min 07 s, 1 h 03 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min"
