"""What loaders share: a model's file, its row shape, and the default that parameters choose.

A model is called by its methods (scikit-learn, XGBoost, LightGBM), of which the parameter `method`
chooses one, or by the names of its tensors (TensorFlow, ONNX): `model_input` and `model_output`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlops_pipeline.serving.artifact import Manifest, find_file
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.models import Signature
from mlops_pipeline.serving.schema import Schema
from mlops_pipeline.serving.scores import Array
from mlops_pipeline.serving.settings import Parameter, check_known

DEFAULT = "serving_default"
Signatures = tuple[Mapping[str, Signature], Callable[[Mapping[str, Parameter]], Signature]]
"""Every signature by its name, and the function that chooses the default one."""


def model_file(folder: Path, names: Sequence[str]) -> Path:
    """Return the first of these files that is in `folder`; `folder` itself if it is a file.

    Raises:
        StartError: it has none of them; names what it has.
    """
    if folder.is_file():
        return folder
    if (file := find_file(folder, names)) is None:
        there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise StartError(
            f"There is no {' or '.join(names)} in {folder}, which contains {there}.",
            code=ExitCode.MODEL,
        )
    return file


def damaged(file: Path, problem: str, *, loader: str) -> StartError:
    """Return the error of a model's file that `loader`, a library and its version, cannot load."""
    return StartError(f"{file} does not load with {loader}: {problem}", code=ExitCode.MODEL)


def categorical(file: Path) -> StartError:
    """Return the error of a model's file that expects categories, but has no schema."""
    return StartError(
        f"{file} was trained on a data frame with columns of categories, but no schema says which "
        "columns these are; publish it as a model whose dataset has a Schema with form='table', or "
        "encode the categories as numbers before training, and send these numbers",
        code=ExitCode.MODEL,
    )


def first_line(error: BaseException) -> str:
    """Return an error's type and its first line that is not empty; libraries append C++ stacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"


def row_shape(manifest: Manifest, own: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the shape of a row: the model's `own` if it knows one, otherwise the manifest's.

    -1 is any size. None if neither has it.

    Raises:
        StartError: they differ.
    """
    if not manifest.inputs:
        return own
    shape = manifest.inputs[0].shape[1:]
    if own is None:
        return shape
    if len(shape) != len(own) or any(
        -1 not in (here, there) and here != there for here, there in zip(shape, own, strict=True)
    ):
        raise StartError(
            f"The manifest has rows of shape {list(shape)}, but the model expects {list(own)}.",
            code=ExitCode.MODEL,
        )
    return own


def of_methods(
    methods: Mapping[str, Callable[[Array], object]],
    manifest: Manifest,
    *,
    features: int,
    dtype: type[np.floating[Any]],
    columns: Sequence[str],
    encode: Callable[[Array], Array] | None = None,
) -> Signatures:
    """Return the signature of boosted trees, whose first method is the default.

    `encode` converts the cells of a table to the numbers [n, features] that the methods take; None:
    the rows of a request are these numbers.

    Raises:
        StartError: it has another number of features than the manifest.
    """
    if encode is not None and manifest.schema is not None:
        return _of_table(methods, manifest.schema, encode)
    signature = Signature(
        name=DEFAULT,
        input=manifest.inputs[0].name if manifest.inputs else "predict",
        row_shape=row_shape(manifest, (features,)),
        dtype=np.dtype(dtype),
        outputs=tuple(methods),
        default_outputs=tuple(methods)[:1],
        compute=lambda rows, names: [methods[name](rows) for name in names],
        takes_missing=True,
        columns=tuple(columns),
        is_rowwise=True,
    )
    return {DEFAULT: signature}, lambda parameters: by_method(signature, parameters)


def _of_table(
    methods: Mapping[str, Callable[[Array], object]],
    schema: Schema,
    encode: Callable[[Array], Array],
) -> Signatures:
    """Return the signature of boosted trees that take the cells of a table."""

    def compute(cells: Array, names: Sequence[str]) -> list[object]:
        rows = encode(cells)
        return [methods[name](rows) for name in names]

    signature = Signature(
        name=DEFAULT,
        input="predict",
        row_shape=schema.row_shape,
        dtype=np.dtype(object),
        outputs=tuple(methods),
        default_outputs=tuple(methods)[:1],
        compute=compute,
        columns=schema.names,
        is_rowwise=True,
        schema=schema,
    )
    return {DEFAULT: signature}, lambda parameters: by_method(signature, parameters)


def by_method(
    signature: Signature, parameters: Mapping[str, Parameter], preferred: str | None = None
) -> Signature:
    """Return the signature with the output that the parameter `method` names.

    Without it, this is `preferred`, by default the signature's own default.

    Raises:
        StartError: the model has no such method, or its answer cannot be served.
    """
    check_known(parameters, "method")
    method = str(parameters.get("method", preferred or signature.default_outputs[0]))
    if method in signature.refused:
        raise StartError(
            f"The model's {method} cannot be served: it {signature.refused[method]}. Set the "
            f"parameter method to one of {', '.join(signature.outputs)}.",
            code=ExitCode.SETTINGS,
        )
    if method not in signature.outputs:
        raise StartError(
            f"The model has no method {method!r}, which the parameter method names; it has "
            f"{', '.join(signature.outputs)}.",
            code=ExitCode.SETTINGS,
        )
    return replace(signature, default_outputs=(method,))


def by_tensors(signature: Signature, parameters: Mapping[str, Parameter]) -> Signature:
    """Return the signature with the input and output that `model_input` and `model_output` name.

    Raises:
        StartError: it has no such input or output.
    """
    wanted = str(parameters.get("model_input", signature.input))
    if wanted != signature.input:
        raise missing("model_input", wanted, [signature.input])
    if "model_output" not in parameters:
        return signature
    output = str(parameters["model_output"])
    if output not in signature.outputs:
        raise StartError(
            f"The model has no output {output!r}, which the parameter model_output names; "
            f"{signature.known_outputs()}.",
            code=ExitCode.SETTINGS,
        )
    return replace(signature, default_outputs=(output,))


def missing(parameter: str, value: str, there: Iterable[str]) -> StartError:
    """Return the error of a parameter that names something that the model does not have."""
    known = ", ".join(sorted(there))
    return StartError(
        f"The model has no {value!r}, which the parameter {parameter} names; it has {known}.",
        code=ExitCode.SETTINGS,
    )
