"""The class that is served. It imports nothing of the project: it runs in the model server."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class NearestCentre:
    """Scores each class by the distance to its centre; the artifact has the centres."""

    is_rowwise = True  # The answer to a row does not depend on the other rows of a call.

    def __init__(self, sharpness: float = 1.0) -> None:
        self.sharpness = float(sharpness)
        self.surest = 0.0

    def load(self) -> None:
        """Read the centres; the working directory is the artifact."""
        with np.load("centres.npz") as arrays:
            self.centres, self.whitening = arrays["centres"], arrays["whitening"]

    def predict(self, X: Array, names: Iterable[str], meta: dict[str, Any] | None = None) -> Array:
        """Return a score of each class for each row."""
        differences = (X[:, None, :] - self.centres) @ self.whitening
        closeness = -self.sharpness * np.sqrt((differences**2).sum(axis=2))
        powers = np.exp(closeness - closeness.max(axis=1, keepdims=True))
        scores: Array = powers / powers.sum(axis=1, keepdims=True)
        self.surest = float(scores.max())
        return scores

    def class_names(self) -> list[str]:
        """Return `data.names` of an answer."""
        return ["setosa", "versicolor", "virginica"]

    def tags(self) -> dict[str, Any]:
        """Return what is added to `meta.tags` of an answer."""
        return {"method": "nearest centre"}

    def metrics(self) -> list[dict[str, Any]]:
        """Return what is added to `meta.metrics` and to the server's metrics."""
        return [{"type": "GAUGE", "key": "surest_score", "value": self.surest}]
