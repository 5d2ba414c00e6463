"""`up`: materialize the graph in a Dagster run that the UI shows too."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.console import Console

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.cli.answers import require_embedded
from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.instance import instance_for_run
from mlops_pipeline.cli.narration import narrated
from mlops_pipeline.cli.runs import Order, Outcome, execute
from mlops_pipeline.clients.errors import ConfigurationError, PipelineError
from mlops_pipeline.platforms.answers import SHIPPER
from mlops_pipeline.platforms.answers import describe as describe_recording
from mlops_pipeline.platforms.build import build_platform
from mlops_pipeline.platforms.layers import Absent, by_name, with_required
from mlops_pipeline.resources.turn import turn

if TYPE_CHECKING:
    import dagster as dg


@dataclass(frozen=True)
class Options:
    """How `up` was asked to work."""

    targets: Sequence[str] = ()
    """Layers, models or their deployments; none: everything."""
    force: bool = False
    """Train even if nothing changed."""
    accept_worse: bool = False
    accept_unevaluated: bool = False
    recreate: bool = False
    """First create the cluster again if it differs in something that cannot be updated."""
    unpin: bool = False
    no_wait: bool = False
    """Do not follow releases after the run."""

    def as_typed(self) -> str:
        """Return the command without the program's name."""
        given = {
            "--force": self.force,
            "--accept-worse": self.accept_worse,
            "--accept-unevaluated": self.accept_unevaluated,
            "--recreate": self.recreate,
            "--unpin": self.unpin,
            "--no-wait": self.no_wait,
        }
        return " ".join(["up", *self.targets, *(word for word, is_on in given.items() if is_on)])


def run_everything(context: Context, options: Options, *, console: Console) -> Outcome:
    """Materialize the targets with what they stand on.

    Raises:
        ConfigurationError: a target is neither a layer nor a model, or an option does not fit.
        ConflictError: the cluster to create again was not created by this project.
        UnavailableError: another command took too long, or the records cannot be written.
    """
    command = options.as_typed()
    options = replace(options, targets=[_name_of(context, target) for target in options.targets])
    targets = options.targets
    _refuse(context, options)
    _announce_recording(context, console)
    provide(context, console)
    if options.recreate:
        _recreate_cluster(context, console)
    from mlops_pipeline.automation.jobs import job_for

    models = _chosen_models(context, targets)
    order = Order(
        command=command,
        job=job_for(models, targets=targets),
        keys=_selected(context, targets),
        models=models if targets else (),
        config=_config(context, options),
    )
    opened = instance_for_run(
        context.settings,
        purpose=f"run `mlops-pipeline {order.command}`",
        on_wait=lambda who: say_waiting(who, console),
    )
    with opened as instance:
        return execute(context, order, instance=instance, console=console)


def models_of(context: Context, options: Options) -> list[RegisteredModel]:
    """Return the models that `up` brings, without a check of the targets."""
    names = [_name_of(context, target) for target in options.targets]
    chosen = _chosen_models(context, names)
    return [model for model in context.models if model.name in chosen]


def _announce_recording(context: Context, console: Console) -> None:
    """Say what will be stored before answers are recorded for the first time."""
    layers = {layer.name: layer for layer in context.platform.layers}
    if SHIPPER in layers and isinstance(layers[SHIPPER].observe(), Absent):
        console.print(describe_recording(context.settings.answers), soft_wrap=True, markup=False)


def provide(context: Context, console: Console) -> None:
    """Get what comes from elsewhere where it can be seen: a run keeps what its steps print.

    What cannot be had is told by the layer that needs it, if one does.
    """
    with narrated(console), suppress(PipelineError):
        context.platform.provide()


def say_waiting(who: str, console: Console) -> None:
    """Print which process is waited for."""
    console.print(f"waiting for {who}", soft_wrap=True, markup=False)


def _name_of(context: Context, target: str) -> str:
    """Return the name of a layer or a model; of a model also if the target is its deployment."""
    if any(layer.name == target for layer in context.platform.layers):
        return target
    model = context.find_model(target)
    return target if model is None else model.name


def _refuse(context: Context, options: Options) -> None:
    """Refuse unknown targets, and options that do not fit, before anything is changed."""
    targets, platform = options.targets, context.platform
    known = [layer.name for layer in platform.layers] + [m.name for m in context.models]
    if unknown := [target for target in targets if target not in known]:
        raise ConfigurationError(
            "; ".join(context.describe_unknown(target, known) for target in unknown)
        )
    for option, is_given in (
        ("--accept-worse", options.accept_worse),
        ("--accept-unevaluated", options.accept_unevaluated),
        ("--unpin", options.unpin),
    ):
        if is_given and not _named_models(context, targets):
            raise ConfigurationError(f"{option} requires the name of a model")
    if context.settings.answers.enabled:
        require_embedded(context)
    if options.recreate and platform.name != "kind":
        raise ConfigurationError(f"the platform {platform.name} has no cluster to recreate")


def _recreate_cluster(context: Context, console: Console) -> None:
    """Create the cluster again if it differs from the settings in what cannot be updated.

    Raises:
        ConflictError: the cluster was not created by this project.
        UnavailableError: another command or run took too long.
    """
    with turn(
        context.settings,
        purpose="create the cluster again",
        on_wait=lambda who: say_waiting(who, console),
    ):
        platform = build_platform(context.platform.name, context.settings, recreate=True)
        change = by_name(platform.layers, "cluster").ensure()
    console.print(f"cluster: {change.action}")


def _selected(context: Context, targets: Sequence[str]) -> list["dg.AssetKey"]:
    from mlops_pipeline.assets.keys import PARTS, layer_key, model_key

    platform, layers = context.platform.name, context.platform.layers
    models = _chosen_models(context, targets)
    names = [layer.name for layer in layers]
    wanted = names if models else with_required(layers, set(targets) & set(names))
    return [
        *(layer_key(platform, name) for name in wanted),
        *(model_key(platform, model, part) for model in models for part in PARTS),
    ]


def _named_models(context: Context, targets: Sequence[str]) -> list[str]:
    return [model.name for model in context.models if model.name in targets]


def _chosen_models(context: Context, targets: Sequence[str]) -> list[str]:
    return [m.name for m in context.models if not targets or m.name in targets]


def _config(context: Context, options: Options) -> dict[str, object]:
    """Return step → config."""
    from mlops_pipeline.assets.checks import ACCEPT_UNEVALUATED, ACCEPT_WORSE, op_name
    from mlops_pipeline.assets.keys import model_key

    steps: dict[str, object] = {}
    given_to_checks = {
        ACCEPT_WORSE: options.accept_worse,
        ACCEPT_UNEVALUATED: options.accept_unevaluated,
    }
    accepted = {field: True for field, is_given in given_to_checks.items() if is_given}
    for name in _chosen_models(context, options.targets):
        model = model_key(context.platform.name, name, "model")
        deployment = model_key(context.platform.name, name, "deployment")
        given = {
            "__".join(model.path): {"force": True} if options.force else {},
            op_name(model): accepted,
            "__".join(deployment.path): {"unpin": True} if options.unpin else {},
        }
        steps |= {step: {"config": config} for step, config in given.items() if config}
    return steps
