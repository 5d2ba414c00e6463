"""`<model>/deployment`: the SeldonDeployment that serves the artifact."""

import time
from typing import Any

import dagster as dg

from mlops_pipeline.assets import metadata, serving
from mlops_pipeline.assets.checks import (
    Proposition,
    make_checks,
    run_name,
)
from mlops_pipeline.assets.choice import DeploymentConfig, choose_and_deploy
from mlops_pipeline.assets.failures import explained
from mlops_pipeline.assets.keys import OWNERS, layer_key, model_group, model_key, step_tags
from mlops_pipeline.assets.layers import require_healthy
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.clients.prediction import PredictionClient
from mlops_pipeline.delivery.judging import Judge, Verdict
from mlops_pipeline.delivery.references import DeploymentRef
from mlops_pipeline.delivery.releases.beside import digests_beside
from mlops_pipeline.platforms.layers import by_name
from mlops_pipeline.platforms.platform import Platform
from mlops_pipeline.resources.platform import PlatformResource


def deployment_asset(platform: Platform, model: RegisteredModel) -> dg.AssetsDefinition:
    """Return the asset whose materialization deploys the artifact and proves that it answers."""
    spec = model.spec
    stands_on = [by_name(platform.layers, name) for name in platform.deploys_on]
    key = model_key(platform.name, model.name, "deployment")

    @dg.asset(
        key=key,
        deps=[
            model_key(platform.name, model.name, "model"),
            *(layer_key(platform.name, layer.name) for layer in stands_on),
        ],
        description=f"The SeldonDeployment {spec.server.namespace}/{spec.server.deployment}, "
        "which serves the pinned artifact or the artifact of the current inputs through the "
        "gateway.",
        group_name=model_group(platform.name, spec.name),
        kinds={"seldon", by_name(platform.layers, platform.gateway).kinds[0]},
        owners=OWNERS,
        op_tags=step_tags(key),
        required_resource_keys={"platform"},
    )
    def asset(
        context: dg.AssetExecutionContext, config: DeploymentConfig
    ) -> dg.MaterializeResult[DeploymentRef]:
        resource: PlatformResource = context.resources.platform
        start = time.monotonic()
        with explained():
            judge = Judge(resource.build(), by=run_name(context.run))
            if not config.artifact:  # A rollback must work although a check of a layer failed.
                require_healthy(context.instance, platform.name, stands_on)
            deployment, change = choose_and_deploy(context, config, spec, judge)
        return dg.MaterializeResult(
            value=deployment,
            data_version=dg.DataVersion(deployment.digest),
            metadata={
                **serving.of(deployment, spec, platform=judge.platform),
                **serving.pin(spec, platform=judge.platform),
                **metadata.of_change(change, seconds=time.monotonic() - start),
                "api_documentation": dg.MetadataValue.url(f"{deployment.url}/api/v1.0/doc/"),
            },
        )

    return asset


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
    other = ", the other version of the release that goes on" if answer.digest in beside else ""
    return Verdict(
        answer.digest in (reference.digest, *beside),
        f"{reference.url} answers with {answer.digest or 'no digest'}{other}",
        {"digest": answer.digest, "milliseconds": round(1000 * answer.latency, 2)},
    )


ANSWERS = Proposition(
    "answers_with_this_digest",
    "The gateway returns the digest of this artifact, or of the other version of a release that "
    "goes on.",
    _answers,
    blocking=True,
)
