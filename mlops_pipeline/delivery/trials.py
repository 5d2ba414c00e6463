"""A new artifact beside the one that it would replace, both asked the same hold-out rows."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog import tasks
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.catalog.tasks import Comparison, Metric
from mlops_pipeline.catalog.tasks.metric import MOST_ROWS
from mlops_pipeline.clients.errors import (
    CommandError,
    ConfigurationError,
    ConflictError,
    IntegrityError,
    UnavailableError,
)
from mlops_pipeline.delivery.artifacts import ArtifactStore, Holdout
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.verification import scores_where_served
from mlops_pipeline.platforms.platform import ServingEnvironment
from mlops_pipeline.serving.errors import ExitCode
from mlops_pipeline.serving.schema import ARRAY, TEXT, Schema, shown_some

if TYPE_CHECKING:
    from numpy.typing import NDArray

_COMPARED_ROWS = MOST_ROWS
"""Most hold-out rows on which two artifacts are compared, spread over the targets."""
_SAME = 1e-6
"""Maximum relative difference of a metric that is computed again from the same predictions."""
_MISFITS = (ExitCode.MODEL, ExitCode.ROWS)
"""Exit codes of a trial that says what stays so: the model does not load there, or refuses rows."""


@dataclass(frozen=True)
class Trial:
    """A new artifact beside the one that it would replace."""

    reference: ModelRef
    """The older one."""
    comparison: Comparison
    unpaired: str
    """Why each was judged on its own hold-out set; empty: both answered the same rows."""

    def describe(self, metric: Metric, *, allowed: float) -> str:
        """Return what was seen in a few sentences; `allowed` is the loss that is allowed."""
        seen, other, show = self.comparison, self.reference.digest[:12], metric.shown
        where = f"on the same {seen.rows} hold-out rows"
        if self.unpaired:
            where = f"each on its own hold-out set, because {self.unpaired}"
        elif seen.lost is not None:
            where += f": {seen.lost} rows became wrong, {seen.gained} became right"
        if math.isnan(seen.loss):
            return (
                f"the {metric.label} is {show(seen.value)}, and that of the deployed {other} is "
                f"{show(seen.reference_value)}, {where}: there is no loss to compute"
            )
        weight = "significant" if seen.is_loss(allowed=0.0) else "not significant"
        return (
            f"the {metric.label} is {show(seen.value)}, and that of the deployed {other} is "
            f"{show(seen.reference_value)}, {where}. The {metric.loss_name} is {show(seen.loss)} "
            f"(90 % interval {show(seen.low)} to {show(seen.high)}, p = {seen.p:.2g}, {weight}); "
            f"{allowed:g} is allowed"
        )

    def metadata(self) -> dict[str, Any]:
        """Return the numbers for the UI."""
        seen = asdict(self.comparison)
        numbers = {
            name: value
            for name, value in seen.items()
            if value is not None and math.isfinite(value)
        }
        return numbers | {"deployed_digest": self.reference.digest}


def compare_with(
    spec: ModelSpec,
    ref: ModelRef,
    reference: ModelRef,
    *,
    artifacts: ArtifactStore,
    environment: ServingEnvironment,
) -> Trial:
    """Let `reference` answer the hold-out set of `ref`, and compare both by the main metric.

    This is done once per pair, metric and serving environment. Where these rows or the environment
    are not for it, each artifact is judged on the hold-out set of its own.

    Raises:
        UnavailableError: the object store did not answer, or `reference` was not asked to the end;
            that says nothing of either.
        NotFoundError: `reference` is not in the object store.
        IntegrityError: one of the two was changed.
        ConflictError: `reference` is a model of another task, its metric was measured in another
            way, or the metric fails.
    """
    holdout = artifacts.holdout(ref)
    reason = _describe_misfit(holdout, spec, ref, reference, artifacts)
    if not reason:
        try:
            seen = _compare_paired(
                spec, ref, reference, holdout, artifacts=artifacts, environment=environment
            )
            return Trial(reference, seen, "")
        except CommandError as error:
            if error.exit_code not in _MISFITS:
                raise UnavailableError(
                    f"the trial of {reference.digest[:12]} did not finish, so nothing was "
                    f"compared: {error}; run the command again"
                ) from error
            reason = str(error)
    old = artifacts.holdout(reference)
    samples = (whole.sample(_COMPARED_ROWS) for whole in (holdout, old))
    with _measured():
        seen = spec.metric.compare_apart(*((part.y, part.scores) for part in samples))
    return Trial(reference, seen, f"{reference.digest[:12]} cannot answer the new rows: {reason}")


def _compare_paired(
    spec: ModelSpec,
    ref: ModelRef,
    reference: ModelRef,
    holdout: Holdout,
    *,
    artifacts: ArtifactStore,
    environment: ServingEnvironment,
) -> Comparison:
    """Return how `ref` is beside what `reference` answers to rows of the hold-out set."""
    import numpy as np

    asked = holdout.sample(_COMPARED_ROWS)
    schemas = (artifacts.manifest(one).schema for one in (ref, reference))

    def compare() -> Mapping[str, Any]:
        scores = scores_where_served(
            spec,
            reference,
            _in_order(asked.x, *schemas),
            artifacts=artifacts,
            environment=environment,
        )
        answers = np.asarray(scores, dtype=np.float64)
        if answers.shape != asked.scores.shape:
            raise IntegrityError(
                f"expected scores of shape {list(asked.scores.shape)}, got {list(answers.shape)}"
            )
        with _measured():
            return asdict(spec.metric.compare(asked.y, asked.scores, answers))

    served_as = f"{spec.server.parameters} {environment.fingerprint()} spread {_COMPARED_ROWS}"
    pair = f"{reference.digest} {spec.task.settings()} {spec.metric.name} {served_as}"
    return artifacts.evidence(
        ref,
        f"beside-{hashlib.sha256(pair.encode()).hexdigest()}",
        make=compare,
        parse=lambda found: Comparison(**found),
    )


def _in_order(rows: "NDArray[Any]", new: Schema | None, old: Schema | None) -> "NDArray[Any]":
    """Return rows in the order of the columns of the older artifact."""
    if new is None or old is None or new.names == old.names or rows.ndim != 2:
        return rows
    return rows[:, [new.names.index(name) for name in old.names]]


def _describe_columns(new: Schema | None, old: Schema | None) -> str:
    """Say why rows of the new schema are not for the old one; empty where they are."""
    form, rows = (ARRAY if schema is None else schema.form for schema in (old, new))
    if form != rows:
        return f"it takes a row of the form {form}, the rows are of the form {rows}"
    if new is None or old is None or form == TEXT:
        return ""
    missing = [name for name in old.names if name not in new.names]
    if missing:
        return f"the rows have no column {shown_some([repr(name) for name in missing])}"
    shapes = {column.name: list(column.shape) for column in new.inputs}
    for column in old.inputs:
        if list(column.shape) != shapes[column.name]:
            return (
                f"its input {column.name!r} has rows of the shape {list(column.shape)}, the new "
                f"rows have the shape {shapes[column.name]} there"
            )
    return ""


def _describe_misfit(
    holdout: Holdout,
    spec: ModelSpec,
    ref: ModelRef,
    reference: ModelRef,
    artifacts: ArtifactStore,
) -> str:
    """Say why the new rows are not for `reference`; empty where they are.

    Raises:
        ConflictError: it is a model of another task, or its metric was measured in another way.
    """
    manifest = artifacts.manifest(reference)
    if (task := tasks.recorded(manifest.task)) != spec.task.name:
        raise ConflictError(f"it is a model for {task}, the new one for {spec.task.name}")
    if manifest.framework != spec.framework:
        return f"it is a {manifest.framework} model"
    old = artifacts.holdout(reference)
    _require_same_measure(spec.metric, old, manifest.metrics)
    for what, new_shape, old_shape in (
        ("features", holdout.x.shape[1:], old.x.shape[1:]),
        ("outputs", holdout.scores.shape[1:], old.scores.shape[1:]),
    ):
        if new_shape != old_shape:
            return f"it has {_size(old_shape)} {what}, the rows have {_size(new_shape)}"
    return _describe_columns(artifacts.manifest(ref).schema, manifest.schema)


def _require_same_measure(metric: Metric, holdout: Holdout, published: Mapping[str, float]) -> None:
    """Compute an artifact's metric again: its published value tells how its answers are read.

    Raises:
        ConflictError: the task now reads the answers in another way, or computes another metric.
    """
    if (before := published.get(metric.name)) is None:
        return
    with _measured():
        now = metric.value(holdout.y, holdout.scores)
    if not math.isclose(now, before, rel_tol=_SAME, abs_tol=0.0):
        raise ConflictError(
            f"its {metric.label} was measured in another way: its manifest says "
            f"{metric.shown(before)}, the current task computes {metric.shown(now)} from the same "
            "predictions"
        )


@contextmanager
def _measured() -> Iterator[None]:
    """Translate a metric that fails: nothing can be compared, which a person can accept.

    Raises:
        ConflictError: the metric fails.
    """
    try:
        yield
    except ConfigurationError as error:
        raise ConflictError(str(error)) from error


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape) or "no"
