"""What is wrong with a signature."""

from enum import Enum


class Problem(Enum):
    """Why a signature does not count."""

    MISSING = "unsigned"
    DAMAGED = "damaged"
    """The bundle cannot be read, or its content is not what the format says."""
    UNKNOWN_KEY = "unknown key"
    REVOKED_KEY = "revoked key"
    ALTERED = "altered"
    """The files, or the signed text, are not those that were signed."""


class SignatureError(Exception):
    """An artifact without a signature that counts. The text says what was seen."""

    def __init__(self, sentence: str, *, problem: Problem) -> None:
        super().__init__(sentence)
        self.problem = problem


class KeyFileError(Exception):
    """A file that has no key of a supported kind."""
