"""`rollback`: deploy an earlier artifact, and let the Dagster UI know."""

from typing import TYPE_CHECKING

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.cli.context import Context, typed
from mlops_pipeline.cli.instance import open_instance
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.delivery.deploying import deploy
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.references import DeploymentRef
from mlops_pipeline.delivery.rolling_back import find_artifact, previous_good, require_good

if TYPE_CHECKING:
    import dagster as dg


def roll_back(
    context: Context, model: RegisteredModel, digest: str | None, *, accept_refused: bool
) -> DeploymentRef:
    """Deploy the artifact whose digest starts with `digest`, or the last good one before.

    Raises:
        NotFoundError: there is no such artifact, or nothing is deployed.
        RefusedError: blocking checks refuse the artifact, and that is not accepted.
        ConfigurationError: a refused one is accepted that is not named.
        PipelineError: it does not answer; the version deployed now keeps the traffic.
    """
    if accept_refused and digest is None:
        raise ConfigurationError(
            "--accept-refused accepts one artifact, named by its digest; "
            f"`mlops-pipeline models {model.name}` lists them"
        )
    judge = Judge(context.platform, by=typed("rollback"))
    if digest is None:
        ref = previous_good(model.spec, judge)
    else:
        ref = find_artifact(judge.artifacts, model.name, prefix=digest)
    accepted = require_good(model.spec, ref, judge, accept_refused=accept_refused)
    deployment, _ = deploy(
        model.spec,
        ref,
        platform=context.platform,
        artifacts=judge.artifacts,
        by=judge.by,
        accepted=accepted,
    )
    _record(context, model, deployment)
    return deployment


def _record(context: Context, model: RegisteredModel, deployment: DeploymentRef) -> None:
    """Report the deployment and its proof to the instance: the graph shall know of them."""
    import dagster as dg
    from dagster._core.definitions.data_version import DATA_VERSION_TAG

    from mlops_pipeline.assets import serving
    from mlops_pipeline.assets.keys import model_key
    from mlops_pipeline.resources.references import encode

    key = model_key(context.platform.name, model.name, "deployment")
    with open_instance(context.settings) as instance:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                key,
                description="rolled back by hand",
                tags={DATA_VERSION_TAG: deployment.digest},
                metadata={
                    **serving.of(deployment, model.spec, platform=context.platform),
                    "change": "updated",
                    "api_documentation": dg.MetadataValue.url(f"{deployment.url}/api/v1.0/doc/"),
                    **encode(deployment),
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
