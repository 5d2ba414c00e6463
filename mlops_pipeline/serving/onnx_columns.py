"""Networks of ONNX with one input for each column of a table, as skl2onnx writes a pipeline."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mlops_pipeline.serving.cells import describe_loss, typed
from mlops_pipeline.serving.schema import Column, Schema, shown_some
from mlops_pipeline.serving.scores import Array

TEXT = "tensor(string)"


def describe_misfit(
    inputs: Sequence[Any], schema: Schema, types: Mapping[str, np.dtype[Any]]
) -> str | None:
    """Say why a network with these inputs cannot take the columns of a table, None if it can.

    `types` maps ONNX Runtime's names of types to numpy's.
    """
    names = [node.name for node in inputs]
    if set(names) != set(schema.names):
        return (
            f"it has the inputs {shown_some(list(map(repr, names)))}, but its schema is for a "
            f"table with the columns {shown_some(list(map(repr, schema.names)))}, of which each "
            "must be an input"
        )
    columns = {column.name: column for column in schema.columns}
    problems = (_misfit(node, columns[node.name], types) for node in inputs)
    return next((problem for problem in problems if problem), None)


def _misfit(node: Any, column: Column, types: Mapping[str, np.dtype[Any]]) -> str | None:
    where = f"its input {node.name!r} is of type {node.type}"
    sizes = list(node.shape[1:])
    if len(node.shape) not in (1, 2) or (sizes and isinstance(sizes[0], int) and sizes[0] != 1):
        return f"its input {node.name!r} has the shape {node.shape}, expected [n] or [n, 1]"
    if node.type != TEXT and node.type not in types:
        return f"{where}; expected numbers, booleans or strings"
    problem = describe_loss(column, _dtype(node, types))
    return f"{where}, {problem}" if problem else None


def _dtype(node: Any, types: Mapping[str, np.dtype[Any]]) -> np.dtype[Any]:
    return np.dtype(object) if node.type == TEXT else types[node.type]


def feeder(
    inputs: Sequence[Any], types: Mapping[str, np.dtype[Any]]
) -> Callable[[Mapping[str, Sequence[Any]]], dict[str, Array]]:
    """Return the function that converts columns to the network's tensors.

    A missing string is empty, a missing number NaN, as skl2onnx expects them.
    """

    def feed(columns: Mapping[str, Sequence[Any]]) -> dict[str, Array]:
        return {node.name: _tensor(columns[node.name], node, types) for node in inputs}

    return feed


def _tensor(values: Sequence[Any], node: Any, types: Mapping[str, np.dtype[Any]]) -> Array:
    return typed(values, _dtype(node, types)).reshape(-1, *(1 for _ in node.shape[1:]))
