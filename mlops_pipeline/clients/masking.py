"""Hides secrets in what people see and what is kept in logs."""

import os
import re
from collections.abc import Iterable, Iterator

_NAMED = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|(^|_)KEY($|_)", re.IGNORECASE)
"""Names of environment variables that contain a secret."""
_SHORTEST = 8
"""Number of characters: a shorter value may be in a text by chance."""


class Mask:
    """Replaces secrets by `***` in a text.

    Secrets are the lines of the values that this process's environment variables with such a name
    have now: a text is printed, and masked, line by line.
    """

    def __init__(self) -> None:
        values = [value for name, value in os.environ.items() if _NAMED.search(name)]
        lines = {line.strip() for value in values for line in re.split(r"[\r\n]", value)}
        secrets = sorted((s for s in lines if len(s) >= _SHORTEST), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, secrets)) or "(?!)")
        self._longest = max(map(len, secrets), default=1)

    def masked(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield the masked text that comes in `pieces`: lines, or parts of long lines.

        The end of a part is held back if a secret may begin in it and end in the next one.
        """
        held = ""
        for piece in pieces:
            held += piece
            end = len(held) if held.endswith("\n") else self._end_of_whole(held)
            if end > 0:
                yield self._without_secrets(held[:end])
                held = held[end:]
        if held:
            yield self._without_secrets(held)

    def _without_secrets(self, text: str) -> str:
        return self._secrets.sub("***", text)

    def _end_of_whole(self, text: str) -> int:
        """Return a position that no secret crosses, whatever comes after `text`."""
        end = len(text) - self._longest + 1
        for secret in self._secrets.finditer(text):
            if secret.start() >= end:
                break
            end = max(end, secret.end())
        return end
