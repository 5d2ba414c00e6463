"""TensorFlow SavedModels in a numbered folder (`1/saved_model.pb`), called by their signatures."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.serving.artifact import SAVED_MODEL, Manifest, saved_models
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.imports import import_tensorflow
from mlops_pipeline.serving.models import Signature
from mlops_pipeline.serving.scores import DATATYPES, Array
from mlops_pipeline.serving.settings import Parameter, check_known
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
            signatures[name] = _signature(name, function, loaded)
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
        raise StartError(
            f"There is no SavedModel in {folder}: expected a numbered folder with saved_model.pb.",
            code=ExitCode.MODEL,
        )
    return numbered[max(numbered)]


def _signature(name: str, function: Any, loaded: object) -> Signature:
    """Describe one signature. `loaded` owns the variables and must live as long.

    Raises:
        _UnservableError: it does not turn rows of numbers into answers per row.
    """
    input_name, spec = _input(function)
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
    return Signature(
        name=name,
        input=input_name,
        row_shape=tuple(-1 if size is None else size for size in spec.shape[1:]) if rank else None,
        dtype=_numpy_type(spec.dtype) or np.dtype(np.float32),
        outputs=served,
        default_outputs=served,
        compute=_caller(function, input_name, loaded),
        refused=refused,
        is_rowwise=True,
    )


def _input(function: Any) -> tuple[str, Any]:
    """Return name and specification of the one input.

    Raises:
        _UnservableError: there is none or several, or it does not accept rows of numbers.
    """
    inputs = function.structured_input_signature[1]
    if len(inputs) != 1:
        names = ", ".join(map(repr, sorted(inputs)))
        raise _UnservableError(f"it has {len(inputs)} inputs ({names}), expected one")
    ((name, spec),) = inputs.items()
    if not isinstance(spec, tf.TensorSpec):
        raise _UnservableError(
            f"it has a {type(spec).__name__} as input ({name!r}), expected a tensor"
        )
    if _numpy_type(spec.dtype) is None and not spec.dtype.is_floating:
        raise _UnservableError(
            f"its input has the type {spec.dtype.name} ({name!r}), expected numbers"
        )
    if spec.shape.rank == 0:
        raise _UnservableError(f"its input is a single number ({name!r}), expected rows")
    return name, spec


def _numpy_type(dtype: Any) -> "np.dtype[Any] | None":
    """Return numpy's type for one of TensorFlow's, None if a request cannot contain it."""
    found: np.dtype[Any] = np.dtype(dtype.as_numpy_dtype)
    return found if found in DATATYPES else None


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
    is_cast = _numpy_type(wanted) is None

    def compute(rows: Array, names: Sequence[str], owner: object = loaded) -> list[object]:
        tensor = tf.constant(rows)
        scores = function(**{input_name: tf.cast(tensor, wanted) if is_cast else tensor})
        return [_numpy(scores[name]) for name in names]

    return compute


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
