"""MNIST as a service of BentoML with adaptive batching: `bentoml serve benchmarks.bento:Mnist`.

It runs in an environment of its own, on the SavedModel in the folder MODEL. Beside the limit of a
batch, which is that of our server, everything is BentoML's default.
"""

import os
from typing import Any

import bentoml
import numpy as np

BATCH = 64
PIXELS = 784


@bentoml.service(workers=1, metrics={"enabled": False})
class Mnist:
    def __init__(self) -> None:
        import tensorflow as tf

        self._loaded = tf.saved_model.load(os.environ["MODEL"])
        self._model: Any = self._loaded.signatures["serving_default"]
        (self._input,) = self._model.structured_input_signature[1]
        self._constant = tf.constant
        self._compute(np.zeros((1, PIXELS), np.float32))  # The first call takes seconds.

    @bentoml.api(batchable=True, batch_dim=0, max_batch_size=BATCH)
    def predict(self, images: np.ndarray) -> np.ndarray:  # BentoML reads the bare type.
        return self._compute(images)

    def _compute(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        rows = self._constant(np.asarray(images, np.float32))
        (scores,) = self._model(**{self._input: rows}).values()
        return np.asarray(scores)
