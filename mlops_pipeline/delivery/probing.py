"""The rows that a published model is asked, and what it answers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog import worker
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.training import tensors
from mlops_pipeline.serving.artifact import EXAMPLE, MANIFEST, Manifest
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.schema import INPUTS

if TYPE_CHECKING:
    from numpy.typing import NDArray


def probe(spec: ModelSpec, model: Path) -> "NDArray[Any]":
    """Return a row that the model is asked: that of its own example, of the spec, or a guess.

    Raises:
        ConfigurationError: its example cannot be read, or is not of the schema.
    """
    import numpy as np

    from mlops_pipeline.serving import cells, joined

    schema = spec.dataset.schema
    try:
        values = _example(spec, model)
        if schema is not None and schema.form == INPUTS:
            if values is None:
                return joined.guess(schema)
            return joined.of_list(schema, values, where=EXAMPLE)[:1]
        if values is None and schema is not None:
            guess = cells.guess(schema)
            return guess if spec.dataset.has_cells else guess.astype(np.float64)
        if schema is not None and spec.dataset.has_cells:
            return cells.conform_cells(schema, cells.read_cells(values, where=EXAMPLE))[:1]
        given = [[0.0] * spec.dataset.features] if values is None else values
        rows = np.array(given, dtype=np.float64)
        wrong = "" if rows.ndim > 1 and rows.size else f"it has the shape {list(rows.shape)}"
    except (OSError, ValueError, TypeError, RecursionError, RequestError) as error:
        wrong = str(error)
    if wrong:
        raise ConfigurationError(
            f"could not read {EXAMPLE} of the model: {wrong}; it must be a list of rows"
        )
    return rows[:1]


def _example(spec: ModelSpec, model: Path) -> Any:
    """Return the rows of the model's own example, or the row of the spec; None: neither has one.

    Raises:
        OSError, ValueError: the model's example is not JSON.
    """
    try:
        return json.loads((model / EXAMPLE).read_bytes())
    except FileNotFoundError:
        row = spec.example
        is_text = spec.dataset.schema is not None and not spec.dataset.schema.row_shape
        return [row[0] if is_text else list(row)] if row else None


def write_probe(path: Path, rows: "NDArray[Any]", scores: "NDArray[Any]") -> None:
    """Write a row and its scores for the evaluation of a model without a hold-out set."""
    import numpy as np

    from mlops_pipeline.serving import cells

    arrays = {**cells.pack("x", rows), "scores": scores}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def ask(
    judge: Judge, spec: ModelSpec, manifest: Manifest, rows: "NDArray[Any]", folder: Path
) -> "tuple[Manifest, NDArray[Any]]":
    """Return the manifest with the signature, and what the model answers, shape [n, outputs].

    `folder` has the model's files, and gets the rows and the answer.

    Raises:
        CommandError: the serving environment does not load the model, or it refuses the rows.
    """
    import numpy as np

    from mlops_pipeline.serving import cells

    description, file = folder / worker.MODEL / MANIFEST, folder / "rows.npy"
    signature = folder / "signature.json"
    cells.save(file, rows)
    description.write_text(manifest.to_json())
    scores = judge.platform.serving_environment.predict(
        folder / worker.MODEL,
        file,
        implementation=spec.server.implementation,
        parameters=spec.server.parameters,
        signature=signature,
    )
    description.unlink()
    seen = json.loads(signature.read_bytes())
    described = replace(manifest, inputs=tensors(seen["inputs"]), outputs=tensors(seen["outputs"]))
    return described, np.asarray(scores, dtype=np.float64)
