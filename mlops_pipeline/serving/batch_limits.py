"""How many requests may share one call of a model. Standard library only."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mlops_pipeline.serving.errors import ExitCode, StartError

PARAMETERS = ("max_batch_size", "max_batch_time")
"""Parameters of a graph's unit, in rows and in seconds. Names and units are MLServer's."""
MOST_ROWS = 65536
MOST_SECONDS = 10


@dataclass(frozen=True)
class BatchLimits:
    """How many requests may share one call of the model, and for how long the first one waits."""

    rows: int = 64
    """Maximum of rows in a call that several requests share; less than 2: none share."""
    seconds: float = 0.0
    """Time for which a request waits for others before it is computed."""


ALONE = BatchLimits(rows=1)


def read(parameters: Mapping[str, str | int | float | bool]) -> BatchLimits:
    """Return the limits that the parameters set; a size of 0 or 1 disables batching.

    Raises:
        StartError: a size is not a whole number from 0, or a time not a number from 0 to 10.
    """
    default, (size, time) = BatchLimits(), PARAMETERS
    rows = _number(parameters.get(size, default.rows), size, most=MOST_ROWS, unit="rows")
    seconds = _number(
        parameters.get(time, default.seconds), time, most=MOST_SECONDS, unit="seconds"
    )
    if rows != int(rows):
        raise _invalid(rows, size, MOST_ROWS, "rows")
    return BatchLimits(int(rows), seconds)


def _number(value: object, name: str, *, most: int, unit: str) -> float:
    """Return a parameter's value, which may be written as a string."""
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:
        raise _invalid(value, name, most, unit)
    return number


def _invalid(value: object, name: str, most: int, unit: str) -> StartError:
    kind = "a whole number" if unit == "rows" else "a number"
    return StartError(
        f"The parameter {name} must be {kind} of {unit}, 0 to {most}, got {value!r}.",
        code=ExitCode.SETTINGS,
    )
