"""Which objectives of boosted trees give probabilities, and the methods of such a model.

The training process and the loaders read it here. It imports none of the libraries.
"""

from collections.abc import Callable, Mapping

import numpy as np

from mlops_pipeline.serving.scores import Array

XGBOOST_PROBABILITIES = ("binary:logistic", "multi:softprob")
XGBOOST_MARGINS = "multi:softmax"
"""Such a model predicts classes; their probabilities are the softmax of its margins."""
LIGHTGBM_PROBABILITIES = ("binary", "multiclass", "multiclassova")
_LIKELY = 0.5
"""A label of several is predicted above this probability."""


def classifying(scores: Callable[[Array], Array]) -> Mapping[str, Callable[[Array], object]]:
    """Return the methods of a classifier whose `scores` are probabilities.

    They have shape [n, classes]; or [n], the probability of the second of two classes.
    """

    def predict_proba(rows: Array) -> Array:
        found = scores(rows)
        return found if found.ndim > 1 else np.stack([1 - found, found], axis=1)

    return {
        "predict_proba": predict_proba,
        "predict": lambda rows: predict_proba(rows).argmax(axis=1),
    }


def labelling(scores: Callable[[Array], Array]) -> Mapping[str, Callable[[Array], object]]:
    """Return the methods of a model whose `scores` [n, labels] are a probability for each label.

    A row may have any number of the labels.
    """
    return {
        "predict_proba": scores,
        "predict": lambda rows: (scores(rows) > _LIKELY).astype(np.int64),
    }
