"""`rollback`: deploy an earlier artifact, and let the Dagster UI know."""

from typing import TYPE_CHECKING

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.instance import open_instance
from mlops_pipeline.clients.errors import NotFoundError
from mlops_pipeline.delivery.deploying import deploy, deployed_ref
from mlops_pipeline.delivery.planning import find_artifact, previous_artifact
from mlops_pipeline.delivery.references import DeploymentRef

if TYPE_CHECKING:
    import dagster as dg


def roll_back(context: Context, model: RegisteredModel, digest: str | None) -> DeploymentRef:
    """Deploy the artifact whose digest starts with `digest`, or the one before the deployed.

    Raises:
        NotFoundError: there is no such artifact, or nothing is deployed.
        PipelineError: it does not answer; the version deployed now keeps the traffic.
    """
    artifacts = context.artifacts
    if digest is not None:
        ref = find_artifact(artifacts, model.name, prefix=digest)
    elif (deployed := deployed_ref(model.spec, context.platform)) is not None:
        ref = previous_artifact(artifacts, deployed)
    else:
        raise NotFoundError(f"{model.name} is not deployed, there is nothing to roll back")
    deployment, _ = deploy(model.spec, ref, platform=context.platform, artifacts=artifacts)
    _record(context, model, deployment)
    return deployment


def _record(context: Context, model: RegisteredModel, deployment: DeploymentRef) -> None:
    """Report the deployment and its proof to the instance: the graph shall know of them."""
    import dagster as dg

    from mlops_pipeline.assets.keys import model_key
    from mlops_pipeline.resources.references import METADATA_KEY, encode

    key = model_key(context.platform.name, model.name, "deployment")
    with open_instance(context.settings) as instance:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                key,
                description="rolled back by hand",
                metadata={
                    METADATA_KEY: dg.MetadataValue.json(encode(deployment)),
                    "change": "updated",
                    "digest": deployment.model.digest,
                    "url": dg.MetadataValue.url(deployment.url),
                },
            )
        )
        instance.report_runless_asset_event(_proof(key, deployment))


def _proof(key: "dg.AssetKey", deployment: DeploymentRef) -> "dg.AssetCheckEvaluation":
    """Return the verdict that `deploy` has come to."""
    import dagster as dg

    from mlops_pipeline.assets.checks import marks
    from mlops_pipeline.assets.deployment import ANSWERS

    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=ANSWERS.name,
        passed=True,
        description=f"{deployment.url} answers with {deployment.model.digest}",
        metadata=marks(deployment),
        blocking=True,
    )
