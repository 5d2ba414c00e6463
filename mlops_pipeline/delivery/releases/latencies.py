"""How long the answers of both versions took, as far as the histograms of their servers tell."""

from collections import Counter
from collections.abc import Sequence

from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.delivery.releases.manifests import find_versions
from mlops_pipeline.delivery.releases.plots import Latency
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.platforms.platform import Platform, PredictorCounts


def find_latencies(
    spec: ModelSpec, platform: Platform, release: Release
) -> tuple[Latency, Latency]:
    """Return the latency of the stable version and of the candidate, since their servers started.

    A version that has no server now has no answers.

    Raises:
        UnavailableError: the platform or a server does not answer.
    """
    server = spec.server
    found = platform.deployments.find(server.deployment, namespace=server.namespace)
    versions = find_versions(found, release) if found is not None else None
    if found is None or versions is None:
        return Latency(0), Latency(0)
    counts = platform.deployments.counts(found.name, namespace=found.namespace)
    stable = versions.stable.name if versions.stable is not None else ""
    return _of(counts, stable), _of(counts, versions.candidate.name)


def _of(counts: Sequence[PredictorCounts], predictor: str) -> Latency:
    answers, slower = 0, Counter[float]()
    for server in (s for c in counts if c.predictor == predictor for s in c.servers):
        answers += server.answered + server.failed
        for limit, count in server.slower.items():
            slower[float(limit)] += count
    return Latency(answers, dict(slower))
