"""A loaded model for the protocols: signatures that turn rows of numbers into scores."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mlops_pipeline.serving import batch_limits, joined, texts
from mlops_pipeline.serving.artifact import Manifest, Tensor
from mlops_pipeline.serving.batch_limits import ALONE, BatchLimits
from mlops_pipeline.serving.cells import check_array, conform_cells, numbers_of, tensors_of
from mlops_pipeline.serving.errors import RequestError
from mlops_pipeline.serving.recording.exchange import keep_scores
from mlops_pipeline.serving.schema import EXACT, TEXT, Schema
from mlops_pipeline.serving.scores import Array, as_scores, datatype_of
from mlops_pipeline.serving.settings import Parameter

if TYPE_CHECKING:
    from mlops_pipeline.serving.custom.process import ComponentProcess

T = TypeVar("T")


@dataclass(frozen=True)
class Input:
    """One of several inputs of a signature."""

    name: str
    row_shape: tuple[int, ...]
    """Shape of one row, without the batch; -1 if the length varies."""
    dtype: np.dtype[Any]
    """Object: strings."""


@dataclass(frozen=True)
class Signature:
    """One way to call the model: an input of rows, and the possible outputs."""

    name: str
    input: str
    """Name of the input tensor."""
    row_shape: tuple[int, ...] | None
    """Shape of one row, without the batch: (4,). -1 if the length varies; None: any shape."""
    dtype: np.dtype[Any]
    """Type of the rows; object: strings, as bytes."""
    outputs: tuple[str, ...]
    """Every output that may be requested by name."""
    default_outputs: tuple[str, ...]
    """The outputs if none is requested; Seldon's protocol returns the first."""
    compute: Callable[[Array, Sequence[str]], Sequence[object]]
    """(rows [n, *row_shape] of `dtype`, names of outputs) → an array per name, each [n, …]."""
    described: Mapping[str, Tensor] = field(default_factory=dict)
    """Output → its type and shape, of the outputs that the model itself describes."""
    takes_missing: bool = False
    """A row may contain NaN: a missing value, which is `null` in JSON."""
    columns: tuple[str, ...] = ()
    """Names of a row's columns, in the model's order; empty if the model has none."""
    takes_columns: bool = True
    """A V2 request may have one tensor for each column, whatever its name if the model knows none;
    otherwise its only tensor has the input's name."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Output of the model that cannot be served → the reason: `is complex`."""
    is_rowwise: bool = False
    """Whether the scores of a row do not depend on the other rows: only then may several requests
    share a call. The warm-up tries it."""
    schema: Schema | None = None
    """What a row may contain. With one for a table or a text, `dtype` is object: rows are cells
    (see `serving.cells`)."""
    inputs: tuple[Input, ...] = ()
    """If the model has several inputs: each of them. Rows are of arrays (see `serving.several`)."""
    batch: BatchLimits = ALONE
    """Which requests may share a call. `Model.for_unit` and the warm-up set it."""
    component: "ComponentProcess | None" = None
    """The process of a custom component, which `compute` calls: it may take seconds, so it is never
    called in the event loop. Seldon's protocol passes requests to it as they are."""

    def of_input(self, one: Input) -> "Signature":
        """Return a signature whose only input is one of several; it must not be computed."""
        text = Schema.text(one.name) if one.dtype.kind == "O" else None
        return replace(
            self,
            input=one.name,
            row_shape=one.row_shape,
            dtype=one.dtype,
            columns=(),
            schema=text,
            inputs=(),
        )

    @property
    def takes_booleans(self) -> bool:
        """Whether some columns of its array of numbers are true or false in JSON, too."""
        return self.dtype.kind != "O" and self.schema is not None and self.schema.has_booleans

    def expected_shape(self) -> str:
        """Return the expected shape of a request, for messages: `[n, 4]`."""
        sizes = ("…",) if self.row_shape is None else self.row_shape
        return f"[{', '.join(['n', *('*' if size == -1 else str(size) for size in sizes)])}]"

    def expected(self) -> str:
        """Return the expected type and shape of a request, for messages: `float64 of shape …`."""
        is_text = not self.inputs and (self.schema is None or self.schema.form == TEXT)
        name = ("text" if is_text else "rows") if self.dtype.kind == "O" else self.dtype.name
        return f"{name} of shape {self.expected_shape()}"

    def known_outputs(self) -> str:
        """Return the existing outputs, and those that cannot be served, for messages."""
        refused = (f"; {name!r} {reason}" for name, reason in self.refused.items())
        return f"it has {', '.join(self.outputs)}{''.join(refused)}"


class Answers(list[T]):
    """Answers of a model, and what it adds to `meta` of Seldon's answer."""

    def __init__(self, answers: Iterable[T] = ()) -> None:
        super().__init__(answers)
        self.tags: Mapping[str, Any] = {}
        self.metrics: Sequence[Mapping[str, Any]] = ()
        self.columns: tuple[str, ...] | None = None
        """Names of the columns, if the answer itself has them."""

    def like(self, other: "Answers[Any]") -> "Answers[T]":
        """Return these answers with what `other` adds."""
        self.tags, self.metrics, self.columns = other.tags, other.metrics, other.columns
        return self


Scores = Answers[tuple[str, Array]]
"""(name of an output, its values [n, …]) in the requested order."""


@dataclass(frozen=True)
class Question:
    """Rows that fit a signature, and the wanted outputs. Created by `ask`."""

    signature: Signature
    rows: Array
    """[n, *row_shape] of the signature's type, C-contiguous, n ≥ 1."""
    names: tuple[str, ...]

    @property
    def limits(self) -> BatchLimits:
        """Which requests may share its call; none if the warm-up did not try an output of it."""
        tried = self.signature.default_outputs
        return self.signature.batch if set(self.names) <= set(tried) else ALONE


Compute = Callable[[Question], Awaitable[Scores]]
"""Computes the scores; raises RequestError if the model refuses the rows."""


async def compute_alone(question: Question) -> Scores:
    """Return `compute(question)`."""
    return compute(question)


@dataclass(frozen=True)
class Model:
    """A loaded and warm model."""

    name: str
    """The graph name: the model's name in every URL."""
    manifest: Manifest
    digest: str
    """The artifact's digest; empty for a model that was not published as one."""
    signatures: Mapping[str, Signature]
    default: Signature
    choose: Callable[[Mapping[str, Parameter]], Signature]
    """The default signature that a unit's parameters choose; raises StartError."""
    example: Array | None = None
    """Rows that the model can answer; None if the artifact has none."""
    number: int = 1
    """The number of its folder in the artifact, which is TF Serving's version of it; 1 if it has
    none."""
    unserved: tuple[int, ...] = ()
    """The numbers of the artifact's other folders with a model."""
    compute: Compute = compute_alone
    """The server sets a `Batcher`'s method here."""

    @property
    def version(self) -> int:
        """TF Serving's numeric version."""
        return self.manifest.version

    @property
    def version_name(self) -> str:
        """V2's version: the digest, if there is one."""
        return self.digest or str(self.version)

    @property
    def version_names(self) -> tuple[str, ...]:
        """Every version that a request may name: the digest, its number, the folder's number."""
        return tuple(dict.fromkeys((self.version_name, str(self.version), str(self.number))))

    async def check_ready(self) -> object:
        """Require that it can answer: the readiness of every protocol.

        Returns what `health_status` of a custom component says; None if there is none.

        Raises:
            RequestError: the class of a component is not loaded, or its `health_status` raised
                something; the status is 503.
        """
        component = self.default.component
        return None if component is None else await component.health.ask()

    async def describe_unready(self) -> str:
        """Return why it cannot answer; empty if it can."""
        try:
            await self.check_ready()
        except RequestError as error:
            return error.sentence
        return ""

    def for_unit(self, parameters: Mapping[str, Parameter]) -> "Model":
        """Return the model as a unit with these parameters serves it.

        Raises:
            StartError: a parameter names something that the model does not have.
        """
        batch_limits.read(parameters)  # Before the model is loaded, which may take minutes.
        default = self.choose(parameters)
        own = default.component.facts.limits if default.component else {}
        limits = batch_limits.read({**own, **parameters})
        default = replace(default, batch=limits if default.is_rowwise else ALONE)
        return self.with_default(default)

    def with_default(self, default: Signature) -> "Model":
        """Return the model with another default signature."""
        return replace(
            self,
            manifest=with_inputs(self.manifest, default),
            default=default,
            signatures={**self.signatures, default.name: default},
        )

    async def predict(
        self, signature: Signature, values: Array, outputs: Sequence[str] = ()
    ) -> Scores:
        """Return the same as the function `predict`; requests of one moment may share a call.

        Raises:
            RequestError: as `predict`; or nobody waits for the answer any more.
        """
        question = ask(signature, values, outputs)
        scores = await self.compute(question)
        keep_scores(question, scores)
        return scores

    def signature(self, name: object) -> Signature:
        """Return the signature that a request names; the default for None or an empty name.

        Raises:
            RequestError: there is none, with the existing ones; or it is not a name.
        """
        if name is None or name == "":
            return self.default
        if type(name) is not str:
            raise RequestError("WRONG_TYPE", "signature_name must be a string")
        signature = self.signatures.get(name)
        if signature is None:
            there = ", ".join(sorted(self.signatures))
            raise RequestError(
                "UNKNOWN_SIGNATURE", f"there is no signature {name[:80]!r}; the model has {there}"
            )
        return signature


def with_inputs(manifest: Manifest, signature: Signature) -> Manifest:
    """Return the manifest of somebody else's model with the input of its default signature."""
    if manifest.digest:
        return manifest
    is_described = signature.dtype.kind == "O" and signature.schema is not None
    schema = signature.schema if is_described else manifest.schema
    return replace(manifest, inputs=input_tensors(signature), schema=schema)


def input_tensors(signature: Signature) -> tuple[Tensor, ...]:
    """Return the inputs of a signature, as a manifest has them."""
    if signature.inputs:
        return tuple(
            Tensor(one.name, (-1, *one.row_shape), datatype_of(one.dtype))
            for one in signature.inputs
        )
    if signature.dtype.kind == "O" and signature.schema is not None:
        return tensors_of(signature.schema)
    shape = (-1, *(signature.row_shape or ()))
    return (Tensor(signature.input, shape, datatype_of(signature.dtype)),)


def predict(signature: Signature, values: Array, outputs: Sequence[str] = ()) -> Scores:
    """Return (name, scores) for each of `outputs`, or the signature's default ones.

    `values` has shape [n, *row_shape], n ≥ 1, of any kind of number. Scores are [n, …].

    Raises:
        RequestError: the shape is wrong, a value is infinite, missing (see `takes_missing`) or too
            large for the model's type, an output is unknown or requested twice, or the model itself
            refuses the rows.
    """
    return compute(ask(signature, values, outputs))


def ask(signature: Signature, values: Array, outputs: Sequence[str] = ()) -> Question:
    """Return a valid question to the model; see `predict`.

    Raises:
        RequestError: the rows or the outputs are not the signature's.
    """
    names = tuple(outputs) or signature.default_outputs
    for name in names:
        if name not in signature.outputs:
            raise RequestError(
                "UNKNOWN_OUTPUT",
                f"the model has no output {name[:80]!r}; {signature.known_outputs()}",
            )
    if len(set(names)) < len(names):
        raise RequestError("WRONG_OUTPUT", "each output can be requested only once")
    return Question(signature, conform(signature, values), names)


def compute(question: Question) -> Scores:
    """Call the model once.

    Whatever it raises is an error of this request, also `SystemExit` and the panics of Rust, which
    are no `Exception`: they would end the event loop.

    Raises:
        RequestError: the model refuses the rows, or its answer cannot be served.
    """
    names = question.names
    try:
        answers = question.signature.compute(question.rows, names)
    except (KeyboardInterrupt, RequestError):
        raise
    except BaseException as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise RequestError(
            "REFUSED_BY_MODEL",
            f"the model cannot answer these rows: {first_line[:300].rstrip('.')}",
        ) from error
    scores = (
        (name, as_scores(answer, rows=len(question.rows), output=name))
        for name, answer in zip(names, answers, strict=True)
    )
    found = Answers(scores)
    return found.like(answers) if isinstance(answers, Answers) else found


def conform(signature: Signature, values: Array) -> Array:
    """Return `values` as rows of the signature's type, C-contiguous.

    Raises:
        RequestError: the shape is wrong, the batch is empty, or a value is not finite or out of the
            type's range.
    """
    if signature.inputs:
        return _checked_inputs(signature, values)
    if signature.dtype.kind == "O" and signature.schema is not None:
        return conform_cells(signature.schema, values)
    shape, wanted = values.shape, signature.row_shape
    if shape[1:] != wanted or not shape:
        _check_shape(signature, shape)
    if not shape[0]:
        raise RequestError("EMPTY_BATCH", "the batch is empty; send at least one row")
    if signature.dtype.kind == "O":
        return texts.conform(values)
    numbers = _checked(signature, values)
    if numbers.dtype == signature.dtype:
        return np.ascontiguousarray(numbers)
    return _cast(numbers, signature.dtype)


def _checked(signature: Signature, values: Array) -> Array:
    """Return values as numbers that the signature allows."""
    if values.dtype.kind == "O" and signature.schema is not None:
        values = numbers_of(signature.schema, values)
    if values.dtype.kind not in "fiub":
        raise RequestError("WRONG_TYPE", f"the model expects {signature.dtype.name}, got text")
    if signature.schema is not None:
        check_array(signature.schema, values)
    elif values.dtype.kind == "f" and not np.isfinite(values).all():
        _check_missing(signature, values)
    return values


def _cast(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return numbers in the model's type, C-contiguous.

    Raises:
        RequestError: a number is out of the type's range, or not whole if it has whole numbers.
    """
    if values.dtype.kind == dtype.kind == "f":
        with np.errstate(over="ignore"):
            rows = np.ascontiguousarray(values, dtype=dtype)
        if np.isfinite(rows).all():  # Faster than searching the largest number before.
            return rows
    check_numbers(values, dtype, said=f"the model expects {dtype.name}")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=dtype)


def _checked_inputs(signature: Signature, values: Array) -> Array:
    """Return the rows of several inputs.

    Raises:
        RequestError: they do not come from an array for each input, or the schema does not allow a
            value.
    """
    is_joined = values.dtype.kind == "O" and values.shape[1:] == (len(signature.inputs),)
    if not is_joined or not all(isinstance(cell, np.ndarray) for cell in values[:1].flat):
        raise not_by_name(signature)
    if signature.schema is not None:
        joined.check(signature.schema, values)
    return values


def not_by_name(signature: Signature) -> RequestError:
    """Return the error of rows that do not have a value for each of several inputs."""
    names = ", ".join(repr(one.name) for one in signature.inputs)
    return RequestError(
        "WRONG_INPUT",
        f"the model has several inputs ({names}): send V2's tensors by name, TF Serving's "
        "instances or inputs by name, these in jsonData, or data.ndarray with rows that are lists "
        "of a value for each input",
    )


def _check_shape(signature: Signature, shape: tuple[int, ...]) -> None:
    """Raise an error unless `shape` is a batch of rows; -1 means any length."""
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


def _check_missing(signature: Signature, values: Array) -> None:
    """Raise an error unless the values that are not finite are missing values that are allowed."""
    if not signature.takes_missing:
        raise RequestError(
            "NOT_FINITE",
            "this server does not accept missing values for this model: null, NaN and Infinity are "
            "refused",
        )
    if np.isinf(values).any():
        raise RequestError("NOT_FINITE", "the model cannot use Infinity")


def check_numbers(values: Array, dtype: np.dtype[Any], *, said: str) -> None:
    """Require that `dtype` can represent each of `values`; floats can represent NaN.

    `said` begins the error's message: `the model expects uint8`.

    Raises:
        RequestError: a number is too large, or not whole if `dtype` has whole numbers.
    """
    if not values.size or values.dtype.kind == "O" or dtype in (values.dtype, np.float64):
        return  # Of objects, `conform` checks each column.
    if dtype.kind == "f":
        # Unlike max, fmax ignores NaN.
        highest, lowest = (ufunc.reduce(values, axis=None) for ufunc in (np.fmax, np.fmin))
        if max(float(highest), -float(lowest)) > float(np.finfo(dtype).max):
            raise RequestError("OUT_OF_RANGE", f"{said}, but a number is too large for it")
    elif dtype.kind == "b":
        if not ((values == 0) | (values == 1)).all():
            raise RequestError("WRONG_TYPE", f"{said}: send true and false, or 1 and 0")
    else:
        _check_integers(values, np.iinfo(dtype), said)


def _check_integers(values: Array, limits: Any, said: str) -> None:
    """Raise an error unless every value is a whole number within `limits` with all its digits."""
    if values.dtype.kind == "f":
        if not (values == np.floor(values)).all():
            raise RequestError("WRONG_TYPE", f"{said}, but a number is not whole")
        if np.abs(values).max() > EXACT:
            raise RequestError(
                "OUT_OF_RANGE",
                f"{said}, but a number beyond 2^53 came as a float, which loses digits; send only "
                "integers, without a decimal point",
            )
    if values.max() > limits.max or values.min() < limits.min:
        raise RequestError("OUT_OF_RANGE", f"{said}, but a number is out of its range")
