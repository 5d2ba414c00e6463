"""Proof that what answers is what was trained."""

import hashlib
import json
import math
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.catalog.tasks import Estimate
from mlops_pipeline.clients.errors import CommandError, ConfigurationError, UnavailableError
from mlops_pipeline.clients.prediction import Answer, PredictionClient, request_for
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.delivery.artifacts import ArtifactStore, Holdout
from mlops_pipeline.delivery.references import DeploymentRef, ModelRef
from mlops_pipeline.platforms.platform import ServingEnvironment
from mlops_pipeline.serving.artifact import ROWS_AT_ONCE
from mlops_pipeline.serving.errors import ExitCode

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_SKEW_ROWS = 1_000
"""Most hold-out rows that the skew guard compares."""
_VERDICTS = (ExitCode.SETTINGS, ExitCode.ARTIFACT, ExitCode.MODEL, ExitCode.ROWS)
"""Exit codes of a trial that says what stays so. Others are those of a full disk, a lack of memory,
a container engine, or a signal."""
_VALUES_PER_REQUEST = 100_000
"""Most numbers in one request of the hold-out set: about 1 MB of JSON."""
_BYTES_PER_REQUEST = 1_000_000
"""Most JSON of cells in one request, if not of a single row."""
_HOLDOUT_TIMEOUT = 120.0
"""Seconds for the whole hold-out set."""
_FAILURES_IN_A_ROW = 5
_REPEATS = 8
"""Times that rows are asked for until another version than that beside it answers them."""
_AT_ONCE = 2
"""Batches that are asked for at a time."""
_FAILURES_SHOWN = 10
_SINGLE_ROWS = 100
"""Requests of one row that measure the latency."""


@dataclass(frozen=True)
class SkewReport:
    """How an artifact behaves where it will be served."""

    rows: int
    max_difference: float
    """Greatest difference (`max_difference`) between the served environment's and the trained
    scores."""
    environment: str
    """Fingerprint of the serving environment."""


@dataclass(frozen=True)
class ServedReport:
    """How a deployment answered the hold-out set through the gateway."""

    holdout_rows: int
    rows: int
    """Those that the deployed artifact answered."""
    requests: int
    failed_requests: int
    wrong_digests: int
    """Answers of an artifact that may not answer."""
    max_difference: float | None
    """Greatest difference (`max_difference`) between a served and an offline score; None where not
    every row was answered with scores that can be compared."""
    quality: Mapping[str, Estimate]
    """Name of a metric with a threshold → its value on the whole hold-out set. A row that was not
    answered is wrong; a metric that does not count such rows is missing then."""
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    """Percentiles of the latency of single-row requests, ms; None when none was answered."""
    example_request: str
    example_answer: str
    failures: tuple[str, ...] = ()
    """What went wrong with the first requests that failed, then with metrics."""
    answers_of_other_version: int = 0
    """Answers of the other version of a release in progress."""


def check_skew(
    spec: ModelSpec, ref: ModelRef, *, artifacts: ArtifactStore, environment: ServingEnvironment
) -> SkewReport:
    """Load the artifact in the serving environment and compare its scores with the trained ones.

    Found out once per artifact and environment; the evidence is kept beside the artifact.

    Raises:
        PipelineError: it does not load or does not predict there; the reason.
    """
    server = spec.server
    served_as = (
        f"{server.implementation} {server.parameters} {environment.fingerprint()} "
        f"spread {_SKEW_ROWS}"
    )
    return artifacts.evidence(
        ref,
        f"served-by-{hashlib.sha256(served_as.encode()).hexdigest()}",
        make=lambda: asdict(_try_serving(spec, ref, artifacts, environment)),
        parse=lambda found: SkewReport(
            int(found["rows"]), float(found["max_difference"]), str(found["environment"])
        ),
    )


def _try_serving(
    spec: ModelSpec, ref: ModelRef, artifacts: ArtifactStore, environment: ServingEnvironment
) -> SkewReport:
    whole = artifacts.proof_rows(ref)
    holdout = whole.sample(_SKEW_ROWS)
    scores = scores_where_served(spec, ref, holdout.x, artifacts=artifacts, environment=environment)
    return SkewReport(
        rows=len(scores),
        max_difference=max_difference(scores, holdout.scores, among=whole.scores),
        environment=environment.fingerprint(),
    )


def scores_where_served(
    spec: ModelSpec,
    ref: ModelRef,
    rows: "NDArray[Any]",
    *,
    artifacts: ArtifactStore,
    environment: ServingEnvironment,
) -> list[list[float]]:
    """Load the artifact in the serving environment and return its scores, shape [n, outputs].

    `rows` has shape [n, features]; strings have shape [n].

    Raises:
        UnavailableError: the trial did not finish, which says nothing about the artifact.
        PipelineError: it does not load or does not predict there; the reason.
    """
    from mlops_pipeline.serving import cells

    with temporary_folder("serving") as folder:
        artifacts.download(ref, folder / "model")
        cells.save(folder / "rows.npy", rows)
        try:
            return environment.predict(
                folder / "model",
                folder / "rows.npy",
                implementation=spec.server.implementation,
                parameters=spec.server.parameters,
            )
        except CommandError as error:
            if error.exit_code in _VERDICTS:
                raise
            raise UnavailableError(
                f"the trial of {ref.name} {ref.digest[:12]} did not finish, so there is no "
                f"verdict: {error}"
            ) from error


def max_difference(
    left: "ArrayLike", right: "ArrayLike", *, among: "ArrayLike | None" = None
) -> float:
    """Return max |left - right| / max(|right|, unit). The unit is the greatest |among|, at most 1.

    `among` are the scores of all rows, if `right` has only some; None: `right`. So one tolerance
    fits probabilities, prices and concentrations, and a score near 0 beside large ones. Infinite
    where shapes differ or a score is not a number.
    """
    import numpy as np

    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    known = b if among is None else np.asarray(among, dtype=np.float64)
    unit = min(1.0, float(np.abs(known).max(initial=0.0))) or 1.0
    return float((np.abs(a - b) / np.maximum(np.abs(b), unit)).max(initial=0.0))


def ask_holdout(
    spec: ModelSpec,
    deployment: DeploymentRef,
    holdout: Holdout,
    *,
    trust: str = "",
    beside: Collection[str] = (),
) -> ServedReport:
    """Ask the whole hold-out set in batches, then single rows for the latency.

    `trust` is what `Platform.gateway_trust` returns. `beside` are the digests of other versions
    that may answer, because a release is in progress. What they answer is counted apart, and the
    same rows are sent again. Rows that only they answered are not compared, and count in no metric.

    Gives up after 120 s, or five failures in a row: what was not asked counts as not answered.
    """
    import numpy as np

    asked = _Asked(beside)
    served = np.full(holdout.scores.shape, np.nan)
    is_compared = np.ones(len(holdout.x), dtype=bool)
    answered = 0
    with PredictionClient(deployment.url, trust=trust) as client:
        for rows, answer in asked.ask_all(client, holdout.x):
            if answer is None:
                continue
            if answer.digest in beside:
                is_compared[rows] = False
                continue
            answered += len(answer.scores)
            if np.shape(answer.scores) == served[rows].shape:
                served[rows] = answer.scores
        singles = [asked.ask(client, holdout.x[n : n + 1]) for n in _spread(len(holdout.x))]
    own = [answer for answer in singles if answer is not None and answer.digest not in beside]
    p50, p95, p99 = _percentiles([1000 * answer.latency for answer in own])
    if not is_compared.all():
        holdout, served = holdout.where(is_compared), served[is_compared]
    greatest = max_difference(served, holdout.scores)
    quality, problems = _estimate(spec, holdout, served)
    return ServedReport(
        holdout_rows=len(is_compared),
        rows=answered,
        requests=asked.requests,
        failed_requests=len(asked.failures),
        wrong_digests=sum(d not in (deployment.model.digest, *beside) for d in asked.digests),
        max_difference=greatest if math.isfinite(greatest) and answered else None,
        quality=quality,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        example_request=example_request(holdout) if len(holdout.x) else "",
        example_answer=_shown(next(iter(own), None)),
        failures=(*asked.failures[:_FAILURES_SHOWN], *problems),
        answers_of_other_version=sum(digest in beside for digest in asked.digests),
    )


def batches(rows: "NDArray[Any]") -> Iterator[slice]:
    """Yield the rows of each request: at least one, at most 1,024, and about 1 MB of JSON."""
    if rows.dtype.kind != "O":
        most = min(ROWS_AT_ONCE, max(1, _VALUES_PER_REQUEST // max(1, int(rows.shape[1]))))
        yield from (slice(start, start + most) for start in range(0, len(rows), most))
        return
    start = size = 0
    for number in range(len(rows)):
        added = len(request_for(rows[number : number + 1]))
        is_full = size + added > _BYTES_PER_REQUEST or number - start == ROWS_AT_ONCE
        if number > start and is_full:
            yield slice(start, number)
            start, size = number, 0
        size += added
    if len(rows):
        yield slice(start, len(rows))


def _estimate(
    spec: ModelSpec, holdout: Holdout, served: "NDArray[Any]"
) -> tuple[dict[str, Estimate], list[str]]:
    """Return each defined metric of what was served (NaN: not answered), and why others failed."""
    import numpy as np

    if not len(holdout.x):
        return {}, ["only the other version of the release answered"]
    if not np.isfinite(holdout.y).any():
        return {}, ["the artifact is unevaluated: it has no hold-out set"]
    is_whole = bool(np.isfinite(served).all())
    quality, problems = {}, []
    for metric in spec.metrics:
        if is_whole or metric.counts_unanswered:
            try:
                found = metric.estimate(holdout.y, served)
            except ConfigurationError as error:
                problems.append(str(error))
                continue
            if math.isfinite(found.value):
                quality[metric.name] = found
    return quality, problems


def _percentiles(latencies: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Return the least latencies that 50, 95 and 99 % of the requests do not exceed."""
    import numpy as np

    if not latencies:
        return None, None, None
    p50, p95, p99 = np.percentile(latencies, (50, 95, 99), method="inverted_cdf").tolist()
    return p50, p95, p99


class _Asked:
    """Asks, and keeps how it went; stops asking when that leads nowhere. For several threads."""

    def __init__(self, beside: Collection[str] = ()) -> None:
        """`beside` are digests of versions whose answers are not wanted."""
        self._beside = beside
        self.requests = 0
        self.failures: list[str] = []
        self.digests: list[str] = []
        self._in_a_row = 0
        self._lock = threading.Lock()
        self._deadline = time.monotonic() + _HOLDOUT_TIMEOUT

    def ask_all(
        self, client: PredictionClient, x: "NDArray[Any]"
    ) -> "Iterator[tuple[slice, Answer | None]]":
        """Ask for all rows in batches: the next is written while the server computes the last."""
        asking = ThreadPoolExecutor(_AT_ONCE)
        try:
            parts = list(batches(x))
            answers = asking.map(lambda part: self.ask(client, x[part]), parts)
            yield from zip(parts, answers, strict=True)
        finally:
            asking.shutdown(cancel_futures=True)

    def ask(self, client: PredictionClient, rows: "ArrayLike") -> Answer | None:
        """Return the answer of a wanted version, or that of the last attempt."""
        answer = self._ask_once(client, rows)
        for _ in range(_REPEATS - 1):
            if answer is None or answer.digest not in self._beside:
                break
            answer = self._ask_once(client, rows)
        return answer

    def _ask_once(self, client: PredictionClient, rows: "ArrayLike") -> Answer | None:
        if self._in_a_row >= _FAILURES_IN_A_ROW or time.monotonic() > self._deadline:
            return None
        try:
            answer = client.predict(rows)
        except UnavailableError as error:
            with self._lock:
                self.requests += 1
                self.failures.append(str(error))
                self._in_a_row += 1
            return None
        with self._lock:
            self.requests += 1
            self._in_a_row = 0
            self.digests.append(answer.digest)
        return answer


def _spread(rows: int) -> Sequence[int]:
    """Row numbers of the single requests: the set from its start, repeated where it is short."""
    return [n % rows for n in range(_SINGLE_ROWS)] if rows else []


def example_request(holdout: Holdout) -> str:
    """Return the JSON of a request with the first hold-out row."""
    if holdout.x.dtype.kind == "O":
        return request_for(holdout.x[:1]).decode()
    row: list[Any] = [round(float(value), 6) for value in holdout.x[0]]
    shown = [None if math.isnan(value) else value for value in row]
    return json.dumps({"data": {"ndarray": [shown]}})


def _shown(answer: Answer | None) -> str:
    return json.dumps(answer.body) if answer is not None else ""
