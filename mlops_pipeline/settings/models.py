"""Types that the settings and the specs of models share."""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import StringConstraints

DEFAULT_NAMESPACE = "seldon"
"""Namespace of models whose spec names no other."""
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"
_PROCESSORS = r"^([0-9]+m|[0-9]+(\.[0-9]+)?)$"
Quantity = Annotated[str, StringConstraints(pattern=_QUANTITY)]
"""Bytes: `512Mi`, `1.5Gi`, `2G`."""
Processors = Annotated[str, StringConstraints(pattern=_PROCESSORS)]
"""Processors: `0.5`, `500m`."""
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    f"{letter}i": 1 << 10 * power for power, letter in enumerate("KMGT", start=1)
}


def check_resources(*, cpu: str, memory: str, memory_limit: str) -> None:
    """Refuse resources that every cluster rejects. An empty value means: use the default.

    Raises:
        ValueError: a value is not a quantity, or the memory request exceeds the limit.
    """
    given: tuple[tuple[str, object, str], ...] = (  # A model's file may contain any type.
        ("cpu", cpu, _PROCESSORS),
        ("memory", memory, _QUANTITY),
        ("memory_limit", memory_limit, _QUANTITY),
    )
    for name, value, pattern in given:
        if not isinstance(value, str) or (value and not re.match(pattern, value)):
            raise ValueError(
                f"{name} = {value!r} is not a quantity (examples: `500m`, `512Mi`, `1.5Gi`)"
            )
    if memory and memory_limit and _bytes(memory) > _bytes(memory_limit):
        raise ValueError(
            f"memory = {memory} exceeds memory_limit = {memory_limit}; raise the limit too"
        )


def _bytes(quantity: str) -> Decimal:
    number = quantity.rstrip("KMGTik")
    return Decimal(number) * _UNITS[quantity.removeprefix(number)]
