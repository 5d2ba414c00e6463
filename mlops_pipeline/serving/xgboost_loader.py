"""XGBoost: `model.ubj`, `model.json` or `model.bst`, as `save_model` writes it."""

import codecs
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.serving.artifact import XGBOOST_FILES, Manifest
from mlops_pipeline.serving.category_codes import Categories, encoder, model_order
from mlops_pipeline.serving.imports import import_boosted
from mlops_pipeline.serving.objectives import (
    XGBOOST_MARGINS,
    XGBOOST_PROBABILITIES,
    classifying,
    labelling,
)
from mlops_pipeline.serving.schema import TABLE, Column, Schema
from mlops_pipeline.serving.scores import Array
from mlops_pipeline.serving.signatures import (
    Signatures,
    categorical,
    damaged,
    first_line,
    model_file,
    of_methods,
)

xgboost: Any = import_boosted("xgboost")

LOADER = f"XGBoost {xgboost.__version__}"


def load_xgboost(folder: Path, manifest: Manifest) -> Signatures:
    """Load the model in `folder`; the parameter `method` chooses the default output.

    A classifier has `predict_proba` (the default) and `predict`, which returns class numbers; for a
    model of several labels, 1 or 0 for each. Other objectives have `predict`. A model that was
    trained with early stopping predicts with its best iteration, like XGBoost's estimators.

    Raises:
        StartError: it does not load, has another number of features than the manifest, does not
            fit the manifest's schema, or has columns of categories without one.
    """
    file = model_file(folder, XGBOOST_FILES)
    content = bytearray(file.read_bytes())
    if problem := _describe_damage(content):
        raise damaged(file, problem, loader=LOADER)
    try:
        booster = xgboost.Booster()
        booster.load_model(content)
        learner = json.loads(booster.save_config())["learner"]
    except Exception as error:
        raise damaged(file, first_line(error), loader=LOADER) from error
    schema = manifest.schema if manifest.schema and manifest.schema.form == TABLE else None
    has_categories = "c" in (booster.feature_types or ()) and not booster.get_categories().empty()
    if has_categories and schema is None:
        raise categorical(file)
    columns = booster.feature_names or ()
    return of_methods(
        _methods(booster, learner),
        manifest,
        features=booster.num_features(),
        dtype=np.float32,
        columns=columns,
        encode=None if schema is None else _encoder(schema, booster, columns, file),
    )


def _encoder(
    schema: Schema, booster: Any, names: Sequence[str], file: Path
) -> Callable[[Array], Array]:
    """Return the function that converts cells to numbers.

    Raises:
        StartError: the model has other columns or categories than the schema.
    """
    order = model_order(schema, names, file=file)
    seen = _categories(json.loads(booster.save_raw("json")), order)
    return encoder(schema, order, seen, dtype=np.float32, file=file)


def _categories(model: Mapping[str, Any], order: Sequence[Column]) -> list[Categories | None]:
    """Return the categories of each column in a model as JSON; None: it is a number."""
    found = model["learner"]["gradient_booster"].get("model", {}).get("cats", {}).get("enc", ())
    if not found:
        return [None for _ in order]
    return [_listed(one, column) or None for one, column in zip(found, order, strict=True)]


def _listed(encoded: Mapping[str, Any], column: Column) -> Categories:
    """Return the categories of one column: numbers, or UTF-8 text and where each string begins.

    XGBoost 3.2 counts characters instead of bytes: of text beyond ASCII, the end is lost. Such
    categories are recognized if they are those of the schema, in its order.
    """
    values = encoded["values"]
    if "offsets" not in encoded:
        return tuple(values)
    content, ends = bytes(value % 256 for value in values), encoded["offsets"]
    texts = list(map(str, column.categories))
    lengths = np.cumsum([0, *map(len, texts)]).tolist()
    if ends == lengths and "".join(texts).encode()[: lengths[-1]] == content:
        return column.categories
    return tuple(content[a:b].decode(errors="replace") for a, b in pairwise(ends))


def _describe_damage(content: bytearray) -> str | None:
    """Say why the content is not a complete model; a truncated UBJSON would be read forever."""
    if content.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark; save it as UTF-8 without one"
    if content.lstrip()[:1] == b"[":
        return (
            "it is a dump of trees, which no library loads; write booster.save_model('model.ubj')"
        )
    if content[:1] != b"{":
        return (
            "it is neither JSON nor UBJSON; a model in the binary format of XGBoost 3.0 or older "
            "must be written again by it: booster.save_model('model.ubj')"
        )
    is_json = bytes(content[1:2]) in b'" \n\r\t'
    end = content[-64:]  # The last key is the version.
    end = end.rstrip() if is_json else end
    if not end.endswith(b"}") or b"version" not in end:
        return "it is incomplete; copy or download it again"
    return None


def _methods(booster: Any, learner: Mapping[str, Any]) -> Mapping[str, Callable[[Array], object]]:
    objective = learner["objective"]["name"]
    if objective == XGBOOST_MARGINS:
        margins = _caller(booster, learner, output_margin=True)
        return classifying(lambda rows: _softmax(margins(rows)))
    call = _caller(booster, learner)
    if objective not in XGBOOST_PROBABILITIES:
        return {"predict": call}
    is_multilabel = int(learner["learner_model_param"]["num_target"]) > 1
    return labelling(call) if is_multilabel else classifying(call)


def _caller(
    booster: Any, learner: Mapping[str, Any], *, output_margin: bool = False
) -> Callable[[Array], Array]:
    """Return the function rows → the booster's predictions, or its margins."""
    best = booster.attr("best_iteration")
    trees = (0, 0 if best is None else int(best) + 1)

    def call(rows: Array) -> Array:
        answer: Array = booster.inplace_predict(
            rows,
            iteration_range=trees,
            predict_type="margin" if output_margin else "value",
            validate_features=False,
        )
        return answer

    def call_linear(rows: Array) -> Array:
        matrix = xgboost.DMatrix(rows, nthread=1)
        answer: Array = booster.predict(
            matrix, output_margin=output_margin, validate_features=False
        )
        return answer

    return call_linear if learner["gradient_booster"]["name"] == "gblinear" else call


def _softmax(margins: Array) -> Array:
    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    scores: Array = powers / powers.sum(axis=1, keepdims=True)
    return scores
