"""ONNX: `model.onnx`, run by ONNX Runtime; weights may be in files beside it."""

import logging
import os
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from mlops_pipeline.serving import onnx_columns
from mlops_pipeline.serving.artifact import ONNX_FILES, Manifest
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.models import Signature
from mlops_pipeline.serving.schema import TABLE, Schema
from mlops_pipeline.serving.scores import Array, datatype_of
from mlops_pipeline.serving.settings import Parameter, check_known
from mlops_pipeline.serving.signatures import (
    DEFAULT,
    Signatures,
    by_tensors,
    damaged,
    model_file,
    row_shape,
)

logger = logging.getLogger(__name__)

LOADER = f"ONNX Runtime {onnxruntime.__version__}"
TYPES: Mapping[str, np.dtype[Any]] = {
    "tensor(bool)": np.dtype(np.bool_),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    **{
        f"tensor({sign}int{size})": np.dtype(f"{sign}int{size}")
        for sign in ("", "u")
        for size in (8, 16, 32, 64)
    },
}
"""ONNX Runtime's name of a type → numpy's."""
_ERRORS_ONLY = 3


def load_onnx(folder: Path, manifest: Manifest) -> Signatures:
    """Load `folder/model.onnx`: a network with one input, or with one for each column of a table.

    The default output is the first one of the manifest, otherwise the network's first; the
    parameters `model_output` and `model_input` choose and check them.

    Raises:
        StartError: it does not load, it has several inputs or none of numbers, its inputs are not
            the columns of the manifest's schema, or it has another row or other outputs than the
            manifest.
    """
    file = model_file(folder, ONNX_FILES)
    try:
        session = open_network(str(file))
    except Exception as error:
        raise damaged(file, _reason(error), loader=LOADER) from error
    signature = _signature(session, manifest)

    def choose(parameters: Mapping[str, Parameter]) -> Signature:
        check_known(parameters, "model_input", "model_output")
        return by_tensors(signature, parameters)

    return {signature.name: signature}, choose


def open_network(network: str | bytes) -> Any:
    """Return ONNX Runtime's session of a network: the path of its file, or its content."""
    return onnxruntime.InferenceSession(network, _options(), providers=["CPUExecutionProvider"])


def _options() -> Any:
    """Return options for short predictions beside other servers: few threads, which do not spin."""
    options = onnxruntime.SessionOptions()
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _signature(session: Any, manifest: Manifest) -> Signature:
    schema = manifest.schema if manifest.schema and manifest.schema.form == TABLE else None
    tensor = _first_column(session, schema) if schema else _input(session)
    outputs = {node.name: describe_unservable(node.type) for node in session.get_outputs()}
    refused = {name: reason for name, reason in outputs.items() if reason}
    served = tuple(name for name in outputs if name not in refused)
    if not served:
        reasons = "; ".join(f"its output {name!r} {reason}" for name, reason in refused.items())
        raise _unusable(reasons or "it has no output")
    first = _first(served, refused, manifest)
    for name, reason in refused.items():
        logger.warning("Not serving the output %r: it %s", name, reason)
    batch = tensor.shape[0] if tensor.shape else None
    by_row = {node.name for node in session.get_outputs() if _is_by_row(node.shape, batch)}
    sizes = tuple(size if isinstance(size, int) else -1 for size in tensor.shape[1:])
    if schema:
        return Signature(
            name=DEFAULT,
            input="predict",
            row_shape=schema.row_shape,
            dtype=np.dtype(object),
            outputs=served,
            default_outputs=_defaults(served, by_row, first),
            compute=_of_cells(session, schema),
            columns=schema.names,
            refused=refused,
            is_rowwise=True,
            schema=schema,
        )
    return Signature(
        takes_columns=False,
        name=DEFAULT,
        input=tensor.name,
        row_shape=row_shape(manifest, sizes if tensor.shape else None),
        dtype=TYPES[tensor.type],
        outputs=served,
        default_outputs=_defaults(served, by_row, first),
        compute=_caller(session, tensor.name),
        refused=refused,
        is_rowwise=True,
    )


def _caller(session: Any, name: str) -> Callable[[Array, Sequence[str]], Sequence[object]]:
    return lambda rows, names: _run(session, names, {name: rows})


def _of_cells(session: Any, schema: Schema) -> Callable[[Array, Sequence[str]], Sequence[object]]:
    """Return the function that gives each input of the network the column of its name."""
    feed = onnx_columns.feeder(session.get_inputs(), TYPES)

    def compute(cells: Array, names: Sequence[str]) -> Sequence[object]:
        columns = zip(schema.names, cells.T, strict=True)
        return _run(session, names, feed({name: values.tolist() for name, values in columns}))

    return compute


def _run(session: Any, names: Sequence[str], tensors: Mapping[str, Array]) -> Sequence[object]:
    try:
        answers: Sequence[object] = session.run(list(names), dict(tensors))
    except Exception as error:
        raise ValueError(_reason(error)) from error
    return answers


def _reason(error: Exception) -> str:
    """Return the end of an error's message as one line: it begins with places in C++ sources."""
    return " ".join(str(error).split())[-280:]


def _first_column(session: Any, schema: Schema) -> Any:
    """Return the first of the inputs, of which each is a column of the schema.

    Raises:
        StartError: they are other columns, or of other types.
    """
    inputs: Sequence[Any] = session.get_inputs()
    if problem := onnx_columns.describe_misfit(inputs, schema, TYPES):
        raise _unusable(problem)
    return inputs[0]


def _input(session: Any) -> Any:
    """Return the one input.

    Raises:
        StartError: there are several, or it does not accept rows of numbers.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(repr(tensor.name) for tensor in inputs)
        raise _unusable(f"it has {len(inputs)} inputs ({names}), expected one")
    if inputs[0].type not in TYPES:
        raise _unusable(
            f"its input {inputs[0].name!r} is of type {inputs[0].type}; expected numbers or "
            "booleans"
        )
    return inputs[0]


def describe_unservable(kind: str) -> str | None:
    """Say why an output of this type cannot be served, None if it can."""
    if kind in TYPES or kind == onnx_columns.TEXT:
        return None
    hint = "; skl2onnx writes a tensor with options={'zipmap': False}" if "map(" in kind else ""
    return f"is of type {kind}; numbers, booleans and text can be answered{hint}"


def datatype(kind: str) -> str:
    """Return V2's name of a type of ONNX Runtime."""
    return datatype_of(TYPES.get(kind, np.dtype(object)))


def _is_by_row(shape: Sequence[int | str | None], batch: int | str | None) -> bool:
    """Say whether an output has an axis for the rows; an unknown shape is empty like a scalar's."""
    return bool(shape) and (not isinstance(shape[0], int) or shape[0] == batch)


def _first(served: tuple[str, ...], refused: Mapping[str, str], manifest: Manifest) -> str:
    """Return the default output: the first one of the manifest, otherwise of the network.

    Raises:
        StartError: the manifest names an output that the network does not have or that cannot be
            served.
    """
    if not manifest.outputs:
        return served[0]
    name = manifest.outputs[0].name
    if name not in served:
        reason = refused.get(name, f"does not exist; the network has {', '.join(served)}")
        raise _unusable(f"the output {name!r} of the manifest {reason}")
    return name


def _defaults(served: tuple[str, ...], by_row: Container[str], first: str) -> tuple[str, ...]:
    """Return `first`, and the other outputs that are known to have an axis for the rows."""
    for name in served:
        if name not in by_row:
            logger.warning(
                "The output %r has a fixed number of rows or an unknown shape%s",
                name,
                "; the parameter model_output can select another"
                if name == first
                else ": it is answered only to requests that name it",
            )
    return (first, *(name for name in served if name in by_row and name != first))


def _unusable(problem: str) -> StartError:
    return StartError(f"The network cannot be served: {problem}.", code=ExitCode.MODEL)
