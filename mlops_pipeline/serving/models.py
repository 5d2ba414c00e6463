"""What a loaded model is to the protocols: signatures that turn rows of numbers into scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mlops_pipeline.serving.artifact import Manifest
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.scores import Array, as_scores
from mlops_pipeline.serving.settings import Parameter

EXACT = (1 << 53) - 1
"""Whole numbers up to this one are themselves as 64-bit floats; the next may stand for another."""


@dataclass(frozen=True)
class Signature:
    """One way to ask the model: an input of rows, and the outputs it can give."""

    name: str
    input: str
    """Name of the input tensor."""
    row_shape: tuple[int, ...] | None
    """Shape of one row, without the batch: (4,). -1 where the length varies; None: any shape."""
    dtype: np.dtype[Any]
    outputs: tuple[str, ...]
    """Every output that may be asked for by name."""
    default_outputs: tuple[str, ...]
    """What is answered when none is asked for; Seldon's protocol answers the first."""
    compute: Callable[[Array, Sequence[str]], Sequence[object]]
    """(rows [n, *row_shape] of `dtype`, names of outputs) → an array per name, each [n, …]."""
    columns: tuple[str, ...] = ()
    """Names of a row's columns, in the model's order; empty: the model knows none."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Output of the model that cannot be served → the reason: `is complex`."""

    def expected_shape(self) -> str:
        """Return the shape a request needs, for a sentence: `[n, 4]`."""
        sizes = ("…",) if self.row_shape is None else self.row_shape
        return f"[{', '.join(['n', *('*' if size == -1 else str(size) for size in sizes)])}]"

    def known_outputs(self) -> str:
        """Return the outputs there are, and those that cannot be served, for a sentence."""
        refused = (f"; {name!r} {reason}" for name, reason in self.refused.items())
        return f"there is {', '.join(self.outputs)}{''.join(refused)}"


@dataclass(frozen=True)
class Model:
    """A model that is loaded and warm."""

    name: str
    """The graph name: the model's name in every URL."""
    manifest: Manifest
    digest: str
    """Of the artifact; empty for a model that was not published as one."""
    signatures: Mapping[str, Signature]
    default: Signature
    choose: Callable[[Mapping[str, Parameter]], Signature]
    """The signature that a unit's parameters make the default one; raises StartError."""
    example: Array | None = None
    """Rows that the model is known to answer; None: the artifact has none."""

    @property
    def version(self) -> int:
        """TF Serving's numeric version."""
        return self.manifest.version

    @property
    def version_name(self) -> str:
        """V2's version: the digest, where there is one."""
        return self.digest or str(self.version)

    def told(self, parameters: Mapping[str, Parameter]) -> "Model":
        """Return the model as a unit with these parameters serves it.

        Raises:
            StartError: a parameter names something the model does not have.
        """
        default = self.choose(parameters)
        return replace(self, default=default, signatures={**self.signatures, default.name: default})

    def signature(self, name: str) -> Signature:
        """Return the signature of that name; an empty name is the default.

        Raises:
            RequestError: there is none; names those there are.
        """
        signature = self.signatures.get(name) if name else self.default
        if signature is None:
            there = ", ".join(sorted(self.signatures))
            raise RequestError(
                "UNKNOWN_SIGNATURE", f"there is no signature {name[:80]!r}; there is {there}"
            )
        return signature


def predict(
    signature: Signature, values: Array, outputs: Sequence[str] = ()
) -> list[tuple[str, Array]]:
    """Return (name, scores) for each of `outputs`, or the signature's default ones.

    `values` has shape [n, *row_shape], n ≥ 1, of any kind of number. Scores are [n, …].

    Raises:
        RequestError: wrong shape, not finite, too large for the model's type, an output that is
            unknown or asked for twice, or the model itself refuses the rows.
    """
    names = tuple(outputs) or signature.default_outputs
    for name in names:
        if name not in signature.outputs:
            raise RequestError(
                "UNKNOWN_OUTPUT",
                f"there is no output {name[:80]!r}; {signature.known_outputs()}",
            )
    if len(set(names)) < len(names):
        raise RequestError("WRONG_OUTPUT", "an output can be asked for only once")
    rows = conform(signature, values)
    try:
        answers = signature.compute(rows, names)
    except Exception as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise RequestError(
            "REFUSED_BY_MODEL",
            f"the model cannot answer these rows: {first_line[:300].rstrip('.')}",
        ) from error
    return [
        (name, as_scores(answer, rows=len(rows), output=name))
        for name, answer in zip(names, answers, strict=True)
    ]


def conform(signature: Signature, values: Array) -> Array:
    """Return `values` as rows of the signature's type, C-contiguous.

    Raises:
        RequestError: wrong shape, an empty batch, not finite, or out of the type's range.
    """
    shape, wanted = values.shape, signature.row_shape
    if shape[1:] != wanted or not shape:
        _check_shape(signature, shape)
    if not shape[0]:
        raise RequestError("EMPTY_BATCH", "the batch is empty; send at least one row")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise RequestError("NOT_FINITE", "NaN and Infinity are not numbers the model can use")
    if values.dtype == signature.dtype:
        return np.ascontiguousarray(values)
    check_numbers(values, signature.dtype, said=f"the model takes {signature.dtype.name}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=signature.dtype)


def _check_shape(signature: Signature, shape: tuple[int, ...]) -> None:
    """Raise unless `shape` is a batch of rows, where -1 stands for any length."""
    if shape[:1] == (0,):
        raise RequestError("EMPTY_BATCH", "the batch is empty; send at least one row")
    wanted = shape[1:] if signature.row_shape is None else signature.row_shape
    fits = len(shape) == len(wanted) + 1 and all(
        size in (-1, there) for size, there in zip(wanted, shape[1:], strict=True)
    )
    if not fits:
        raise RequestError(
            "WRONG_SHAPE", f"expected shape {signature.expected_shape()}, got {list(shape)}"
        )


def check_numbers(values: Array, dtype: np.dtype[Any], *, said: str) -> None:
    """Check that every one of `values`, which are finite, is one that `dtype` can hold.

    `said` begins the sentence of the error: `the model takes uint8`.

    Raises:
        RequestError: a number is too large, or not whole where `dtype` holds whole numbers.
    """
    if not values.size or dtype in (values.dtype, np.float64):
        return
    if dtype.kind == "f":
        if max(float(values.max()), -float(values.min())) > float(np.finfo(dtype).max):
            raise RequestError("OUT_OF_RANGE", f"{said}, and a number is too large for that")
    elif dtype.kind == "b":
        if not ((values == 0) | (values == 1)).all():
            raise RequestError("WRONG_TYPE", f"{said}: send true and false, or 1 and 0")
    else:
        _check_integers(values, np.iinfo(dtype), said)


def _check_integers(values: Array, limits: Any, said: str) -> None:
    """Raise unless every value is a whole number within `limits`, and came with all its digits."""
    if values.dtype.kind == "f":
        if not (values == np.floor(values)).all():
            raise RequestError("WRONG_TYPE", f"{said}, and a number is not whole")
        if np.abs(values).max() > EXACT:
            raise RequestError(
                "OUT_OF_RANGE",
                f"{said}, and a number beyond 2^53 came as a float, which loses digits; send "
                "integers alone, without a decimal point",
            )
    if values.max() > limits.max or values.min() < limits.min:
        raise RequestError("OUT_OF_RANGE", f"{said}, and a number is out of its range")
