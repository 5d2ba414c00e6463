"""Predicts without a server, with a model that is loaded as the server loads it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from mlops_pipeline.serving import cells, loading
from mlops_pipeline.serving.artifact import ROWS_AT_ONCE, Tensor
from mlops_pipeline.serving.errors import ExitCode, RequestError, StartError
from mlops_pipeline.serving.models import Signature, input_tensors, predict
from mlops_pipeline.serving.scores import Array, datatype_of
from mlops_pipeline.serving.settings import Parameter


def predict_file(
    folder: Path,
    *,
    rows: Path,
    output: Path,
    implementation: str | None,
    parameters: Mapping[str, Parameter],
) -> None:
    """Write the scores of the rows in `rows` to `output` (float64 [n, outputs]).

    The rows are numbers [n, …] in .npy, or what `cells.save` writes.

    The signature is written beside it as JSON: `inputs` and `outputs`, each a list of tensors.

    Raises:
        StartError: the artifact is damaged, the model does not load, or it cannot answer the rows.
    """
    manifest = loading.verify(folder)
    if implementation:
        loading.check_implementation(manifest, implementation)
    values = _read(rows)
    model = loading.load(folder, manifest, parameters, graph_name=None)
    signature = model.default
    if values.dtype.kind == "O" and signature.dtype.kind != "O":
        raise StartError(
            f"{rows} has rows of a table or of strings, but the model expects numbers.",
            code=ExitCode.ROWS,
        )
    first = signature.default_outputs[:1]
    try:
        scores = [
            predict(signature, values[begin : begin + ROWS_AT_ONCE], first)[0][1]
            for begin in range(0, max(len(values), 1), ROWS_AT_ONCE)
        ]
    except RequestError as error:
        raise StartError(f"{rows}: {error.sentence}", code=ExitCode.ROWS) from error
    _write(output, np.concatenate(scores))
    if signature.row_shape is None and not signature.inputs:
        # A model that takes rows of any shape is described by those that it answered.
        signature = replace(signature, row_shape=values.shape[1:])
    _describe(output.with_suffix(".json"), signature, first[0], scores[0])


def _describe(path: Path, signature: Signature, output: str, scores: Array) -> None:
    """Write the input and the default output, as a manifest has them."""
    answered = Tensor(output, (-1, *scores.shape[1:]), datatype_of(scores.dtype))
    described = {
        "inputs": [asdict(tensor) for tensor in input_tensors(signature)],
        "outputs": [asdict(answered)],
    }
    path.write_text(json.dumps(described))


def _read(path: Path) -> Array:
    """Read an array of numbers or booleans, or cells.

    Raises:
        StartError: the file does not exist, or has no such array.
    """
    try:
        values = cells.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise StartError(f"could not read {path} as .npy: {error}", code=ExitCode.ROWS) from error
    if values.dtype.kind not in "fiubO" or not values.ndim:
        raise StartError(f"{path} is not an array of numbers.", code=ExitCode.ROWS)
    return values


def _write(path: Path, scores: Array) -> None:
    """Write scores as float64 [n, outputs]; a single output is a column.

    Raises:
        StartError: the model returns strings, or the file cannot be written.
    """
    try:
        table = np.asarray(scores, dtype=np.float64).reshape(len(scores), -1)
        with path.open("wb") as file:
            np.save(file, table)
    except (OSError, ValueError) as error:
        raise StartError(f"could not write {path}: {error}", code=ExitCode.ROWS) from error
