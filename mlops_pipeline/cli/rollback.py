"""`rollback`, `deploy` and `unpin`: which artifact a model serves, whatever its inputs bring."""

from collections.abc import Callable, Mapping

from rich.console import Console

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.cli.context import Context, typed
from mlops_pipeline.cli.instance import instance_for_run
from mlops_pipeline.cli.releasing import describe_superseded, releases_of
from mlops_pipeline.cli.runs import Order, Outcome, execute
from mlops_pipeline.cli.up import say_waiting
from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError, PipelineError
from mlops_pipeline.delivery.choosing import choose_named
from mlops_pipeline.delivery.deploying import deployed_ref
from mlops_pipeline.delivery.desired import Desired, DesiredState, find_pin
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.references import ModelRef
from mlops_pipeline.delivery.rolling_back import previous_good


def roll_back(
    context: Context,
    model: RegisteredModel,
    digest: str | None,
    *,
    accept_refused: bool,
    console: Console,
) -> tuple[ModelRef, Outcome]:
    """Deploy and pin the artifact whose digest starts with `digest`, or the last good one before.

    Raises:
        NotFoundError: there is no such artifact, or nothing is deployed.
        RefusedError: blocking checks refuse the artifact, and that is not accepted.
        ConfigurationError: a refused one is accepted that is not named.
    """
    require_named(model, digest, accept_refused=accept_refused)
    return _pin(
        context,
        model,
        lambda judge: previous_good(model.spec, judge).digest if digest is None else digest,
        command="rollback",
        accepts={"accept_refused": accept_refused},
        console=console,
    )


def require_named(model: RegisteredModel, digest: str | None, *, accept_refused: bool) -> None:
    """Refuse to accept an artifact that nobody names.

    Raises:
        ConfigurationError: a refused one is accepted, and none is named.
    """
    if accept_refused and digest is None:
        raise ConfigurationError(
            "--accept-refused requires the digest of an artifact; run "
            f"`mlops-pipeline models {model.name}` to list the digests"
        )


def deploy_artifact(
    context: Context,
    model: RegisteredModel,
    digest: str | None,
    *,
    accept_refused: bool,
    accept_unevaluated: bool,
    console: Console,
) -> tuple[ModelRef, Outcome]:
    """Deploy and pin the artifact whose digest starts with `digest`, or the one published last.

    Raises:
        NotFoundError: there is no such artifact, or none was published.
        ConfigurationError: one is accepted that is not named.
        RefusedError: blocking checks refuse the artifact, or it is unevaluated, and that is not
            accepted.
    """
    accepts = {"accept_refused": accept_refused, "accept_unevaluated": accept_unevaluated}
    return _pin(
        context,
        model,
        lambda judge: digest or published_last(model.name, judge, accepts),
        command="deploy",
        accepts=accepts,
        console=console,
    )


def published_last(name: str, judge: Judge, accepts: Mapping[str, bool]) -> str:
    """Return the digest of the artifact that was published last, unless a person accepts it.

    Somebody else may have published in between: who accepts a refused one names it.
    """
    found = judge.artifacts.find_published(name)
    if found is None:
        raise NotFoundError(
            f"could not deploy {name}: no artifact of it was published. Run "
            f"`mlops-pipeline publish FOLDER --model {name}`, name an artifact of "
            f"`mlops-pipeline models {name}` with --digest, or train one with "
            f"`mlops-pipeline up {name}`"
        )
    for field in (field for field, is_given in accepts.items() if is_given):
        option = f"--{field.replace('_', '-')}"
        raise ConfigurationError(
            f"{option} requires the digest of an artifact. {found.digest[:12]} was published last: "
            f"run `mlops-pipeline deploy {name} --digest {found.digest[:12]} {option}` to deploy "
            "it. Nothing was deployed"
        )
    return found.digest


def _pin(
    context: Context,
    model: RegisteredModel,
    choose: Callable[[Judge], str],
    *,
    command: str,
    accepts: dict[str, bool],
    console: Console,
) -> tuple[ModelRef, Outcome]:
    """Deploy and pin the artifact whose digest starts with what `choose` returns."""
    from mlops_pipeline.assets.keys import model_key
    from mlops_pipeline.automation.jobs import lifecycle_job_name

    turn = instance_for_run(
        context.settings,
        purpose=f"{command} {model.name}",
        on_wait=lambda who: say_waiting(who, console),
        during_training=True,
    )
    with turn as instance:
        judge = Judge(context.platform, by=typed(command))
        chosen = choose_named(
            model.spec,
            judge,
            prefix=choose(judge),
            accept_refused=accepts["accept_refused"],
            accept_unevaluated=accepts.get("accept_unevaluated", False),
        )
        if superseded := describe_superseded(releases_of(context, model, command)):
            console.print(superseded, soft_wrap=True, markup=False, highlight=False)
        parts = ("deployment", "predictions")
        keys = [model_key(context.platform.name, model.name, part) for part in parts]
        order = Order(
            command=f"{command} {model.name} {chosen.ref.digest[:12]}",
            job=lifecycle_job_name(model.name),
            keys=keys,
            models=[model.name],
            config={
                "__".join(keys[0].path): {"config": {"artifact": chosen.ref.digest, **accepts}}
            },
        )
        return chosen.ref, execute(context, order, instance=instance, console=console)


def unpin(context: Context, model: RegisteredModel) -> Desired | None:
    """End the model's pin, and return what was pinned; None where nothing is. The traffic stays.

    Raises:
        PipelineError: the deployment could not be changed.
    """
    return DesiredState(model.spec, context.platform).unpin(by=typed("unpin"))


def describe_served(context: Context, model: RegisteredModel) -> str:
    """Say which artifact has the traffic of the model now, after a run that did not complete."""
    try:
        served = deployed_ref(model.spec, context.platform)
        pin = find_pin(model.spec, context.platform)
    except PipelineError as error:
        return f"it is unknown which artifact serves: {error}"
    if served is None:
        return f"{model.name} is not deployed"
    pinned = ", pinned" if pin and pin.desired.digest == served.digest else ""
    return f"{served.digest[:12]} has the traffic{pinned}"
