"""Hides secrets in what people see and what is kept in logs."""

import os
import re
from collections.abc import Callable

_NAMED = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|(^|_)KEY($|_)", re.IGNORECASE)
"""Names of environment variables that contain a secret."""
_SHORTEST = 8
"""Number of characters: a shorter value may be in a text by chance."""


def masking() -> Callable[[str], str]:
    """Return a function that replaces secrets by `***` in a text.

    Secrets are the values of this process's environment variables with such a name.
    """
    found = {v for n, v in os.environ.items() if len(v) >= _SHORTEST and _NAMED.search(n)}
    secrets = sorted(found, key=len, reverse=True)

    def mask(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    return mask
