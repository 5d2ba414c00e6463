"""The check of `<model>/deployment`."""

from typing import Any

import dagster as dg

from mlops_pipeline.assets.checks import Proposition, make_checks
from mlops_pipeline.assets.keys import model_key
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.clients.prediction import PredictionClient
from mlops_pipeline.delivery.judging import Verdict
from mlops_pipeline.delivery.references import DeploymentRef
from mlops_pipeline.delivery.releases.beside import digests_beside
from mlops_pipeline.resources.platform import PlatformResource


def deployment_checks(platform: str, model: RegisteredModel) -> dg.AssetChecksDefinition:
    """Return the checks of the deployment."""
    return make_checks(model_key(platform, model.name, "deployment"), [ANSWERS])


def deployment_propositions() -> list[Proposition]:
    """Return the conditions that a deployment must meet before its predictions count."""
    return [ANSWERS]


def _answers(_context: Any, resource: PlatformResource, reference: DeploymentRef) -> Verdict:
    platform = resource.build()
    holdout = resource.artifacts().proof_rows(reference.model)
    beside = digests_beside(reference, platform)
    with PredictionClient(reference.url, trust=platform.gateway_trust()) as client:
        answer = client.predict(holdout.x[:1])
    other = ", the other version of the release in progress" if answer.digest in beside else ""
    return Verdict(
        answer.digest in (reference.digest, *beside),
        f"{reference.url} answers with {answer.digest or 'no digest'}{other}",
        {"digest": answer.digest, "milliseconds": round(1000 * answer.latency, 2)},
    )


ANSWERS = Proposition(
    "answers_with_this_digest",
    "The gateway returns the digest of this artifact, or of the other version of a release in "
    "progress.",
    _answers,
    blocking=True,
)
