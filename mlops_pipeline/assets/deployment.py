"""`<model>/deployment`: the SeldonDeployment that serves the artifact."""

import time
from typing import Any

import dagster as dg

from mlops_pipeline.assets import metadata, releases, serving
from mlops_pipeline.assets.choice import DeploymentConfig, deliver_as_configured
from mlops_pipeline.assets.failures import explained
from mlops_pipeline.assets.keys import OWNERS, layer_key, model_group, model_key, step_tags
from mlops_pipeline.assets.layers import require_healthy
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.delivery.references import DeploymentRef
from mlops_pipeline.delivery.releases.delivering import Delivered
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
            built = resource.build()
            if not (config.artifact or config.release):  # A rollback works with a failed layer.
                require_healthy(context.instance, platform.name, stands_on)
            found = deliver_as_configured(context, config, spec, built)
        change = metadata.of_change(found.change, seconds=time.monotonic() - start)
        return dg.MaterializeResult(
            value=found.deployment,
            data_version=dg.DataVersion(found.deployment.digest),
            metadata={**_metadata(found, spec, built), **change},
        )

    return asset


def _metadata(found: Delivered, spec: ModelSpec, platform: Platform) -> dict[str, Any]:
    return {
        **releases.of(found.progress, spec, platform=platform),
        **serving.of(found.deployment, spec, platform=platform),
        **serving.pin(spec, platform=platform),
        "api_documentation": dg.MetadataValue.url(f"{found.deployment.url}/api/v1.0/doc/"),
    }
