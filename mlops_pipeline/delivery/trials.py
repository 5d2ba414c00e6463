"""A new artifact beside the one that it would replace, both asked the same hold-out rows."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import (
    CommandError,
    IntegrityError,
    UnavailableError,
)
from mlops_pipeline.delivery.artifacts import ArtifactStore, Holdout
from mlops_pipeline.delivery.comparison import (
    Comparison,
    compare_on_other_rows,
    compare_on_same_rows,
)
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.verification import scores_where_served
from mlops_pipeline.platforms.platform import ServingEnvironment
from mlops_pipeline.serving.errors import ExitCode

_COMPARED_ROWS = 20_000
"""Most hold-out rows on which two artifacts are compared, of each class as many in proportion."""
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

    def describe(self, *, allowed: float) -> str:
        """Return what was seen in a few sentences; `allowed` is the drop that is allowed."""
        seen, other = self.comparison, self.reference.digest[:12]
        if seen.lost is None:
            where = f"each on its own hold-out set, because {self.unpaired}"
        else:
            where = (
                f"on the same {seen.rows} hold-out rows: {seen.lost} rows became wrong, "
                f"{seen.gained} became right"
            )
        weight = "significant" if seen.is_loss(allowed=0.0) else "not significant"
        return (
            f"the accuracy is {seen.accuracy:.4f}, and that of the deployed {other} is "
            f"{seen.reference_accuracy:.4f}, {where}. The drop is {seen.drop:.4f} "
            f"(90 % interval {seen.low:.4f} to {seen.high:.4f}, p = {seen.p:.2g}, {weight}); "
            f"{allowed:g} is allowed"
        )

    def metadata(self) -> dict[str, Any]:
        """Return the numbers for the UI."""
        seen = asdict(self.comparison)
        numbers = {name: value for name, value in seen.items() if value is not None}
        return numbers | {"drop": self.comparison.drop, "deployed_digest": self.reference.digest}


def compare_with(
    spec: ModelSpec,
    ref: ModelRef,
    reference: ModelRef,
    *,
    artifacts: ArtifactStore,
    environment: ServingEnvironment,
) -> Trial:
    """Let `reference` answer the hold-out set of `ref`, and compare how many rows each gets right.

    What it answers is found out once per pair and serving environment. Where these rows or the
    environment are not for it, each artifact is judged on the hold-out set of its own.

    Raises:
        UnavailableError: the object store did not answer, or `reference` was not asked to the end;
            that says nothing of either.
        NotFoundError: `reference` is not in the object store.
        IntegrityError: one of the two was changed.
    """
    import numpy as np

    holdout = artifacts.holdout(ref)
    asked = holdout.sample(_COMPARED_ROWS)
    right = asked.scores.argmax(axis=1) == asked.y
    answers: list[int] = []
    reason = _describe_misfit(holdout, spec, reference, artifacts)
    if not reason:
        try:
            answers = _answers_of(spec, ref, reference, asked, artifacts, environment)
        except CommandError as error:
            if error.exit_code not in _MISFITS:
                raise UnavailableError(
                    f"the trial of {reference.digest[:12]} did not finish, so nothing was "
                    f"compared: {error}; run the command again"
                ) from error
            reason = str(error)
    if reason:
        reason = f"{reference.digest[:12]} cannot answer the new rows: {reason}"
        return Trial(reference, _compare_apart(holdout, reference, artifacts), reason)
    comparison = compare_on_same_rows(
        right=right, reference_right=np.asarray(answers, dtype=np.int64) == asked.y
    )
    return Trial(reference, comparison, "")


def _answers_of(
    spec: ModelSpec,
    ref: ModelRef,
    reference: ModelRef,
    asked: Holdout,
    artifacts: ArtifactStore,
    environment: ServingEnvironment,
) -> list[int]:
    """Return the class that `reference` answers for each row of `asked`, those of `ref`."""
    served_as = f"{spec.server.parameters} {environment.fingerprint()} spread {_COMPARED_ROWS}"
    name = hashlib.sha256(f"{reference.digest} {served_as}".encode()).hexdigest()
    return artifacts.evidence(
        ref,
        f"answers-of-{name}",
        make=lambda: {
            "reference": reference.digest,
            "classes": _ask(spec, reference, asked, artifacts, environment),
        },
        parse=lambda found: _one_for_each(found["classes"], rows=len(asked.y)),
    )


def _one_for_each(classes: Sequence[Any], *, rows: int) -> list[int]:
    if len(classes) != rows:
        raise ValueError(f"expected {rows} answers, got {len(classes)}")
    return [int(number) for number in classes]


def _ask(
    spec: ModelSpec,
    reference: ModelRef,
    asked: Holdout,
    artifacts: ArtifactStore,
    environment: ServingEnvironment,
) -> list[int]:
    import numpy as np

    scores = scores_where_served(
        spec, reference, asked.x, artifacts=artifacts, environment=environment
    )
    answers = np.asarray(scores, dtype=np.float64)
    if answers.shape != asked.scores.shape:
        raise IntegrityError(
            f"expected scores of shape {list(asked.scores.shape)}, got {list(answers.shape)}"
        )
    return [int(n) for n in answers.argmax(axis=1)]


def _describe_misfit(
    holdout: Holdout, spec: ModelSpec, reference: ModelRef, artifacts: ArtifactStore
) -> str:
    """Say why the new rows are not for `reference`; empty where they are."""
    if (framework := artifacts.manifest(reference).framework) != spec.framework:
        return f"it is a {framework} model"
    old = artifacts.holdout(reference)
    for what, new_shape, old_shape in (
        ("features", holdout.x.shape[1:], old.x.shape[1:]),
        ("classes", holdout.scores.shape[1:], old.scores.shape[1:]),
    ):
        if new_shape != old_shape:
            return f"it has {_size(old_shape)} {what}, the rows have {_size(new_shape)}"
    return ""


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape) or "no"


def _compare_apart(holdout: Holdout, reference: ModelRef, artifacts: ArtifactStore) -> Comparison:
    metrics = artifacts.manifest(reference).metrics
    rows = int(metrics.get("holdout_rows", len(holdout.y)))
    return compare_on_other_rows(
        right=int((holdout.scores.argmax(axis=1) == holdout.y).sum()),
        rows=len(holdout.y),
        reference_right=round(metrics["accuracy"] * rows),
        reference_rows=rows,
    )
