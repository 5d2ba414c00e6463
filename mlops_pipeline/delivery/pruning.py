"""Which artifacts nobody needs any more."""

from collections.abc import Collection, Iterable, Mapping
from itertools import groupby

from mlops_pipeline.clients.errors import UnavailableError
from mlops_pipeline.delivery.artifacts import ArtifactStore, StoredArtifact
from mlops_pipeline.delivery.verdicts import Standing, VerdictLog, standing
from mlops_pipeline.platforms.platform import Deployments


def deployed_uris(deployments: Deployments) -> set[str]:
    """Return the `modelUri` of every predictor of every deployment."""
    return {
        predictor.graph.model_uri.rstrip("/")
        for deployment in deployments.list()
        for predictor in deployment.spec.predictors
    }


def unreferenced(
    artifacts: ArtifactStore,
    deployments: Deployments,
    *,
    log: VerdictLog,
    models: Iterable[str],
    keep: int,
    pinned: Collection[str] = (),
) -> list[StoredArtifact]:
    """Return the artifacts that no deployment names and that nobody needs for a rollback.

    Needed are, of each model, the newest `keep` that passed or served by right, what is newer than
    those and not judged yet, and what served last by right at each place: the next one is compared
    with it. With a `keep` of 1 or more also what served by right before. `pinned` are digests that
    deployments should serve, deleted ones too. What an interrupted publication left is never
    needed.

    Raises:
        UnavailableError: not every deployment can be read.
    """
    if damages := deployments.damages():
        raise UnavailableError(
            "could not determine which artifacts are deployed, so nothing was removed: "
            + "; ".join(damages)
        )
    used = deployed_uris(deployments)
    found: list[StoredArtifact] = []
    for name in models:
        stored, known = artifacts.list(name), log.standings(name)
        needed = {*pinned, *_newest_good(stored, known, keep)}
        needed |= _last_served(known, 1 + bool(keep))
        found += [a for a in stored if a.ref.uri not in used and a.ref.digest not in needed]
    return found


def _newest_good(
    stored: Iterable[StoredArtifact], known: Mapping[str, Standing], keep: int
) -> set[str]:
    needed: set[str] = set()
    good = 0
    for artifact in stored:
        stands = known.get(artifact.ref.digest, standing(()))
        if not artifact.complete or stands.state == "refused":
            continue
        if good == keep:
            break
        needed.add(artifact.ref.digest)
        good += stands.passed or bool(stands.served_by_right())
    return needed


def _last_served(known: Mapping[str, Standing], count: int) -> set[str]:
    """Return the last `count` artifacts that served by right at each place."""
    times = sorted(
        (period.place, period.since, digest)
        for digest, stands in known.items()
        if stands.state != "refused"
        for period in stands.served_by_right()
    )
    needed: set[str] = set()
    for _, of_place in groupby(times, key=lambda time: time[0]):
        latest = dict.fromkeys(digest for _, _, digest in reversed(list(of_place)))
        needed |= set(list(latest)[:count])
    return needed
