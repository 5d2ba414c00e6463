"""Which artifacts nobody needs any more."""

from collections.abc import Iterable

from mlops_pipeline.delivery.artifacts import ArtifactStore, StoredArtifact
from mlops_pipeline.platforms.platform import Deployments


def deployed_uris(deployments: Deployments) -> set[str]:
    """Return the `modelUri` of every predictor of every deployment."""
    return {
        predictor.graph.model_uri.rstrip("/")
        for deployment in deployments.list()
        for predictor in deployment.spec.predictors
    }


def unreferenced(
    artifacts: ArtifactStore, deployments: Deployments, *, models: Iterable[str], keep: int
) -> list[StoredArtifact]:
    """Return the artifacts that no deployment names, without the newest `keep` of each model.

    What an interrupted publication left is always among them.
    """
    used = deployed_uris(deployments)
    found: list[StoredArtifact] = []
    for name in models:
        stored = artifacts.list(name)
        newest = {a.ref.digest for a in [a for a in stored if a.complete][:keep]}
        found += [a for a in stored if a.ref.uri not in used and a.ref.digest not in newest]
    return found
