"""`release …`: the commands that show a release and decide it."""

from typing import Annotated

import typer

from mlops_pipeline.cli import NOT_AS_IT_SHOULD_BE
from mlops_pipeline.cli.context import load_context
from mlops_pipeline.cli.options import AsJson, Model, console, say, say_waiting

release_app = typer.Typer(
    help="Show and decide releases, in which a new version serves beside the stable one. "
    "`up` continues a release: its exit code is 4 if the release has not ended, and 5 if it ended "
    "without the new version.",
    no_args_is_help=True,
)


@release_app.command("status")
def release_status(
    model: Annotated[
        str | None,
        typer.Argument(help="Name of a model or of its deployment; default: all models."),
    ] = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show versions, shares, evidence and what happens next. Without a release: the last one."""
    from mlops_pipeline.cli import release_report

    context = load_context()
    chosen = [context.model(model)] if model else context.models
    seen = release_report.observe(context, chosen)
    if as_json:
        typer.echo(seen.model_dump_json(indent=2))
    else:
        release_report.show(seen, console)
    if any(release.problem for release in seen.releases):
        raise typer.Exit(NOT_AS_IT_SHOULD_BE)


@release_app.command("promote")
def release_promote(model: Model) -> None:
    """Give all traffic to the new version now, whatever its evidence says."""
    from mlops_pipeline.cli.releasing import describe_end, promote

    context = load_context()
    chosen = context.model(model)
    say(describe_end(context, chosen, promote(context, chosen, say_waiting)))


@release_app.command("abort")
def release_abort(
    model: Model,
    reason: Annotated[
        str, typer.Option("--reason", help="Why, for the record of the release.")
    ] = "",
) -> None:
    """Give all traffic back to the stable version. Works without the object store too."""
    from mlops_pipeline.cli.releasing import abort, describe_end

    context = load_context()
    chosen = context.model(model)
    say(describe_end(context, chosen, abort(context, chosen, say_waiting, reason=reason)))


@release_app.command("pause")
def release_pause(model: Model) -> None:
    """Leave the traffic as it is until `release resume`. Answers are still counted."""
    from mlops_pipeline.cli.releasing import pause
    from mlops_pipeline.delivery.releases.telling import tell

    context = load_context()
    chosen = context.model(model)
    progress = pause(context, chosen, say_waiting)
    say(
        f"{chosen.name}: {tell(progress, chosen.name)}. Run `mlops-pipeline release resume "
        f"{chosen.name}` to end the pause"
    )


@release_app.command("resume")
def release_resume(model: Model) -> None:
    """End a pause or a question: the evidence decides again. The time of the step starts again."""
    from mlops_pipeline.cli.releasing import resume
    from mlops_pipeline.delivery.releases.telling import tell

    context = load_context()
    chosen = context.model(model)
    progress = resume(context, chosen, say_waiting)
    say(
        f"{chosen.name}: {tell(progress, chosen.name)}. `mlops-pipeline up {chosen.name}` "
        "continues the release"
    )


@release_app.command("history")
def release_history(model: Model, as_json: AsJson = False) -> None:  # noqa: FBT002
    """List how the releases of a model ended, the newest first."""
    from mlops_pipeline.cli import release_report

    context = load_context()
    found = release_report.history_of(context, context.model(model))
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        release_report.show_history(found, console)
