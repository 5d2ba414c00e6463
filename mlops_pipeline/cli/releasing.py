"""`release`: what a person decides about a release that goes on, in the turn of the state folder."""

from collections.abc import Callable

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.cli.context import Context, typed
from mlops_pipeline.cli.instance import turn_to_end
from mlops_pipeline.clients.errors import IntegrityError
from mlops_pipeline.delivery.releases.driver import Progress, Releases
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.resources.turn import turn

_BY_HAND = "aborted by a person"


def promote(context: Context, model: RegisteredModel, say: Callable[[str], None]) -> Progress:
    """Give all traffic to the new version now, whatever its evidence.

    Raises:
        ConfigurationError: no release goes on.
        PipelineError: the platform or the object store does not answer.
    """
    return _decide(context, model, "promote", Releases.promote, say)


def pause(context: Context, model: RegisteredModel, say: Callable[[str], None]) -> Progress:
    """Leave the traffic as it is until `resume`.

    Raises:
        ConfigurationError: no release goes on.
    """
    return _decide(context, model, "pause", Releases.pause, say)


def resume(context: Context, model: RegisteredModel, say: Callable[[str], None]) -> Progress:
    """End a pause.

    Raises:
        ConfigurationError: no release goes on.
    """
    return _decide(context, model, "resume", Releases.resume, say)


def abort(
    context: Context,
    model: RegisteredModel,
    say: Callable[[str], None],
    *,
    reason: str = "",
    command: str = "release abort",
) -> Progress:
    """Give all traffic back to the stable version. Needs neither Dagster nor the object store.

    Raises:
        ConfigurationError: no release goes on.
        PipelineError: the platform does not answer.
    """
    with turn_to_end(
        context.settings,
        purpose=f"abort the release of {model.name}",
        on_wait=say,
        during_training=True,
    ):
        return releases_of(context, model, command).abort(reason or _BY_HAND)


def _decide(
    context: Context,
    model: RegisteredModel,
    command: str,
    act: Callable[[Releases], Progress],
    say: Callable[[str], None],
) -> Progress:
    with turn(
        context.settings,
        purpose=f"{command} the release of {model.name}",
        on_wait=say,
        during_training=True,
    ):
        return act(releases_of(context, model, f"release {command}"))


def releases_of(context: Context, model: RegisteredModel, command: str) -> Releases:
    """Return the releases of a model on the platform of the settings."""
    return Releases(model.spec, context.platform, by=typed(command))


def is_going_on(context: Context, model: RegisteredModel) -> bool:
    """Return whether a release of the model goes on, also if its state is damaged."""
    try:
        return releases_of(context, model, "status").find() is not None
    except IntegrityError:
        return True


def describe_superseded(release: Release) -> str:
    """Say which release a command that deploys another artifact ends."""
    return (
        f"this supersedes the {release.plan.strategy} release of {release.candidate[:12]}, which "
        f"has been going on since {release.since}"
    )
