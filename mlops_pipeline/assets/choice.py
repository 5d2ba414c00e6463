"""Which artifact a run deploys, by its config, the pin and the current inputs."""

import dagster as dg
from pydantic import Field

from mlops_pipeline.assets.checks import is_copy, require_judged_good
from mlops_pipeline.assets.keys import model_key
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.delivery.choosing import Choice, choose_named, find_pinned
from mlops_pipeline.delivery.criteria import model_criteria
from mlops_pipeline.delivery.deploying import deploy
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.references import DeploymentRef, ModelRef
from mlops_pipeline.platforms.layers import Change
from mlops_pipeline.resources.references import get_reference


class DeploymentConfig(dg.Config):
    """Options of one deployment."""

    artifact: str = Field(
        "",
        description="Deploy and pin the artifact whose digest starts with this text: a rollback. "
        "Empty: the pinned artifact, or the artifact of the current inputs.",
    )
    accept_refused: bool = Field(
        False, description="Deploy the named artifact although checks refuse it. It stays marked."
    )
    accept_unevaluated: bool = Field(
        False, description="Deploy the named artifact although it has no hold-out set."
    )
    unpin: bool = Field(
        False, description="Remove the pin and deploy the artifact of the current inputs."
    )


def choose_and_deploy(
    context: dg.AssetExecutionContext, config: DeploymentConfig, spec: ModelSpec, judge: Judge
) -> tuple[DeploymentRef, Change]:
    """Deploy the artifact from the config, else the pinned one, else that of the current inputs.

    Raises:
        dagster.Failure: no run has materialized the model, or its checks have not passed.
        PipelineError: the artifact may not serve, or it does not answer.
    """
    choice = _choose(context, config, spec, judge)
    return deploy(
        spec,
        choice.ref,
        platform=judge.platform,
        artifacts=judge.artifacts,
        by=judge.by,
        accepted=choice.accepted,
        is_pinned=choice.is_pinned,
        ends_pin=choice.ends_pin,
    )


def _choose(
    context: dg.AssetExecutionContext, config: DeploymentConfig, spec: ModelSpec, judge: Judge
) -> Choice:
    """Return the artifact to deploy: from the config, else pinned, else of the current inputs."""
    if config.artifact and config.unpin:
        raise ConfigurationError(
            "the config has both `artifact`, which pins, and `unpin`; give one of them. "
            "Nothing was changed"
        )
    if (config.accept_refused or config.accept_unevaluated) and not config.artifact:
        raise ConfigurationError(
            "`accept_refused` and `accept_unevaluated` accept one artifact: name it with "
            "`artifact`. Nothing was changed"
        )
    if config.artifact:
        may_accept = not is_copy(context.run)
        return choose_named(
            spec,
            judge,
            prefix=config.artifact,
            accept_refused=config.accept_refused and may_accept,
            accept_unevaluated=config.accept_unevaluated and may_accept,
        )
    unpin = config.unpin and not is_copy(context.run)
    if not unpin and (pinned := find_pinned(spec, judge)) is not None:
        return pinned
    key = model_key(judge.platform.name, spec.name, "model")
    newest = get_reference(context.instance, key, run_id=context.run.run_id)
    assert isinstance(newest, ModelRef)
    require_judged_good(judge, key, model_criteria(spec), newest)
    return Choice(newest, is_pinned=False, ends_pin=unpin)
