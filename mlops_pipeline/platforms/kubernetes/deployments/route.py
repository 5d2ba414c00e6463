"""What the gateway does with a deployment's route, seen in answers: nothing else tells."""

import logging
from collections.abc import Callable, Collection

from mlops_pipeline.clients.errors import WaitTimeoutError
from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.waiting import Clock, patiently, wait_until

_log = logging.getLogger(__name__)
_READY = "ready"
"""The only path that our servers and Seldon's executor (`executor/api/rest/server.go`) serve under
every protocol."""
_HEADER = "x-predictor"
_PATIENCE = 30.0
"""Seconds in which a new route reaches the gateway."""
_MOVED = 10.0
"""Seconds in which a route that was changed reaches the gateway, before that is given up."""
_IN_A_ROW = 5
"""Connections, one after the other, that must all follow the new route: each may reach another
worker or replica of the gateway, which learns of a route at its own time."""


class Route:
    """The way through the gateway to one deployment, whose address ends in a slash."""

    def __init__(
        self,
        url: str,
        *,
        trust: Callable[[], str],
        get: Callable[..., HttpAnswer],
        clock: Clock,
    ) -> None:
        self._url = url
        self._trust = trust
        self._get = get
        self._clock = clock

    def wait_until_ready(self) -> None:
        """Wait until a server answers that it is ready.

        Raises:
            UnavailableError: none did in time.
        """

        def describe() -> str | None:
            status = self._ask().status
            return None if status == 200 else f"the gateway answers {status}"

        self._wait(describe, timeout=_PATIENCE)

    def wait_until_only(self, predictors: Collection[str]) -> None:
        """Wait until only these predictors answer, by name as in the cluster.

        That it did not happen in time is logged: an answer may lack the name of its predictor.
        """

        def describe() -> str | None:
            names = (self._ask().headers.get(_HEADER, "") for _ in range(_IN_A_ROW))
            others = (name for name in names if name not in predictors)
            if (other := next(others, None)) is None:
                return None
            return f"{other or 'no predictor'} answers, not {', '.join(sorted(predictors))}"

        try:
            self._wait(describe, timeout=_MOVED)
        except WaitTimeoutError as error:
            _log.warning("%s", error)

    def _ask(self) -> HttpAnswer:
        return self._get(f"{self._url}{_READY}", timeout=2, trust=self._trust())

    def _wait(self, describe: Callable[[], str | None], *, timeout: float) -> None:
        wait_until(
            f"the route {self._url}",
            patiently(describe),
            timeout=timeout,
            clock=self._clock,
            hint="see `mlops-pipeline logs istio`",
        )
