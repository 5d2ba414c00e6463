"""A custom class that answers well for a while, and then misbehaves as its parameter says."""

import itertools
import os
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
CALM = 20
"""Calls after which it misbehaves: proofs, the skew guard and checks come before."""


class Unruly:
    """Tells low numbers from high ones; `behaviour` is what goes wrong later."""

    def __init__(self, behaviour: str = "good", version: int = 1) -> None:
        self.behaviour, self.calls = behaviour, itertools.count(1)
        self.kept: list[bytes] = []

    def load(self) -> None:
        """Refuse to load, where that is its behaviour and it serves."""
        if self.behaviour == "refuses" and os.environ.get("PREDICTIVE_UNIT_HTTP_SERVICE_PORT"):
            raise RuntimeError("the weights are missing")

    def predict(self, X: Array, names: Iterable[str], meta: dict[str, Any] | None = None) -> Array:
        """Return the scores of both groups for each row."""
        call = next(self.calls)
        scores = np.stack([X[:, 0] < 10, X[:, 0] >= 10], axis=1).astype(float)
        if len(X) > 1 or call <= CALM:  # Hold-out sets come in batches.
            return scores
        if self.behaviour == "errors" and call % 20 == 0:
            raise RuntimeError("one of twenty")
        if self.behaviour == "slow":
            threading.Event().wait(0.05)
        if self.behaviour == "crashes" and call % 50 == 0:
            os._exit(1)
        if self.behaviour == "nan":
            return scores * np.nan
        if self.behaviour == "wrong":
            return scores[:, ::-1]
        if self.behaviour == "grows":
            self.kept.append(os.urandom(8 << 20))
        return scores

    def class_names(self) -> list[str]:
        """Return `data.names` of an answer."""
        return ["low", "high"]
