"""What a loaded model is to the protocols: signatures that turn rows of numbers into scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlops_pipeline.serving.artifact import Manifest
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.settings import Parameter

Array = NDArray[Any]

_DATATYPES = {
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    **{
        f"{kind}{bits}": f"{kind}{bits}".upper()
        for kind in ("int", "uint")
        for bits in (8, 16, 32, 64)
    },
    "bool": "BOOL",
}


def datatype_of(dtype: np.dtype[Any]) -> str:
    """Return V2's name for an array's type; what is not a number is BYTES (strings)."""
    return _DATATYPES.get(dtype.name, "BYTES")


@dataclass(frozen=True)
class Signature:
    """One way to ask the model: an input of rows, and the outputs it can give."""

    name: str
    input: str
    """Name of the input tensor."""
    row_shape: tuple[int, ...]
    """Shape of one row, without the batch: (4,). -1 where the length varies."""
    dtype: np.dtype[Any]
    outputs: tuple[str, ...]
    """Every output that may be asked for by name."""
    default_outputs: tuple[str, ...]
    """What is answered when none is asked for; Seldon's protocol answers the first."""
    compute: Callable[[Array, Sequence[str]], Sequence[Array]]
    """(rows [n, *row_shape] of `dtype`, names of outputs) → an array per name, each [n, …]."""

    def expected_shape(self) -> str:
        """Return the shape a request needs, for a sentence: `[n, 4]`."""
        return f"[{', '.join(['n', *('*' if size < 0 else str(size) for size in self.row_shape)])}]"


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
                f"there is no output {name[:80]!r}; there is {', '.join(signature.outputs)}",
            )
    if len(set(names)) < len(names):
        raise RequestError("WRONG_OUTPUT", "an output can be asked for only once")
    rows = conform(signature, values)
    try:
        scores = signature.compute(rows, names)
    except Exception as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise RequestError(
            "REFUSED_BY_MODEL",
            f"the model cannot answer these rows: {first_line[:300].rstrip('.')}",
        ) from error
    for array in scores:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise RequestError(
                "NOT_FINITE", "the model has no finite answer for these rows; are values too large?"
            )
    return list(zip(names, scores, strict=True))


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
    return _convert(values, signature.dtype)


def _check_shape(signature: Signature, shape: tuple[int, ...]) -> None:
    """Raise unless `shape` is a batch of rows, where -1 stands for any length."""
    if shape[:1] == (0,):
        raise RequestError("EMPTY_BATCH", "the batch is empty; send at least one row")
    wanted = signature.row_shape
    fits = len(shape) == len(wanted) + 1 and all(
        size in (-1, there) for size, there in zip(wanted, shape[1:], strict=True)
    )
    if not fits:
        raise RequestError(
            "WRONG_SHAPE", f"expected shape {signature.expected_shape()}, got {list(shape)}"
        )


def _convert(values: Array, dtype: np.dtype[Any]) -> Array:
    """Convert numbers to `dtype`, refusing those it cannot hold."""
    if dtype.kind in "iu" and not _are_integers(values, dtype):
        raise RequestError("WRONG_TYPE", f"the model takes integers ({dtype.name}) only")
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(values, dtype=dtype)
    if dtype.kind == "f" and not np.isfinite(rows).all():
        raise RequestError("OUT_OF_RANGE", f"a number is too large for the model's {dtype.name}")
    return rows


def _are_integers(values: Array, dtype: np.dtype[Any]) -> bool:
    """Say whether every value is a whole number that `dtype` can hold."""
    limits = np.iinfo(dtype)
    whole = values.dtype.kind in "iu" or bool((values == np.floor(values)).all())
    return whole and bool((values >= limits.min).all() and (values <= limits.max).all())
