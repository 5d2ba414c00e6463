"""`release`: what a person decides about a release, in the turn of the state folder."""

from collections.abc import Callable

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.cli.context import Context, typed
from mlops_pipeline.cli.instance import turn_to_end
from mlops_pipeline.cli.runs import Order
from mlops_pipeline.clients.errors import IntegrityError, PipelineError
from mlops_pipeline.delivery.deploying import deployed_ref
from mlops_pipeline.delivery.releases.driver import Progress, Releases
from mlops_pipeline.resources.turn import turn

_NO_REASON = "a person decided so and gave no reason"


def promote(context: Context, model: RegisteredModel, say: Callable[[str], None]) -> Progress:
    """Give all traffic to the new version now, whatever its evidence.

    Raises:
        ConfigurationError: no release is in progress.
        PipelineError: the platform or the object store does not answer.
    """
    return _decide(context, model, "promote", lambda r: r.promote(), say)


def pause(context: Context, model: RegisteredModel, say: Callable[[str], None]) -> Progress:
    """Leave the traffic as it is until `resume`.

    Raises:
        ConfigurationError: no release is in progress.
    """
    return _decide(context, model, "pause", lambda r: r.pause(), say)


def resume(context: Context, model: RegisteredModel, say: Callable[[str], None]) -> Progress:
    """End a pause.

    Raises:
        ConfigurationError: no release is in progress.
    """
    return _decide(context, model, "resume", lambda r: r.resume(), say)


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
        ConfigurationError: no release is in progress.
        PipelineError: the platform does not answer.
    """
    with turn_to_end(
        context.settings,
        purpose=f"abort the release of {model.name}",
        on_wait=say,
        during_training=True,
    ):
        return releases_of(context, model, command).abort(reason or _NO_REASON)


def abort_to_roll_back(context: Context, model: RegisteredModel, say: Callable[[str], None]) -> str:
    """Abort the release in progress, for a rollback that names no artifact, and say how it ended.

    Empty without a release. Who rolls back during a release wants the version that served before
    it; so does who rolls back after the promotion, as long as the former version is kept.

    Raises:
        PipelineError: the platform does not answer.
    """
    try:
        release = releases_of(context, model, "rollback").find()
    except IntegrityError:
        release = None
    if not is_going_on(context, model):
        return ""
    reason = f"a person rolled it back ({typed('rollback')})"
    progress = abort(context, model, say, reason=reason, command="rollback")
    told = describe_end(context, model, progress)
    if release is None or release.candidate == release.stable:
        return f"{told}. Nothing is pinned"
    return f"{told}. Nothing is pinned; {release.candidate[:12]} is not released again"


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


def order_to_advance(platform: str, model: str, *, command: str) -> Order:
    """Return the run that takes the next step of a release. `command` is what was typed."""
    from mlops_pipeline.assets.keys import model_key
    from mlops_pipeline.automation.jobs import release_job_name, release_run_config

    key = model_key(platform, model, "deployment")
    return Order(
        command=command,
        job=release_job_name(model),
        keys=[key],
        models=[model],
        config=release_run_config(platform, model, "advance")["ops"],
    )


def is_going_on(context: Context, model: RegisteredModel) -> bool:
    """Return whether a release can be aborted, also one whose state is damaged."""
    try:
        release = releases_of(context, model, "status").find()
    except IntegrityError:
        return True
    return release is not None and release.phase != "ended"


def describe_superseded(releases: Releases) -> str:
    """Say which release ends if another artifact is deployed; empty if none does."""
    try:
        release = releases.find()
    except IntegrityError as error:
        return f"this ends a release: {error}"
    if release is None or release.ended is not None:
        return ""
    return (
        f"this ends the {release.plan.strategy} release of {release.candidate[:12]} beside "
        f"{release.stable[:12]}, which began at {release.since}"
    )


def describe_end(context: Context, model: RegisteredModel, progress: Progress) -> str:
    """Say how a decision of a person ended, which artifact has the traffic, and what comes next."""
    name, told = model.name, f"{model.name}: {progress.describe()}"
    try:
        serving = deployed_ref(model.spec, context.platform)
    except PipelineError as error:
        return f"{told}; it is unknown which artifact serves: {error}"
    if serving is not None:
        told += f". {serving.digest[:12]} has the traffic"
    release = progress.release
    if release is not None and release.phase == "ended":
        return (
            f"{told}. Run `mlops-pipeline up {name}` once the object store answers: it writes "
            "the record of the release"
        )
    if release is not None and release.phase == "kept":
        return (
            f"{told}, and {release.stable[:12]} stays ready for {release.plan.keep_seconds:g} s: "
            f"`mlops-pipeline release abort {name}` brings it back"
        )
    return told
