"""Which artifacts serve where, and since when: written down when it changes."""

from collections.abc import Mapping
from types import MappingProxyType

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import NotFoundError, UnavailableError
from mlops_pipeline.clients.s3 import Objects
from mlops_pipeline.delivery.artifacts import find_ref, ref_to
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.verdicts import (
    Acceptance,
    AcceptanceKind,
    ServingEnded,
    ServingStarted,
    VerdictLog,
    standing,
)
from mlops_pipeline.platforms.layers import Absent, by_name
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.platforms.seldon import SeldonDeployment

Refusals = Mapping[str, str]
"""Check → its sentence, of the checks that refuse an artifact."""


def place_of(platform: Platform, namespace: str, deployment: str) -> str:
    """Return how the log names a place to serve at."""
    return f"{platform.name} {namespace}/{deployment}"


def place_for(spec: ModelSpec, platform: Platform) -> str:
    """Return how the log names the place that the model's own deployment serves at."""
    return place_of(platform, spec.server.namespace, spec.server.deployment)


def find_store(platform: Platform) -> Objects | None:
    """Return the object store, or None where the platform has none yet, and so no log.

    Raises:
        UnavailableError: there is one, and it has no address or no keys: what it knows is not read.
    """
    try:
        return platform.object_store()
    except NotFoundError as error:
        if isinstance(by_name(platform.layers, "object_store").observe(), Absent):
            return None
        raise UnavailableError(f"could not read the verdicts on artifacts: {error}") from error


def artifacts_of(deployment: SeldonDeployment, *, secret: str) -> set[ModelRef]:
    """Return the artifacts of ours that get a deployment's live requests.

    `secret` is that of our object store: what is read with another one may be of another store.
    """
    shares = deployment.traffic()
    named = (
        find_ref(predictor.graph.model_uri)
        for predictor in deployment.spec.predictors
        if shares.get(predictor.name) and predictor.graph.env_secret_ref_name in ("", secret)
    )
    return {ref for ref in named if ref is not None}


def record_serving(
    before: SeldonDeployment | None,
    after: SeldonDeployment,
    *,
    platform: Platform,
    by: str,
    accepted: Mapping[ModelRef, Refusals] = MappingProxyType({}),
) -> None:
    """Write down that the artifacts of `after` serve, and that those of `before` no longer do.

    `accepted` are those that serve although checks refuse them, because a person accepted that. An
    artifact without a hold-out set serves so whichever command accepted it.
    Writes nothing where the log says so already. What the log missed, in a command that was
    killed, is made up for.

    Raises:
        UnavailableError: the object store did not take it.
    """
    if (store := find_store(platform)) is None:
        return
    secret = platform.object_store_secret()
    serving = artifacts_of(after, secret=secret)
    former = artifacts_of(before, secret=secret) if before else set()
    names = {ref.name for ref in serving | former}
    log = VerdictLog(store)
    place = place_of(platform, after.namespace, after.name)
    known = _serving_at(place, log, names)
    for ref, refusals in accepted.items():
        record_acceptance(ref, refusals, log=log, by=by)
    for ref in serving:
        although_refused = ref in accepted or standing(log.entries(ref)).is_unevaluated
        if known.get(ref) is not although_refused:
            log.append(ref, ServingStarted(place, although_refused=although_refused, by=by))
    for ref in known.keys() - serving:
        log.append(ref, ServingEnded(place, "replaced", by=by))


def record_acceptance(ref: ModelRef, refusals: Refusals, *, log: VerdictLog, by: str) -> None:
    """Write down that a person accepted what refuses an artifact, unless the log says so already.

    Raises:
        UnavailableError: the object store did not take it.
    """
    known = standing(log.entries(ref))
    if refusals.keys() - known.accepted_refusals:
        is_unevaluated = all(
            check in known.judged and known.judged[check].is_unevaluated for check in refusals
        )
        kind: AcceptanceKind = "unevaluated" if is_unevaluated else "refused"
        log.append(ref, Acceptance(kind, refusals, by))


def record_end(deployment: SeldonDeployment, *, platform: Platform, by: str) -> None:
    """Write down that nothing serves where the deployment did.

    Raises:
        UnavailableError: the object store did not take it.
    """
    if (store := find_store(platform)) is None:
        return
    log = VerdictLog(store)
    place = place_of(platform, deployment.namespace, deployment.name)
    served = artifacts_of(deployment, secret=platform.object_store_secret())
    for ref in _serving_at(place, log, {ref.name for ref in served}):
        log.append(ref, ServingEnded(place, "deleted", by=by))


def _serving_at(place: str, log: VerdictLog, names: set[str]) -> dict[ModelRef, bool]:
    """Return artifact → whether it serves although it is refused, as the log knows it."""
    return {
        ref_to(name, digest): period.although_refused
        for name in sorted(names)
        for digest, known in log.standings(name).items()
        for period in known.served
        if period.place == place and period.until is None
    }
