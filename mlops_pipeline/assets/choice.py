"""What a run deploys or does with a release, by its config, the pin and the current inputs."""

from typing import Literal

import dagster as dg
from pydantic import Field

from mlops_pipeline.assets.checks import is_copy, require_judged_good, run_name
from mlops_pipeline.assets.keys import model_key
from mlops_pipeline.catalog.spec import ModelSpec
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.delivery.choosing import Choice, choose_named, find_pinned
from mlops_pipeline.delivery.criteria import model_criteria
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.releases.delivering import Delivered, act, deliver
from mlops_pipeline.platforms.platform import Platform
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
    release: Literal["", "advance", "promote", "abort", "pause", "resume"] = Field(
        "",
        description="What to do with the release in progress. advance: take the step that follows "
        "from its answers, if one does. promote: give all traffic to the candidate. abort: give "
        "all traffic back to the stable version, also while the former version is kept after a "
        "promotion. pause: keep the share. resume: go on. Empty: deploy, which begins a release "
        "where the model's file has a strategy. A re-executed run does only advance.",
    )


def deliver_as_configured(
    context: dg.AssetExecutionContext, config: DeploymentConfig, spec: ModelSpec, platform: Platform
) -> Delivered:
    """Act on the release in progress, if the config says so; else deliver the chosen artifact.

    That is the artifact from the config, else the pinned one, else that of the current inputs.

    Raises:
        dagster.Failure: no run has materialized the model, or its checks have not passed.
        PipelineError: the artifact may not serve, or it does not answer; no release is in progress.
    """
    by = run_name(context.run)
    if not config.release:
        judge = Judge(platform, by=by)
        return deliver(spec, _choose(context, config, spec, judge), judge)
    deploys = (config.artifact, config.unpin, config.accept_refused, config.accept_unevaluated)
    if any(deploys):
        raise ConfigurationError(
            f"the config has `release: {config.release}` and options of a deployment; give one of "
            "them. Nothing was changed"
        )
    if config.release != "advance" and is_copy(context.run):
        raise ConfigurationError(
            f"a re-executed run does not repeat `release: {config.release}`, because another "
            f"release may go on now; launch the job {spec.name}_release with it. Nothing was "
            "changed"
        )
    return act(spec, platform, config.release, by=by)


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
