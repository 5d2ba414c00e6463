"""LightGBM: `model.txt`, as `Booster.save_model` writes it."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.serving.artifact import LIGHTGBM_FILES, Manifest
from mlops_pipeline.serving.category_codes import Categories, encoder, model_order
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.imports import import_boosted
from mlops_pipeline.serving.objectives import LIGHTGBM_PROBABILITIES, classifying
from mlops_pipeline.serving.schema import CATEGORY, TABLE, Schema
from mlops_pipeline.serving.scores import Array
from mlops_pipeline.serving.signatures import (
    Signatures,
    categorical,
    damaged,
    first_line,
    model_file,
    of_methods,
)

lightgbm: Any = import_boosted("lightgbm")

LOADER = f"LightGBM {lightgbm.__version__}"


def load_lightgbm(folder: Path, manifest: Manifest) -> Signatures:
    """Load `folder/model.txt`; the parameter `method` chooses the default output.

    A classifier has `predict_proba` (the default) and `predict`, which returns class numbers. Other
    objectives have `predict`.

    Raises:
        StartError: it does not load, has another number of features than the manifest, does not
            fit the manifest's schema, or has columns of categories without one.
    """
    file = model_file(folder, LIGHTGBM_FILES)
    text = file.read_bytes().decode(errors="replace")
    if problem := _describe_damage(text):
        raise damaged(file, problem, loader=LOADER)
    try:
        booster = lightgbm.Booster(model_str=text)
    except Exception as error:
        raise damaged(file, first_line(error), loader=LOADER) from error
    columns = _columns(booster.feature_name())
    schema = manifest.schema if manifest.schema and manifest.schema.form == TABLE else None
    if booster.pandas_categorical and schema is None:
        raise categorical(file)
    return of_methods(
        _methods(booster, text),
        manifest,
        features=booster.num_feature(),
        dtype=np.float64,
        columns=columns,
        encode=None
        if schema is None
        else _encoder(schema, columns, booster.pandas_categorical or (), file),
    )


def _encoder(
    schema: Schema, names: Sequence[str], categories: Sequence[Categories], file: Path
) -> Callable[[Array], Array]:
    """Return the function that converts cells to numbers.

    The file has a list of `categories` for each such column, in the model's order, and no names.

    Raises:
        StartError: the schema has other columns, or another number of columns of categories.
    """
    order = model_order(schema, names, file=file)
    is_category = [column.type == CATEGORY for column in order]
    if sum(is_category) != len(categories):
        raise StartError(
            f"{file} does not fit its schema: it was trained with {len(categories)} columns of "
            f"categories, but the schema has {sum(is_category)}.",
            code=ExitCode.MODEL,
        )
    rest = iter(categories)
    seen = [next(rest) if has_categories else None for has_categories in is_category]
    return encoder(schema, order, seen, dtype=np.float64, file=file)


def _describe_damage(text: str) -> str | None:
    """Say why the text is not a complete model; LightGBM aborts the process for a truncated one."""
    if not text.startswith("tree\n"):
        return "it is not a model in LightGBM's text format, whose first line is `tree`"
    _, end, rest = text.partition("\nend of trees")
    # What follows the trees is optional, but LightGBM crashes within truncated parameters.
    if not end or ("\nparameters:\n" in rest and "\nend of parameters" not in rest):
        return "it is incomplete; copy or download it again"
    return None


def _methods(booster: Any, text: str) -> Mapping[str, Callable[[Array], object]]:
    objective = re.search(r"^objective=(\w+)", text.partition("\nTree=")[0], re.MULTILINE)

    def scores(rows: Array) -> Array:
        answer: Array = booster.predict(rows, validate_features=False)
        return answer

    is_classifier = objective is not None and objective[1] in LIGHTGBM_PROBABILITIES
    return classifying(scores) if is_classifier else {"predict": scores}


def _columns(names: Sequence[str]) -> Sequence[str]:
    """Return the names of the model's columns; none if LightGBM numbered them itself."""
    return () if list(names) == [f"Column_{number}" for number in range(len(names))] else names
