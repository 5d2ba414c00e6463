"""TensorFlow SavedModels below a numeric folder (`1/saved_model.pb`), asked by their signatures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.serving.artifact import Manifest, saved_models
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.imports import import_tensorflow
from mlops_pipeline.serving.models import Array, Signature
from mlops_pipeline.serving.settings import Parameter

tf: Any = import_tensorflow()


DEFAULT = "serving_default"


def load_tensorflow(
    folder: Path, manifest: Manifest
) -> tuple[Mapping[str, Signature], Callable[[Mapping[str, Parameter]], Signature]]:
    """Load the SavedModel in `folder`.

    The parameters `signature_name` (by default `serving_default`, or the only one), `model_input`
    and `model_output` choose the default signature, and check or choose its input and output.

    Raises:
        StartError: it does not load, or has no signature with a single input.
    """
    try:
        loaded = tf.saved_model.load(str(saved_model_folder(folder)))
    except Exception as error:
        raise StartError(
            f"The SavedModel in {folder} does not load: {error}", code=ExitCode.MODEL
        ) from error
    signatures = {
        name: _signature(name, function, loaded)
        for name, function in loaded.signatures.items()
        if len(function.structured_input_signature[1]) == 1
    }
    if not signatures:
        raise StartError(
            f"The SavedModel in {folder} has no signature that takes one tensor.",
            code=ExitCode.MODEL,
        )

    def choose(parameters: Mapping[str, Parameter]) -> Signature:
        name = str(parameters.get("signature_name", DEFAULT))
        if "signature_name" not in parameters and len(signatures) == 1:
            (name,) = signatures
        if name not in signatures:
            raise _missing("signature_name", name, signatures)
        return _choose(signatures[name], parameters)

    return signatures, choose


def saved_model_folder(folder: Path) -> Path:
    """Return the folder of the highest number below `folder`, as TF Serving does.

    Raises:
        StartError: there is none with a SavedModel in it.
    """
    numbered = saved_models(folder)
    if not numbered:
        raise StartError(
            f"There is no SavedModel in {folder}: a folder named by a number, with saved_model.pb.",
            code=ExitCode.MODEL,
        )
    return numbered[max(numbered)]


def _signature(name: str, function: Any, loaded: object) -> Signature:
    """Describe one signature; `loaded` owns the variables and has to live as long."""
    ((input_name, spec),) = function.structured_input_signature[1].items()
    outputs = tuple(sorted(function.structured_outputs))
    return Signature(
        name=name,
        input=input_name,
        row_shape=tuple(-1 if size is None else size for size in spec.shape[1:]),
        dtype=np.dtype(spec.dtype.as_numpy_dtype),
        outputs=outputs,
        default_outputs=outputs,
        compute=_caller(function, input_name, loaded),
    )


def _caller(
    function: Any, input_name: str, loaded: object
) -> Callable[[Array, Sequence[str]], Sequence[Array]]:
    """Return the function that calls a signature with a tensor of the rows."""

    def compute(rows: Array, names: Sequence[str], owner: object = loaded) -> list[Array]:
        scores = function(**{input_name: tf.constant(rows)})
        return [scores[name].numpy() for name in names]

    return compute


def _choose(signature: Signature, parameters: Mapping[str, Parameter]) -> Signature:
    """Return the signature with the input and output that the parameters name.

    Raises:
        StartError: it has no such input or output.
    """
    wanted = str(parameters.get("model_input", signature.input))
    if wanted != signature.input:
        raise _missing("model_input", wanted, [signature.input])
    output = parameters.get("model_output")
    if output is None:
        return signature
    if output not in signature.outputs:
        raise _missing("model_output", str(output), signature.outputs)
    return replace(signature, default_outputs=(str(output),))


def _missing(parameter: str, value: str, there: Sequence[str] | Mapping[str, object]) -> StartError:
    known = ", ".join(sorted(there)) or "none"
    return StartError(
        f"The parameter {parameter} is {value!r}; the model has {known}.", code=ExitCode.SETTINGS
    )
