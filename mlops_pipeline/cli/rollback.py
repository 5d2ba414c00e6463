"""`rollback` and `unpin`: which artifact a model serves, whatever its inputs bring."""

from rich.console import Console

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.cli.context import Context, typed
from mlops_pipeline.cli.instance import instance_for_run
from mlops_pipeline.cli.runs import Order, Outcome, execute
from mlops_pipeline.cli.up import say_waiting
from mlops_pipeline.clients.errors import ConfigurationError, PipelineError
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
    from mlops_pipeline.assets.keys import model_key
    from mlops_pipeline.automation.jobs import lifecycle_job_name

    if accept_refused and digest is None:
        raise ConfigurationError(
            "--accept-refused requires the digest of an artifact; run "
            f"`mlops-pipeline models {model.name}` to list the digests"
        )
    turn = instance_for_run(
        context.settings,
        purpose=f"roll {model.name} back",
        on_wait=lambda who: say_waiting(who, console),
        during_training=True,
    )
    with turn as instance:
        judge = Judge(context.platform, by=typed("rollback"))
        prefix = previous_good(model.spec, judge).digest if digest is None else digest
        ref = choose_named(model.spec, judge, prefix=prefix, accept_refused=accept_refused).ref
        parts = ("deployment", "predictions")
        keys = [model_key(context.platform.name, model.name, part) for part in parts]
        config = {"artifact": ref.digest, "accept_refused": accept_refused}
        order = Order(
            command=f"rollback {model.name} {ref.digest[:12]}",
            job=lifecycle_job_name(model.name),
            keys=keys,
            models=[model.name],
            config={"__".join(keys[0].path): {"config": config}},
        )
        return ref, execute(context, order, instance=instance, console=console)


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
