"""Sticky splits: the same client always gets the same predictor of a deployment."""

import re
from dataclasses import dataclass
from typing import Literal, cast

STICKY_ANNOTATION = "mlops-pipeline/sticky"
"""On the deployment: `header:NAME` or `cookie:NAME`.

Requests with the same value of this header or cookie go to the same predictor. Without it, each
request goes to a random one. Shares of the traffic become shares of the values."""
_KINDS = ("header", "cookie")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}"
"""The names that HTTP allows (RFC 9110, 5.6.2; RFC 6265, 4.1.1), with a limit of our own."""


@dataclass(frozen=True)
class Sticky:
    """What decides which predictor of a deployment answers a request."""

    kind: Literal["header", "cookie"]
    name: str
    """Of a header in lower case, because HTTP and gRPC ignore its case."""


def parse_sticky(text: str) -> Sticky:
    """Return what the annotation says.

    Raises:
        ValueError: it is neither `header:NAME` nor `cookie:NAME`, or NAME is not a valid name.
    """
    kind, _, name = text.partition(":")
    if kind not in _KINDS or re.fullmatch(_TOKEN, name) is None:
        raise ValueError(
            f"expected header:NAME or cookie:NAME in the annotation {STICKY_ANNOTATION}, with a "
            f"NAME of letters, digits and -_. (got {text!r})"
        )
    lowered = name.lower() if kind == "header" else name
    return Sticky(cast('Literal["header", "cookie"]', kind), lowered)
