"""TensorFlow SavedModels in a numbered folder (`1/saved_model.pb`), called by their signatures."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.serving.artifact import SAVED_MODEL, Manifest, Tensor, saved_models
from mlops_pipeline.serving.cells import describe_loss, typed
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.frameworks import TENSORFLOW
from mlops_pipeline.serving.imports import import_tensorflow
from mlops_pipeline.serving.models import Input, Signature
from mlops_pipeline.serving.schema import (
    ARRAY,
    INPUTS,
    TABLE,
    TEXT,
    InputColumn,
    Schema,
)
from mlops_pipeline.serving.scores import DATATYPES, Array, datatype_of
from mlops_pipeline.serving.settings import Parameter, check_known
from mlops_pipeline.serving.several import stacked
from mlops_pipeline.serving.signatures import DEFAULT, Signatures, by_tensors, missing

tf: Any = import_tensorflow()
logger = logging.getLogger(__name__)


class _UnservableError(Exception):
    """A signature that cannot be served; the text says why."""


def load_tensorflow(folder: Path, manifest: Manifest) -> Signatures:
    """Load the SavedModel in `folder`.

    The parameters `signature_name` (by default `serving_default`, or the only one), `model_input`
    and `model_output` choose the default signature, and check or choose its input and output.

    Raises:
        StartError: it does not load, or has no signature that turns rows of numbers into answers.
    """
    try:
        loaded = tf.saved_model.load(str(saved_model_folder(folder)))
    except Exception as error:
        raise StartError(
            f"The SavedModel in {folder} does not load: {error}", code=ExitCode.MODEL
        ) from error
    signatures, unservable = {}, {}
    for name, function in loaded.signatures.items():
        try:
            signatures[name] = _signature(name, function, loaded, manifest.schema)
        except _UnservableError as error:
            unservable[name] = str(error)
    if not signatures:
        reasons = "; ".join(f"{name!r}: {reason}" for name, reason in unservable.items())
        raise StartError(
            f"The SavedModel in {folder} has no signature that can be served: "
            f"{reasons or 'it has no signatures'}.",
            code=ExitCode.MODEL,
        )

    def choose(parameters: Mapping[str, Parameter]) -> Signature:
        check_known(parameters, "signature_name", "model_input", "model_output")
        return by_tensors(_named(parameters, signatures, unservable), parameters)

    return signatures, choose


def saved_model_folder(folder: Path) -> Path:
    """Return the folder of the highest number below `folder`, as TF Serving does.

    A SavedModel itself is returned as it is.

    Raises:
        StartError: there is none with a SavedModel in it.
    """
    if (folder / SAVED_MODEL).is_file():
        return folder
    numbered = saved_models(folder)
    if not numbered:
        problem = TENSORFLOW.find_hint(folder) or f"expected {TENSORFLOW.found_by}"
        raise StartError(f"There is no SavedModel in {folder}: {problem}.", code=ExitCode.MODEL)
    return numbered[max(numbered)]


def _signature(name: str, function: Any, loaded: object, schema: Schema | None) -> Signature:
    """Describe one signature. `loaded` owns the variables and must live as long.

    Raises:
        _UnservableError: it does not turn rows of numbers into answers per row.
    """
    given = function.structured_input_signature[1]
    names = _in_order(given, schema)
    inputs = () if len(given) == 1 else tuple(_each(key, given[key]) for key in names)
    input_name, spec = ("inputs", given[inputs[0].name]) if inputs else _input(function)
    rank = spec.shape.rank
    batch = spec.shape[0] if rank else None
    outputs = function.structured_outputs
    refused = {key: why for key in sorted(outputs) if (why := _why_not(outputs[key], batch))}
    served = tuple(key for key in sorted(outputs) if key not in refused)
    if not served:
        reasons = "; ".join(f"its output {key!r} {why}" for key, why in refused.items())
        raise _UnservableError(reasons or "it has no output")
    for key, why in refused.items():
        logger.warning("Not serving the output %r of the signature %r: it %s", key, name, why)
    described = {key: _described(key, outputs[key]) for key in served if outputs[key].shape.rank}
    if inputs or (spec.dtype == tf.string and schema is not None):
        return _of_named(
            Signature(
                takes_columns=False,
                name=name,
                input=input_name,
                row_shape=(len(inputs),) if inputs else (),
                dtype=np.dtype(object),
                outputs=served,
                default_outputs=served,
                compute=_named_caller(function, inputs or (_each(input_name, spec),), loaded),
                described=described,
                refused=refused,
                is_rowwise=True,
                inputs=inputs,
            ),
            schema,
        )
    if schema is not None and schema.form != ARRAY:
        raise _UnservableError(f"its input {input_name!r} is of numbers, its schema is not")
    return Signature(
        takes_columns=False,
        name=name,
        input=input_name,
        row_shape=tuple(-1 if size is None else size for size in spec.shape[1:]) if rank else None,
        dtype=_row_type(spec.dtype) or np.dtype(np.float32),
        outputs=served,
        default_outputs=served,
        compute=_caller(function, input_name, loaded),
        described=described,
        refused=refused,
        is_rowwise=True,
    )


def _in_order(names: Iterable[str], schema: Schema | None) -> list[str]:
    """Return the names of inputs, in the order of the rows of a schema of inputs, else sorted."""
    known = schema.names if schema is not None and schema.form == INPUTS else ()
    return list(known) if set(known) == set(names) else sorted(names)


def _described(name: str, spec: Any) -> Tensor:
    """Describe an output of a known rank."""
    shape = tuple(-1 if size is None else size for size in spec.shape)
    return Tensor(name, shape, datatype_of(_row_type(spec.dtype) or np.dtype(object)))


def _input(function: Any) -> tuple[str, Any]:
    """Return name and specification of the one input.

    Raises:
        _UnservableError: there is none or several, or it does not accept rows of numbers.
    """
    inputs = function.structured_input_signature[1]
    if not inputs:
        raise _UnservableError("it has no input")
    ((name, spec),) = inputs.items()
    _check(name, spec)
    return name, spec


def _each(name: str, spec: Any) -> Input:
    """Describe one of several inputs.

    Raises:
        _UnservableError: it does not accept rows of numbers or strings.
    """
    _check(name, spec)
    is_text = spec.dtype == tf.string
    if spec.shape.rank is None or (is_text and tuple(spec.shape[1:]) not in ((), (1,), (None,))):
        raise _UnservableError(
            f"its input {name!r} has the shape {spec.shape}, expected rows of a known shape, or of "
            "one string"
        )
    sizes = tuple(-1 if size is None else size for size in spec.shape[1:])
    if is_text:
        return Input(name, tuple(1 for _ in sizes), np.dtype(object))
    return Input(name, sizes, _numpy_type(spec.dtype) or np.dtype(np.float32))


def _check(name: str, spec: Any) -> None:
    """Require a tensor with rows of numbers or strings.

    Raises:
        _UnservableError: it is another one.
    """
    if not isinstance(spec, tf.TensorSpec):
        raise _UnservableError(
            f"it has a {type(spec).__name__} as input ({name!r}), expected a tensor"
        )
    is_known = _numpy_type(spec.dtype) is not None or spec.dtype == tf.string
    if not is_known and not spec.dtype.is_floating:
        raise _UnservableError(
            f"its input has the type {spec.dtype.name} ({name!r}), expected numbers or strings"
        )
    if spec.shape.rank == 0:
        raise _UnservableError(f"its input is a single number ({name!r}), expected rows")


def _numpy_type(dtype: Any) -> "np.dtype[Any] | None":
    """Return numpy's type for one of TensorFlow's, None if a request cannot contain it."""
    found: np.dtype[Any] = np.dtype(dtype.as_numpy_dtype)
    return found if found in DATATYPES else None


def _row_type(dtype: Any) -> "np.dtype[Any] | None":
    """Return the type of a request's rows for one of TensorFlow's; None if there is none."""
    if dtype == tf.string:
        return np.dtype(object)
    return _numpy_type(dtype) or (np.dtype(np.float32) if dtype.is_floating else None)


def _why_not(spec: Any, batch: int | None) -> str | None:
    """Say why an output cannot be served, None if it can; `batch` is the input's fixed length."""
    if not isinstance(spec, tf.TensorSpec):
        return f"is a {type(spec).__name__}, not a tensor"
    dtype = spec.dtype
    if _numpy_type(dtype) is None and not (dtype.is_floating or dtype == tf.string):
        return f"is of type {dtype.name}; numbers, booleans and text can be answered"
    if spec.shape.rank == 0:
        return "is a single value, not one for each row"
    if spec.shape.rank and spec.shape[0] not in (None, batch):
        return f"has {spec.shape[0]} rows for any number of rows in the request"
    return None


def _caller(
    function: Any, input_name: str, loaded: object
) -> Callable[[Array, Sequence[str]], Sequence[object]]:
    """Return the function that calls a signature with a tensor of the rows."""
    wanted = function.structured_input_signature[1][input_name].dtype
    is_cast = _numpy_type(wanted) is None and wanted.is_floating

    def compute(rows: Array, names: Sequence[str], owner: object = loaded) -> list[object]:
        tensor = tf.constant(rows)
        scores = function(**{input_name: tf.cast(tensor, wanted) if is_cast else tensor})
        return [_numpy(scores[name]) for name in names]

    return compute


def _of_named(signature: Signature, schema: Schema | None) -> Signature:
    """Return a signature of strings or of several inputs as the manifest's schema describes it.

    Raises:
        _UnservableError: its inputs are not the columns of the schema.
    """
    if schema is None:
        return signature
    if schema.form == TEXT and not signature.inputs:
        return replace(signature, schema=schema)
    inputs = {one.name: one for one in signature.inputs}
    if schema.form == INPUTS:
        return _fitting(signature, schema)
    is_flat = all(one.row_shape in ((), (1,)) for one in signature.inputs)
    if schema.form != TABLE or inputs.keys() != set(schema.names) or not is_flat:
        names = ", ".join(map(repr, inputs or (signature.input,)))
        raise _UnservableError(
            f"it has the inputs {names}; the schema is for a {schema.form} with the columns "
            f"{', '.join(map(repr, schema.names))}, of which each must be an input of shape [n] "
            "or [n, 1]"
        )
    _require_no_loss(signature, schema)
    return replace(
        signature,
        input="predict",
        row_shape=schema.row_shape,
        compute=_of_cells(signature, schema),
        columns=schema.names,
        schema=schema,
        inputs=(),
    )


def _require_no_loss(signature: Signature, schema: Schema) -> None:
    """Require that each input can represent the values of its column.

    Raises:
        _UnservableError: one cannot.
    """
    columns = {column.name: column for column in schema.columns}
    for one in signature.inputs:
        if problem := describe_loss(columns[one.name], one.dtype):
            kind = "text" if one.dtype.kind == "O" else one.dtype.name
            raise _UnservableError(f"its input {one.name!r} is of type {kind}, {problem}")


def _fitting(signature: Signature, schema: Schema) -> Signature:
    """Return the signature with a schema of inputs, whose columns are the inputs.

    Where the network takes any size, the size of the schema is required.

    Raises:
        _UnservableError: they are other ones, of other shapes, or of types that lose values.
    """
    there = ", ".join(f"{one.name!r} {list(one.row_shape)}" for one in signature.inputs)
    wanted = ", ".join(f"{one.name!r} {list(one.shape)}" for one in schema.inputs)
    pairs = zip(signature.inputs, schema.inputs, strict=False)
    if [one.name for one in signature.inputs] != list(schema.names) or not all(
        _takes(one, column) for one, column in pairs
    ):
        raise _UnservableError(
            f"it has the inputs and shapes of a row {there or repr(signature.input)}; the schema "
            f"has {wanted}"
        )
    _require_no_loss(signature, schema)
    sized = [
        replace(one, row_shape=column.shape if column.shape else tuple(1 for _ in one.row_shape))
        for one, column in zip(signature.inputs, schema.inputs, strict=True)
    ]
    return replace(signature, schema=schema, inputs=tuple(sized))


def _takes(one: Input, column: InputColumn) -> bool:
    sizes = (column.shape, (*column.shape, 1)) if not column.shape else (column.shape,)
    return (one.dtype.kind == "O") == column.is_text and any(
        len(size) == len(one.row_shape)
        and all(mine in (-1, its) for mine, its in zip(one.row_shape, size, strict=True))
        for size in sizes
    )


def _of_cells(
    signature: Signature, schema: Schema
) -> Callable[[Array, Sequence[str]], Sequence[object]]:
    """Return the function that calls several inputs with the columns of a table."""
    places = [schema.names.index(one.name) for one in signature.inputs]

    def compute(cells: Array, names: Sequence[str]) -> Sequence[object]:
        rows = np.empty((len(cells), len(places)), dtype=object)
        for number, (one, place) in enumerate(zip(signature.inputs, places, strict=True)):
            for row, value in enumerate(typed(cells[:, place].tolist(), one.dtype).reshape(-1, 1)):
                rows[row, number] = value
        return signature.compute(rows, names)

    return compute


def _named_caller(
    function: Any, inputs: tuple[Input, ...], loaded: object
) -> Callable[[Array, Sequence[str]], Sequence[object]]:
    """Return the function that calls a signature with a tensor for each input, or of strings."""
    specs = function.structured_input_signature[1]
    wanted = {name: spec.dtype for name, spec in specs.items()}

    def compute(rows: Array, names: Sequence[str], owner: object = loaded) -> list[object]:
        is_text = rows.ndim == 1
        columns = (
            [rows.reshape(len(rows), *inputs[0].row_shape)] if is_text else stacked(rows, inputs)
        )
        tensors = {
            one.name: _tensor(part, wanted[one.name])
            for one, part in zip(inputs, columns, strict=True)
        }
        scores = function(**tensors)
        return [_numpy(scores[name]) for name in names]

    return compute


def _tensor(values: Array, wanted: Any) -> Any:
    if values.dtype.kind == "O":
        return tf.constant(values.tolist(), tf.string, values.shape)
    return tf.cast(tf.constant(values), wanted)


def _numpy(tensor: Any) -> object:
    """Return a tensor as an array; a float type that numpy lacks (bfloat16) as a longer one."""
    if tensor.dtype.is_floating and _numpy_type(tensor.dtype) is None:
        tensor = tf.cast(tensor, tf.float32)
    return tensor.numpy()


def _named(
    parameters: Mapping[str, Parameter],
    signatures: Mapping[str, Signature],
    unservable: Mapping[str, str],
) -> Signature:
    """Return the signature that the parameters name, or the only one that can be served.

    Raises:
        StartError: the name is unknown or missing, or the signature cannot be served.
    """
    name = str(parameters.get("signature_name", DEFAULT))
    if name in unservable:
        raise StartError(
            f"The signature {name!r} cannot be served: {unservable[name]}. Set the parameter "
            f"signature_name to one of {', '.join(sorted(signatures))}.",
            code=ExitCode.MODEL,
        )
    if name in signatures:
        return signatures[name]
    if "signature_name" in parameters:
        raise missing("signature_name", name, signatures)
    if len(signatures) > 1:
        raise StartError(
            f"The SavedModel has several signatures, but not {DEFAULT!r}: set the parameter "
            f"signature_name to one of {', '.join(sorted(signatures))}.",
            code=ExitCode.SETTINGS,
        )
    (only,) = signatures.values()
    return only
