"""Proof that a deployment answers with an artifact, before it gets traffic and after."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import FatalStateError
from mlops_pipeline.clients.prediction import Answer, PredictionClient, Predictions
from mlops_pipeline.clients.waiting import patiently, wait_until
from mlops_pipeline.delivery.artifacts import Holdout
from mlops_pipeline.delivery.references import DeploymentRef
from mlops_pipeline.delivery.verification import max_difference
from mlops_pipeline.platforms.seldon import Predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ANSWER_TIMEOUT = 60.0
"""Seconds in which a new server must answer, alone, and once the platform routes to it."""
_PROOF_ROWS = 5
_IN_A_ROW = 5
"""Connections to the gateway, one after the other, that must all reach the new digest."""


class HoldoutProof:
    """The digest answers, with the scores that the model gave after the training."""

    def __init__(
        self,
        spec: ModelSpec,
        deployment: DeploymentRef,
        holdout: Holdout,
        *,
        trust: str,
        beside: Mapping[str, Holdout] = MappingProxyType({}),
        both_answer: bool = False,
    ) -> None:
        """`beside` has the other artifacts of the deployment: digest → its hold-out set.

        With `both_answer`, the gateway may return their answers too.
        """
        self._beside = beside
        self._both_answer = both_answer
        self._tolerance = spec.thresholds.tolerance
        self._deployment = deployment
        self._rows, self._scores = holdout.x[:_PROOF_ROWS], holdout.scores
        self._trust = trust

    def alone(self, predictor: Predictor, server: Predictions) -> None:
        """Ask a server that gets no traffic yet.

        Raises:
            FatalStateError: it serves another artifact, or returns other scores.
            NotFoundError: the server ended meanwhile.
            UnavailableError: it did not answer in time.
        """
        name, digest = self._deployment.name, self._deployment.model.digest
        rows, scores = self._rows, self._scores
        if (other := self._beside.get(predictor.digest)) is not None:
            digest, rows, scores = predictor.digest, other.x[:_PROOF_ROWS], other.scores

        def describe() -> str | None:
            answer = server.predict(rows)
            if answer.digest != digest:
                raise FatalStateError(
                    f"{server.url} serves the artifact {answer.digest or 'without a digest'} "
                    f"instead of {digest}; it gets no traffic. See `mlops-pipeline logs {name}`"
                )
            self._compare(server, answer, scores)
            return None

        self._wait(
            f"the predictor {predictor.name} of {self._deployment.namespace}/{name}", describe
        )

    def exposed(self) -> None:
        """Wait until the digest answers through the gateway, on several connections in a row.

        Each connection may reach another worker or replica of the gateway, which learns of a new
        route at its own time.

        Raises:
            FatalStateError: it returns other scores.
            UnavailableError: it did not answer in time.
        """
        deployment = self._deployment

        def describe() -> str | None:
            reasons = (self._describe_wrong_answer() for _ in range(_IN_A_ROW))
            return next((reason for reason in reasons if reason is not None), None)

        self._wait(f"the deployment {deployment.namespace}/{deployment.name}", describe)

    def _wait(self, what: str, describe: Callable[[], str | None]) -> None:
        wait_until(
            what,
            patiently(describe),
            timeout=_ANSWER_TIMEOUT,
            hint=f"see `mlops-pipeline logs {self._deployment.name}`",
        )

    def _describe_wrong_answer(self) -> str | None:
        deployment = self._deployment
        with PredictionClient(deployment.url, trust=self._trust) as client:
            answer = client.predict(self._rows)
        if self._both_answer and answer.digest in self._beside:
            return None
        if answer.digest != deployment.model.digest:
            return (
                f"expected {deployment.url} to answer with the digest {deployment.model.digest}, "
                f"got {answer.digest or 'none'}"
            )
        self._compare(client, answer, self._scores)
        return None

    def _compare(self, server: Predictions, answer: Answer, scores: "NDArray[Any]") -> None:
        difference = max_difference(answer.scores, scores[:_PROOF_ROWS], among=scores)
        if difference > self._tolerance:
            raise FatalStateError(
                f"{server.url} answers with the correct digest, but its scores differ from those "
                f"of the training by up to {difference:.3g} (tolerance {self._tolerance:g}). The "
                "serving and training environments return different results; see "
                "docs/operating.md, skew"
            )
