"""`publish`: a model that was trained elsewhere becomes an artifact."""

from pathlib import Path

from rich.console import Console

from mlops_pipeline.catalog.holdout_files import read_holdout
from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.cli.context import Context, typed
from mlops_pipeline.cli.up import say_waiting
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.delivery.holdouts import describe_no_file
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.offered_files import Offer
from mlops_pipeline.delivery.publishing import Published, publish
from mlops_pipeline.resources.turn import turn
from mlops_pipeline.serving.schema import shown_some


def publish_folder(
    context: Context,
    model: RegisteredModel,
    folder: Path,
    *,
    holdout: Path | None,
    is_unevaluated: bool,
    console: Console,
    origin: str = "",
) -> Published:
    """Store the files of a folder as an artifact of the model, and judge it.

    Raises:
        ConfigurationError: the options or the files do not fit; nothing was stored.
        PipelineError: see `delivery.publishing.publish`.
    """
    require_usable(model, holdout, is_unevaluated=is_unevaluated)
    offer = Offer(
        model,
        folder,
        origin or f"published from {folder.name}",
        holdout=holdout,
        dataset=context.settings.datasets.get(model.name),
        is_unevaluated=is_unevaluated,
        most_bytes=context.settings.max_artifact_bytes,
    )
    with turn(
        context.settings,
        purpose=f"publish {model.name}",
        on_wait=lambda who: say_waiting(who, console),
    ):
        return publish(offer, Judge(context.platform, by=typed("publish")))


def require_usable(model: RegisteredModel, holdout: Path | None, *, is_unevaluated: bool) -> None:
    """Refuse options that cannot be used, before anything is fetched or copied.

    Raises:
        ConfigurationError: they contradict each other, or the hold-out file cannot be read.
    """
    if holdout is None:
        return
    if is_unevaluated:
        raise ConfigurationError(
            "--holdout evaluates the model, and --unevaluated does not; give one of them"
        )
    if not holdout.is_file():
        raise ConfigurationError(describe_no_file(holdout))
    try:
        read_holdout(model.spec, holdout)
    except ValueError as error:
        raise ConfigurationError(f"{error}. Nothing was stored") from error


def describe(published: Published, model: RegisteredModel) -> list[str]:
    """Return what happened to the model, and what to do next, for people."""
    digest, metric = published.ref.digest[:12], model.spec.metric
    value = published.manifest.metrics.get(metric.name)
    quality = "unevaluated" if value is None else f"{metric.label} {metric.shown(value)}"
    lines = [f"{model.name} {digest}: {quality}", published.ref.uri]
    if beside := published.passed_over:
        lines.append(f"passed over, because they are not part of a model: {shown_some(beside)}")
    lines += [unmet.describe() for unmet in published.unmet]
    name = model.name
    if not published.unmet:
        lines.append(f"every check passed; run `mlops-pipeline deploy {name}`, which also pins it")
    elif all(unmet.is_unevaluated for unmet in published.unmet):
        lines.append(
            f"run `mlops-pipeline deploy {name} --digest {digest} --accept-unevaluated` to serve "
            "it nevertheless"
        )
    else:
        lines.append(f"it is stored and refused; see `mlops-pipeline models {name}`")
    return lines
