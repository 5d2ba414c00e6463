"""From a folder to a warm model: verify, load with the manifest's framework, predict once.

scikit-learn and TensorFlow are imported only by their loader, after the artifact has been verified:
a damaged artifact is refused in milliseconds.
"""

import importlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mlops_pipeline.serving import artifact, frameworks, joined
from mlops_pipeline.serving.artifact import Manifest
from mlops_pipeline.serving.bare import describe
from mlops_pipeline.serving.batch_limits import ALONE
from mlops_pipeline.serving.cells import another_row, guess, read_cells
from mlops_pipeline.serving.custom.rows import answers
from mlops_pipeline.serving.errors import ExitCode, RequestError, StartError
from mlops_pipeline.serving.models import Model, Scores, Signature, conform, predict, with_inputs
from mlops_pipeline.serving.schema import ARRAY, INPUTS, Schema, shown_some
from mlops_pipeline.serving.scores import Array, UnwritableError
from mlops_pipeline.serving.settings import Parameter, Place
from mlops_pipeline.serving.signatures import Signatures
from mlops_pipeline.serving.signing.errors import SignatureError
from mlops_pipeline.serving.signing.policy import Mode, Policy, read_signature, remedy

logger = logging.getLogger(__name__)

_NO_SIGNATURES = Policy()
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5
"""Differences between scores of one row that rounding explains."""


def verify(
    folder: Path,
    *,
    place: Place = Place.MACHINE,
    implementation: str | None = None,
    policy: Policy = _NO_SIGNATURES,
) -> Manifest:
    """Return the manifest of the artifact in `folder`, after comparing every file with it.

    In a pod, the folder may also contain a model without a manifest, which is described instead, as
    one of `implementation`. `policy` says which signatures count. Nothing is imported from the
    folder, and nothing of it is unpickled.

    Raises:
        StartError: it does not match its manifest, with the files named; there is no model; or it
            has no signature that counts.
    """
    try:
        if place is Place.MACHINE:
            manifest = artifact.verify(folder)
        else:
            manifest = describe(folder, implementation)
        _verify_signature(folder, manifest, policy)
    except artifact.ArtifactError as error:
        raise StartError(f"{error}", code=ExitCode.ARTIFACT) from error
    return manifest


def _verify_signature(folder: Path, manifest: Manifest, policy: Policy) -> None:
    """Verify the signature of a folder whose files match its manifest, if it has one.

    Raises:
        StartError: signatures are required, and there is none that counts.
    """
    if policy.mode is Mode.OFF:
        return
    what, target = f"the model in {folder}", "URI"
    if manifest.digest:
        what = f"the artifact {manifest.name} {manifest.digest[:12]} in {folder}"
        target = f"{manifest.name}/{manifest.digest[:12]}"
        files = artifact.signed_files(manifest, (folder / artifact.MANIFEST).read_bytes())
    else:
        files = artifact.hash_files(folder)
    try:
        files = artifact.with_links(files, folder)
        policy.check(files, read_signature(folder), what=what)
    except SignatureError as error:
        advice = remedy(error.problem, target)
        if not manifest.digest:
            advice += (
                "; URI is its modelUri. Where the platform does not write, add `--output "
                "model.sig` and upload that file beside the model"
            )
        raise StartError(f"{error}. {advice}.", code=ExitCode.ARTIFACT) from error


def check_implementation(manifest: Manifest, implementation: str) -> None:
    """Require that `implementation` (`SKLEARN_SERVER` …) serves this artifact.

    Raises:
        StartError: the implementation is unknown, or serves another framework.
    """
    framework = frameworks.find_served(implementation)
    if framework is None:
        allowed = ", ".join(frameworks.implementations())
        raise StartError(
            f"Unknown implementation {implementation!r}; expected {allowed}.",
            code=ExitCode.SETTINGS,
        )
    if framework.name != manifest.framework:
        raise StartError(
            f"{implementation} serves {framework.name} models, but {manifest.name} is "
            f"{manifest.framework}.",
            code=ExitCode.SETTINGS,
        )


def load(
    folder: Path,
    manifest: Manifest,
    parameters: Mapping[str, Parameter] | None,
    *,
    graph_name: str | None,
) -> Model:
    """Load the verified artifact in `folder` and predict its example, so that it answers fast.

    Without parameters (None), each request will have them, and any signature may be the default.
    The model is warmed again for each unit, so one that does not answer by its first signature
    only causes a warning.

    Raises:
        StartError: the framework is not installed, the model does not load or does not answer, or a
            parameter names something that the model does not have.
    """
    begin = time.monotonic()
    signatures, choose = with_schema(manifest, _loader(manifest)(folder, manifest))
    first = signatures[min(signatures)]
    number, unserved = _numbers(folder, manifest)
    model = Model(
        name=graph_name or manifest.name,
        manifest=with_inputs(manifest, first),
        digest=manifest.digest,
        signatures=signatures,
        default=first,
        choose=choose,
        example=_find_example(folder, manifest.schema),
        number=number,
        unserved=unserved,
    )
    if parameters is not None:
        model = model.for_unit(parameters)
    try:
        model = warm(model)
    except StartError as error:
        if parameters is not None:
            raise
        logger.warning("No unit has selected the signature %r yet: %s", first.name, error)
    logger.info("Loaded %s %s in %.2f s", model.name, model.digest[:12], time.monotonic() - begin)
    return model


def _numbers(folder: Path, manifest: Manifest) -> tuple[int, tuple[int, ...]]:
    """Return the number of the folder that is served, 1 if it has none, and those of the others.

    Folders with a SavedModel are versions only for a framework that numbers its models; another one
    may contain them as parts.
    """
    framework = frameworks.find_framework(manifest.framework)
    number = (framework.find(folder) if framework else None) or 1
    *others, highest = sorted(artifact.saved_models(folder)) or [1]
    return number, tuple(others) if number == highest else ()


def with_schema(manifest: Manifest, loaded: Signatures) -> Signatures:
    """Return signatures with the manifest's schema of an array, if they have the manifest's input.

    Signatures of tables and strings have their schema already.

    Raises:
        StartError: the model knows its columns by other names, or in another order.
    """
    schema, (signatures, choose) = manifest.schema, loaded
    if schema is None or schema.form != ARRAY:
        return loaded
    is_nullable = any(column.nullable for column in schema.columns)
    inputs = {tensor.name for tensor in manifest.inputs}
    is_named = any(signature.input in inputs for signature in signatures.values())

    def described(signature: Signature) -> Signature:
        if signature.inputs or (is_named and signature.input not in inputs):
            return signature
        if signature.columns and signature.columns != schema.names:
            raise StartError(
                f"The model {manifest.name} knows its columns as "
                f"{shown_some(signature.columns)}, but its schema is for "
                f"{shown_some(schema.names)}: train it on the columns of the schema, in its order.",
                code=ExitCode.MODEL,
            )
        return replace(
            signature,
            schema=schema,
            columns=signature.columns or schema.names,
            takes_missing=signature.takes_missing or is_nullable,
        )

    described_all = {name: described(signature) for name, signature in signatures.items()}
    return described_all, lambda parameters: described(choose(parameters))


def _find_example(folder: Path, schema: Schema | None) -> Array | None:
    """Return the rows of the model's example, None if it has no readable one."""
    try:
        values = json.loads((folder / artifact.EXAMPLE).read_bytes())
        if schema is not None and schema.form == INPUTS:
            return joined.of_list(schema, values, where=artifact.EXAMPLE)
        if schema is not None and schema.form != ARRAY:
            return read_cells(values, where=artifact.EXAMPLE)
        rows = np.array(values)
    except FileNotFoundError:
        return None
    except (OSError, TypeError, ValueError, RequestError) as error:
        logger.warning("Not using %s: it cannot be read: %s", folder / artifact.EXAMPLE, error)
        return None
    if rows.dtype.kind == "U":
        rows = rows.astype(object)
    if rows.dtype.kind not in "fiubO" or not rows.ndim:
        logger.warning("Not using %s: it is not a list of rows", folder / artifact.EXAMPLE)
        return None
    return rows


def warm(model: Model) -> Model:
    """Predict the example, so that the first answer is fast, and verify the answer.

    Without an example the rows are guesses, which the model may legitimately refuse. Returns the
    model, without batching if the answer to a row depends on the other rows, or is unknown.

    Raises:
        StartError: the model does not answer its example, or no protocol can write its answer.
    """
    if model.default.component is not None and not model.default.is_rowwise:
        return _warm_component(model)
    example = _conforming_example(model)
    reason = "its rows may have any shape"
    for rows in (example,) if example is not None else _guesses(model.default):
        try:
            return model if _predict(model, rows) else _without_batching(model)
        except UnwritableError as error:
            raise StartError(
                f"The answers of the model {model.name} cannot be served: {error.sentence}.",
                code=ExitCode.MODEL,
            ) from error
        except RequestError as error:
            reason = error.sentence
    if example is not None:
        raise StartError(
            f"The model {model.name} loads, but does not answer its example: {reason}. It was "
            f"trained with {_versions(model.manifest)}.",
            code=ExitCode.MODEL,
        )
    logger.warning(
        "%s is ready, but its first answer may be slow: it has no %s, and it refused guessed "
        "rows: %s",
        *(model.name, artifact.EXAMPLE, reason),
    )
    return _without_batching(model)


def _warm_component(model: Model) -> Model:
    """Send the example to a custom component, once, and nothing else: it may count its requests.

    Raises:
        StartError: it gives no answer.
    """
    example, component = _conforming_example(model), model.default.component
    if example is None or component is None:
        return model
    try:
        answers(component, model.default.columns, example, ())
    except RequestError as error:
        raise StartError(
            f"The component {model.name} loads, but does not answer its example: "
            f"{error.sentence}. It was trained with {_versions(model.manifest)}.",
            code=ExitCode.MODEL,
        ) from error
    return model


def _without_batching(model: Model) -> Model:
    if model.default.batch.rows < ALONE.rows + 1:
        return model
    logger.warning(
        "%s computes each request alone: its answer to a row is not known to be independent of the "
        "other rows",
        model.name,
    )
    return model.with_default(replace(model.default, batch=ALONE))


def _predict(model: Model, rows: Array) -> bool:
    """Predict `rows`, and another number of them: the first axis of an answer must be the rows.

    A single row does not prove it: the sum over all rows also has one row. Returns whether the
    answer to the first row was the same among other rows.

    Raises:
        RequestError: the model refuses `rows`. It may refuse another number of them, because its
            batch size may be fixed.
        UnwritableError: no protocol can write an answer.
    """
    answers = predict(model.default, rows)
    others = rows[:1] if len(rows) > 1 else np.repeat(rows, 2, axis=0)
    try:
        more = predict(model.default, others)
    except UnwritableError:
        raise
    except RequestError as error:
        logger.warning(
            "%s answers %d rows, but refuses %d: %s",
            *(model.name, len(rows), len(others), error.sentence),
        )
        return False
    beside = _beside_another(model.default, rows)
    return _agree(answers, more) and beside is not None and _agree(answers, beside)


def _beside_another(signature: Signature, rows: Array) -> Scores | None:
    """Predict one row beside a different one; None if the model refuses that one."""
    if signature.inputs and signature.schema is not None:
        other = joined.guess(signature.schema)
    elif signature.inputs:
        other = np.empty_like(rows[:1])
        for number, one in enumerate(signature.inputs):
            zeros = np.zeros_like(rows[0, number])
            other[0, number] = np.array(["a"], dtype=object) if one.dtype.kind == "O" else zeros
    elif signature.schema is not None:
        other = another_row(signature.schema, rows)
    elif signature.dtype.kind == "O":
        other = rows[:1] + b"x"
    else:
        other = (rows[:1] == 0).astype(rows.dtype)
    try:
        return predict(signature, np.concatenate([rows[:1], other]))
    except RequestError:
        return None


def _agree(answers: Scores, others: Scores) -> bool:
    """Say whether the first row's scores are equal, except for the rounding of floats."""
    return all(
        _is_close(one[:1], other[:1]) for (_, one), (_, other) in zip(answers, others, strict=True)
    )


def _is_close(one: Array, other: Array) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    if one.dtype.kind != "f":
        return np.array_equal(one, other)
    return np.allclose(one, other, rtol=_RELATIVE, atol=_ABSOLUTE)


def _conforming_example(model: Model) -> Array | None:
    """Return the model's example, None if it has none for its default signature."""
    try:
        return None if model.example is None else conform(model.default, model.example)
    except RequestError as error:
        logger.warning("Not using %s: %s", artifact.EXAMPLE, error.sentence)
        return None


def _guesses(signature: Signature) -> tuple[Array, ...]:
    """Return rows that many models answer: zeros and ones; none if rows may have any shape."""
    if signature.inputs and signature.schema is not None:
        return (joined.guess(signature.schema),)
    if signature.inputs:
        return tuple(_guess_inputs(signature, value) for value in (0, 1))
    if signature.schema is not None:
        return (guess(signature.schema).astype(signature.dtype),)
    if signature.row_shape is None:
        return ()
    shape = (1, *(max(size, 1) for size in signature.row_shape))
    if signature.dtype.kind == "O":
        return np.full(shape, b"", object), np.full(shape, b"text", object)
    return np.zeros(shape, signature.dtype), np.ones(shape, signature.dtype)


def _guess_inputs(signature: Signature, value: int) -> Array:
    """Return a row in which each input has this value, or a text of it."""
    row = np.empty((1, len(signature.inputs)), dtype=object)
    for number, one in enumerate(signature.inputs):
        shape = tuple(max(size, 1) for size in one.row_shape) or (1,)
        filled = str(value) if one.dtype.kind == "O" else value
        row[0, number] = np.full(shape, filled, dtype=one.dtype)
    return row


Loader = Callable[[Path, Manifest], Signatures]


def _loader(manifest: Manifest) -> Loader:
    """Return the loader of the manifest's framework, importing the framework.

    Raises:
        StartError: the framework is unknown, or not installed here.
    """
    framework = frameworks.find_framework(manifest.framework)
    if framework is None:
        raise StartError(
            f"The manifest of {manifest.name} names the unknown framework {manifest.framework!r}; "
            f"known are {frameworks.names()}.",
            code=ExitCode.MODEL,
        )
    form = manifest.schema.form if manifest.schema else ARRAY
    if form not in framework.forms:
        raise StartError(
            f"The schema of {manifest.name} is for a {form}, which a {framework.title} model does "
            f"not take; it takes: {', '.join(framework.forms)}.",
            code=ExitCode.MODEL,
        )
    module, _, function = framework.loader.partition(":")
    try:
        loader: Loader = getattr(importlib.import_module(module), function)
    except ImportError as error:
        missing = framework.describe_missing() or f"{error}. Install it in the serving environment"
        raise StartError(
            f"{manifest.name} is a {manifest.framework} model, but {manifest.framework} cannot be "
            f"used here: {missing}.",
            code=ExitCode.MODEL,
        ) from error
    return loader


def _versions(manifest: Manifest) -> str:
    """Return the versions of the training process, for messages."""
    known = (f"{name} {version}" for name, version in sorted(manifest.versions.items()))
    return ", ".join(known) or "unknown versions"
