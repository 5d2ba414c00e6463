"""The commands. Each reads its options and calls one thing."""

import codecs
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlops_pipeline.cli import INTERRUPTED, NOT_AS_IT_SHOULD_BE
from mlops_pipeline.cli.context import Context, load_context, typed
from mlops_pipeline.cli.options import AsJson as _AsJson
from mlops_pipeline.cli.options import Model as _Model
from mlops_pipeline.cli.options import console
from mlops_pipeline.cli.options import say as _say
from mlops_pipeline.cli.options import say_waiting as _say_waiting
from mlops_pipeline.cli.release_commands import release_app

if TYPE_CHECKING:
    from mlops_pipeline.catalog.registry import RegisteredModel
    from mlops_pipeline.cli.runs import Outcome
    from mlops_pipeline.cli.up import Options
    from mlops_pipeline.delivery.publishing import Published
    from mlops_pipeline.delivery.references import ModelRef

app = typer.Typer(
    help="Build a serving platform, train and deploy models, and verify their predictions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
bundle_app = typer.Typer(
    help="Create or verify a bundle: all downloads in a folder, for machines without a network.",
    no_args_is_help=True,
)
app.add_typer(bundle_app, name="bundle")
keys_app = typer.Typer(
    help="Show and change the keys whose signatures of artifacts count.", no_args_is_help=True
)
app.add_typer(keys_app, name="keys")
app.add_typer(release_app, name="release")
_Directory = Annotated[Path, typer.Argument(help="Folder of the bundle.")]
_AcceptRefused = Annotated[
    bool,
    typer.Option(
        "--accept-refused", help="Deploy the artifact although checks refuse it; it stays marked."
    ),
]
_AcceptUnevaluated = Annotated[
    bool,
    typer.Option(
        "--accept-unevaluated",
        help="Deploy the artifact although it was published without a hold-out set.",
    ),
]
_OfModel = Annotated[str, typer.Option("--model", help="Name of the model in the catalog.")]
_Holdout = Annotated[
    Path | None,
    typer.Option(
        "--holdout", help="Hold-out set, .npz or .csv; default: the dataset of the model."
    ),
]
_Unevaluated = Annotated[
    bool, typer.Option("--unevaluated", help="Publish it without evaluating it.")
]
_Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


@app.callback()
def main(
    platform: Annotated[
        str | None,
        typer.Option("--platform", help="Platform to use instead of the one in the settings."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks of errors.")] = False,  # noqa: FBT002  # typer's way to declare a flag
) -> None:
    """Declare the options that all commands share; they are taken where the process begins."""


@app.command()
def up(
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="Names of layers, models or their deployments; default: all."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Train even if nothing changed.")] = False,  # noqa: FBT002
    accept_worse: Annotated[  # noqa: FBT002
        bool,
        typer.Option(
            "--accept-worse",
            help="Deploy the named models once, even if they are less accurate than before.",
        ),
    ] = False,
    accept_unevaluated: _AcceptUnevaluated = False,  # noqa: FBT002
    recreate: Annotated[  # noqa: FBT002
        bool,
        typer.Option(
            "--recreate",
            help="kind: create a cluster that differs from the settings again; deletes its data.",
        ),
    ] = False,
    unpin: Annotated[  # noqa: FBT002
        bool,
        typer.Option(
            "--unpin",
            help="Unpin the named models, and deploy the artifacts of their current inputs.",
        ),
    ] = False,
    no_wait: Annotated[  # noqa: FBT002
        bool,
        typer.Option(
            "--no-wait", help="Do not wait for the end of releases; another `up` continues them."
        ),
    ] = False,
) -> None:
    """Start the platform; train, deploy and verify the models. A second run changes nothing.

    If a model's `release` has a strategy, it waits until the release has ended or needs a person.
    Exit code 4: a release has not ended, and waits for a person or, with --no-wait, for answers.
    Exit code 5: a release ended without the new version, which was rolled back or aborted.
    """
    from mlops_pipeline.cli.up import Options

    options = Options(
        targets or (),
        force=force,
        accept_worse=accept_worse,
        accept_unevaluated=accept_unevaluated,
        recreate=recreate,
        unpin=unpin,
        no_wait=no_wait,
    )
    if code := _up(load_context(), options):
        raise typer.Exit(code)


def _up(context: Context, options: "Options") -> int:
    """Run `up`, follow its releases, print the summary, and return the exit code."""
    from mlops_pipeline.cli.following import Following, find_releases
    from mlops_pipeline.cli.runs import quiet_console, show_outcome
    from mlops_pipeline.cli.status import show_summary
    from mlops_pipeline.cli.up import models_of, run_everything

    screen, models = quiet_console(), models_of(context, options)
    try:
        before = find_releases(context, models)
        outcome = run_everything(context, options, console=screen)
    except KeyboardInterrupt:
        screen.print("interrupted; run `mlops-pipeline up` to resume")
        raise typer.Exit(INTERRUPTED) from None
    refused = [model.describe() for model in context.refused]
    resume = "" if outcome.is_refused else "run `mlops-pipeline up` to resume"
    show_outcome(outcome, screen, next_step=resume, more=refused)
    screen.print(_say_changes(outcome.changes))
    endings = Following(context, options.as_typed(), screen).follow(
        models, before=before, is_waiting=not options.no_wait
    )
    for ending in endings:
        screen.print(ending.sentence, soft_wrap=True, markup=False, highlight=False)
    show_summary(context, console, told={ending.model for ending in endings})
    if code := max((ending.code for ending in endings), default=0):
        return code
    is_wrong = outcome.problems or (refused and not options.targets)
    return NOT_AS_IT_SHOULD_BE if is_wrong else 0


def _say_changes(changes: int) -> str:
    if changes:
        return f"{changes} changed\n"
    return "nothing changed: everything is up to date\n"


@app.command()
def down(
    purge: Annotated[bool, typer.Option("--purge", help="Also delete all data.")] = False,  # noqa: FBT002
    yes: _Yes = False,  # noqa: FBT002
) -> None:
    """Stop the platform, and print what remains. Data remains, unless --purge."""
    from mlops_pipeline.cli.instance import purged_records, turn_to_end
    from mlops_pipeline.cli.status import example_files
    from mlops_pipeline.resources.home import describe_left

    context = load_context()
    home, name = context.settings.home, context.platform.name
    if purge and not yes:
        typer.confirm(
            f"Delete all artifacts and deployments of the platform {name}, and its data in {home}?",
            abort=True,
        )
    if purge:
        with purged_records(context.settings, name, examples=example_files(context)):
            kept = _forget_desired(context)
            context.platform.down()
            said = [*context.platform.purge(), *kept]
        said += describe_left(home)
    else:
        purpose = f"stop the platform {name}"
        with turn_to_end(context.settings, purpose=purpose, on_wait=_say_waiting):
            said = list(context.platform.down())
    for sentence in said:
        console.print(sentence, soft_wrap=True, markup=False, highlight=False)


def _forget_desired(context: Context) -> list[str]:
    """Delete the desired states in an object store that outlives the platform.

    Returns a sentence if that failed. Stores of the platform itself are deleted with all they hold.
    """
    from mlops_pipeline.clients.errors import PipelineError
    from mlops_pipeline.delivery.desired import forget
    from mlops_pipeline.platforms.layers import Absent, Ready, by_name

    try:
        state = by_name(context.platform.layers, "object_store").observe()
        if isinstance(state, Ready):
            forget(context.platform)
            return []
        reason = "" if isinstance(state, Absent) else "the object store is not ready"
    except PipelineError as error:
        reason = str(error)
    if not reason or context.platform.name != "kubernetes":
        return []
    return [
        f"The pins in an external object store were not deleted: {reason}. To delete them, remove "
        "the objects below models/MODEL/desired/kubernetes/ there"
    ]


@app.command()
def status(as_json: _AsJson = False) -> None:  # noqa: FBT002
    """Show the actual state of layers and deployments, with versions and shares of traffic."""
    from mlops_pipeline.cli import status as report

    seen = report.observe(load_context())
    if as_json:
        typer.echo(seen.model_dump_json(indent=2))
    else:
        report.show(seen, console)
    if not seen.is_ready():
        raise typer.Exit(NOT_AS_IT_SHOULD_BE)


@app.command()
def plan() -> None:
    """Show what `up` would change, without changing it. Exit code 3: something would change."""
    from mlops_pipeline.delivery.planning import Step, plan_layers, plan_model
    from mlops_pipeline.platforms.observing import observe_platform

    context = load_context()
    seen = observe_platform(context.platform)
    steps = plan_layers(seen)
    for model in context.models:
        file = context.settings.datasets.get(model.name)
        steps += plan_model(model, platform=context.platform, file=file, seen=seen)
    table = Table("asset", "action", "reason", box=None, pad_edge=False, header_style="bold")
    steps += [Step(model.label, "refused", model.describe()) for model in context.refused]
    for step in steps:
        table.add_row(step.asset, step.action, escape(step.reason))
    console.print(table)
    if any(step.action != "keep" for step in steps):
        raise typer.Exit(NOT_AS_IT_SHOULD_BE)


@app.command()
def predict(
    model: _Model,
    row: Annotated[
        list[str] | None,
        typer.Option("--row", help="Comma-separated values; repeat for more rows."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="File with rows (CSV or JSON) or a Seldon request."),
    ] = None,
    as_json: _AsJson = False,  # noqa: FBT002
) -> None:
    """Send rows to a deployed model through the gateway; default: its example."""
    from mlops_pipeline.cli.predict import predict_rows, read_rows, table_of

    context = load_context()
    registered = context.model(model)
    answer = predict_rows(context, registered, read_rows(registered.spec, row or [], file))
    if as_json:
        typer.echo(json.dumps(answer.body))
        return
    console.print(table_of(registered.spec, answer))
    console.print(f"{answer.digest[:12]} answered in {1000 * answer.latency:.1f} ms", style="dim")


@app.command()
def answers(
    model: _Model,
    since: Annotated[
        str, typer.Option("--since", help="Only answers since then: 30m, 6h, 7d, or a time in UTC.")
    ] = "",
    status: Annotated[
        str,
        typer.Option(
            "--status", help="Only answers with this status: ok, error, or a number such as 400."
        ),
    ] = "",
    digest: Annotated[
        str,
        typer.Option(
            "--digest", help="Only answers of the artifact whose digest begins with this."
        ),
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            help="Maximum number of answers. Default: the newest 20; with --export, all.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--export", help="Write a file instead: .jsonl, .csv or .parquet."),
    ] = None,
) -> None:
    """Show what a model was asked and what it answered, with the feedback about it."""
    from mlops_pipeline.cli.answers import (
        export,
        find_answers,
        require_format,
        table_of,
        wanted_of,
    )

    if file is not None:
        require_format(file)
    most = limit if limit is not None or file is not None else 20
    wanted = wanted_of(since=since, status=status, digest=digest, limit=most)
    rows = find_answers(load_context(), model, wanted)
    if file is not None:
        export(rows, file)
        console.print(f"wrote {len(rows)} answers to {file}", soft_wrap=True, highlight=False)
    elif rows:
        console.print(table_of(rows))
    else:
        console.print("no answers match these options")


@app.command()
def models(
    model: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
) -> None:
    """List the artifacts of the models, with their verdicts and when they served."""
    from mlops_pipeline.cli.models import list_artifacts

    context = load_context()
    columns = ("model", "digest", "created", "quality", "verdict", "served", "")
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for registered in [context.model(model)] if model else context.models:
        for row in list_artifacts(context, registered):
            table.add_row(*row)
    console.print(table)
    if context.refused and not model:
        for refused in context.refused:
            typer.echo(f"error: {refused.describe()}", err=True)
        raise typer.Exit(NOT_AS_IT_SHOULD_BE)


@app.command()
def rollback(
    model: _Model,
    digest: Annotated[
        str | None,
        typer.Argument(
            help="Start of the artifact's digest; default: the previous one that served or passed."
        ),
    ] = None,
    accept_refused: _AcceptRefused = False,  # noqa: FBT002
) -> None:
    """Deploy an earlier artifact and pin it: no later run replaces it until `unpin`.

    During a release, and after a promotion while the former version is kept, without a digest:
    abort the release, pin nothing.
    """
    from mlops_pipeline.cli.releasing import abort_to_roll_back
    from mlops_pipeline.cli.rollback import describe_served, require_named, roll_back
    from mlops_pipeline.cli.runs import quiet_console

    context, screen = load_context(), quiet_console()
    registered = context.model(model)
    require_named(registered, digest, accept_refused=accept_refused)
    try:
        aborted = abort_to_roll_back(context, registered, _say_waiting) if digest is None else ""
        if aborted:
            _say(aborted)
            return
        ref, outcome = roll_back(
            context, registered, digest, accept_refused=accept_refused, console=screen
        )
    except KeyboardInterrupt:
        screen.print(f"interrupted; {describe_served(context, registered)}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    _show_pinned(context, registered, ref, outcome, screen)


def _show_pinned(
    context: Context,
    registered: "RegisteredModel",
    ref: "ModelRef",
    outcome: "Outcome",
    screen: Console,
) -> None:
    """Print which artifact answers after a rollback or `deploy`."""
    from mlops_pipeline.cli.rollback import describe_served
    from mlops_pipeline.cli.runs import show_outcome
    from mlops_pipeline.delivery.deploying import url_of

    served = "" if outcome.succeeded else describe_served(context, registered)
    show_outcome(outcome, screen, next_step=served)
    url = url_of(registered.spec, context.platform)
    console.print(f"{url} answers with {ref.digest[:12]}", soft_wrap=True)
    console.print(
        f"pinned; run `mlops-pipeline unpin {registered.name}` to allow the artifact of the "
        "current inputs again",
        style="dim",
        soft_wrap=True,
    )
    if outcome.problems:
        raise typer.Exit(NOT_AS_IT_SHOULD_BE)


@app.command()
def deploy(
    model: _Model,
    digest: Annotated[
        str | None,
        typer.Option(
            "--digest",
            help="Start of the artifact's digest; default: the artifact that was published last.",
        ),
    ] = None,
    accept_refused: _AcceptRefused = False,  # noqa: FBT002
    accept_unevaluated: _AcceptUnevaluated = False,  # noqa: FBT002
) -> None:
    """Deploy a published artifact and pin it: no later run replaces it until `unpin`."""
    from mlops_pipeline.cli.rollback import deploy_artifact, describe_served
    from mlops_pipeline.cli.runs import quiet_console

    context, screen = load_context(), quiet_console()
    registered = context.model(model)
    try:
        ref, outcome = deploy_artifact(
            context,
            registered,
            digest,
            accept_refused=accept_refused,
            accept_unevaluated=accept_unevaluated,
            console=screen,
        )
    except KeyboardInterrupt:
        screen.print(f"interrupted; {describe_served(context, registered)}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    _show_pinned(context, registered, ref, outcome, screen)


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="Folder with the model's files.")],
    model: _OfModel,
    holdout: _Holdout = None,
    unevaluated: _Unevaluated = False,  # noqa: FBT002
) -> None:
    """Store a model that was trained elsewhere as an artifact, and evaluate its checks."""
    from mlops_pipeline.cli.publishing import publish_folder

    context = load_context()
    registered = context.model(model)
    published = publish_folder(
        context,
        registered,
        folder,
        holdout=holdout,
        is_unevaluated=unevaluated,
        console=Console(stderr=True),
    )
    _show_published(published, registered)


@app.command("import")
def import_model(
    uri: Annotated[
        str,
        typer.Argument(help="gs://, s3://, http://, https://, file:// or a path; also an archive."),
    ],
    model: _OfModel,
    holdout: _Holdout = None,
    unevaluated: _Unevaluated = False,  # noqa: FBT002
    sha256: Annotated[
        str, typer.Option("--sha256", help="Required SHA-256 of what is fetched.")
    ] = "",
    from_platform: Annotated[  # noqa: FBT002
        bool,
        typer.Option("--from-platform", help="Read s3:// from the platform's own object store."),
    ] = False,
) -> None:
    """Fetch a model that was trained elsewhere, and publish it."""
    from mlops_pipeline.cli.importing import import_uri

    context = load_context()
    registered = context.model(model)
    published = import_uri(
        context,
        registered,
        uri,
        holdout=holdout,
        is_unevaluated=unevaluated,
        sha256=sha256,
        from_platform=from_platform,
        console=console,
    )
    _show_published(published, registered)


def _show_published(published: "Published", registered: "RegisteredModel") -> None:
    from mlops_pipeline.cli.publishing import describe

    for line in describe(published, registered):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    if published.unmet:
        raise typer.Exit(NOT_AS_IT_SHOULD_BE)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the model; the file is NAME.py.")],
    task: Annotated[
        str, typer.Option("--task", help="classification, regression or custom.")
    ] = "classification",
    framework: Annotated[
        str, typer.Option("--framework", help="Name of a framework, such as sklearn.")
    ] = "sklearn",
    trained_elsewhere: Annotated[  # noqa: FBT002
        bool,
        typer.Option(
            "--trained-elsewhere", help="A model that is only published: without a training."
        ),
    ] = False,
) -> None:
    """Write a model file to start from into the working directory."""
    from mlops_pipeline.catalog.starting import write_start

    path = write_start(
        name,
        task=task,
        framework=framework,
        folder=Path.cwd(),
        is_trained_elsewhere=trained_elsewhere,
    )
    console.print(
        f'wrote {path.name}; add it to `models` in mlops.toml (models = ["{path.name}"]), and run '
        f"`mlops-pipeline up {name}`",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


@app.command()
def unpin(model: _Model) -> None:
    """Unpin a model. Its artifact serves until a run deploys that of the current inputs."""
    from mlops_pipeline.cli import rollback as rolling
    from mlops_pipeline.resources.turn import turn

    context = load_context()
    registered = context.model(model)
    with turn(
        context.settings,
        purpose=f"unpin {registered.name}",
        on_wait=_say_waiting,
        during_training=True,
    ):
        pinned = rolling.unpin(context, registered)
    if pinned is None:
        console.print(f"{registered.name} is not pinned")
        return
    console.print(
        f"{registered.name} is no longer pinned. {pinned.digest[:12]} serves until "
        f"`mlops-pipeline up {registered.name}` or a schedule deploys the artifact of the current "
        "inputs",
        soft_wrap=True,
    )


@app.command()
def apply(
    file: Annotated[
        Path, typer.Argument(help="SeldonDeployment manifests, YAML or JSON; -: standard input.")
    ],
    accept_refused: _AcceptRefused = False,  # noqa: FBT002
) -> None:
    """Deploy your own SeldonDeployment manifests, in the order of the file."""
    from functools import partial

    from mlops_pipeline.cli.elsewhere import find_elsewhere
    from mlops_pipeline.delivery.applying import (
        Judging,
        apply_manifest,
        check_manifest,
        unproved,
    )
    from mlops_pipeline.platforms.seldon import parse_manifests
    from mlops_pipeline.resources.turn import turn

    manifests = parse_manifests(_read_text(file))
    context = load_context()
    judging = Judging(
        [m.spec for m in context.models],
        accept_refused,
        typed("apply"),
        find_elsewhere=partial(find_elsewhere, context),
        most_bytes=context.settings.max_artifact_bytes,
    )
    with turn(context.settings, purpose=f"apply {file}", on_wait=_say_waiting):
        checked = [
            check_manifest(manifest, platform=context.platform, judging=judging)
            for manifest in manifests.deployments
        ]
        _say(*(f"warning: {sentence}" for found in checked for sentence in found.warnings))
        for manifest, found in zip(manifests.deployments, checked, strict=True):
            change = apply_manifest(
                manifest, platform=context.platform, judging=judging, checked=found
            )
            path = f"{manifest.namespace}/{manifest.name}"
            url = f"{context.platform.gateway_url()}/seldon/{path}"
            console.print(f"{path} {change.action}: {url}", soft_wrap=True)
            for uri in unproved(manifest):
                console.print(
                    f"warning: {uri} is not proved: it has no manifest, so no check was evaluated "
                    "and the answers have no digest. To prove it, run `mlops-pipeline import "
                    f"{uri} --model NAME`",
                    soft_wrap=True,
                )
            if model := context.find_deployed_by(manifest):
                console.print(
                    f"warning: {path} is the deployment of the model {model.name}. The next run of "
                    "that model replaces this manifest",
                    soft_wrap=True,
                )
    for other in manifests.others:
        console.print(f"{other} was not applied: it is not a SeldonDeployment", soft_wrap=True)


def _read_text(file: Path) -> str:
    from mlops_pipeline.clients.errors import ConfigurationError

    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"could not read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        found = "UTF-16" if is_wide else f"byte {error.start} in another encoding"
        raise ConfigurationError(
            f"could not read {file}: expected text in UTF-8, got {found}; save it as UTF-8 and "
            "apply it again"
        ) from error


@app.command()
def delete(
    name: Annotated[str, typer.Argument(help="Name of a deployment.")],
    namespace: Annotated[
        str | None, typer.Option(help="Namespace of the deployment; default: that of the models.")
    ] = None,
) -> None:
    """Stop routing to a deployment, drain it and stop its servers. Keeps its artifacts."""
    from mlops_pipeline.cli.instance import turn_to_end
    from mlops_pipeline.clients.errors import UnknownNameError
    from mlops_pipeline.delivery.applying import delete_deployment
    from mlops_pipeline.platforms.seldon import is_name

    context = load_context()
    namespace = namespace or context.settings.models_namespace
    if not (is_name(name) and is_name(namespace)):
        raise UnknownNameError(f"{namespace}/{name} is not a valid name of a deployment")
    purpose = f"delete {namespace}/{name}"
    with turn_to_end(context.settings, purpose=purpose, on_wait=_say_waiting):
        delete_deployment(name, namespace=namespace, platform=context.platform, by=typed("delete"))
    console.print(f"deleted {namespace}/{name}")


@app.command()
def prune(
    keep: Annotated[
        int,
        typer.Option(min=0, help="Number of good artifacts to keep per model, newest first."),
    ] = 3,
    yes: _Yes = False,  # noqa: FBT002
) -> None:
    """Delete artifacts that no deployment uses, and rows of answers that are too old.

    Asks for confirmation before.
    """
    from mlops_pipeline.cli.answers import old_files
    from mlops_pipeline.delivery.artifacts import StoredArtifact
    from mlops_pipeline.delivery.desired import pinned_digests
    from mlops_pipeline.delivery.pruning import unreferenced
    from mlops_pipeline.delivery.verdicts import VerdictLog
    from mlops_pipeline.platforms.store_access import ANSWERS
    from mlops_pipeline.resources.turn import turn

    context = load_context()
    deployments, artifacts = context.platform.deployments, context.artifacts
    store = context.platform.object_store()
    log = VerdictLog(store)

    def find() -> list[StoredArtifact]:
        models, pinned = artifacts.models(), pinned_digests(store)
        return unreferenced(
            artifacts, deployments, log=log, models=models, keep=keep, pinned=pinned
        )

    for artifact in (found := find()):
        state = artifact.created if artifact.complete else "incomplete"
        console.print(f"{artifact.ref.uri}  {state}  {artifact.size} bytes", soft_wrap=True)
    if rows := old_files(context):
        console.print(f"{len(rows)} files of answers, from {rows[0]}", soft_wrap=True)
    if not found and not rows:
        console.print("nothing to remove")
        return
    if not yes:
        also = f" and {len(rows)} files of answers" if rows else ""
        typer.confirm(f"Delete these {len(found)} artifacts{also}?", abort=True)
    listed = {artifact.ref for artifact in found}
    # An `up` meanwhile may have completed or deployed one of them.
    with turn(context.settings, purpose="remove artifacts", on_wait=_say_waiting):
        removed = [artifact.ref for artifact in find() if artifact.ref in listed]
        for ref in removed:
            artifacts.delete(ref)
        for key in rows:
            store.delete(ANSWERS, key)
    console.print(f"removed {len(removed)} artifacts")
    if rows:
        console.print(f"removed {len(rows)} files of answers")


@app.command()
def provenance(
    model: _Model,
    digest: Annotated[
        str, typer.Argument(help="Digest of the artifact, or its beginning; default: the newest.")
    ] = "",
    as_json: _AsJson = False,  # noqa: FBT002
) -> None:
    """Show where an artifact comes from, who signed it, its checks, and where it served."""
    from mlops_pipeline.cli.provenance import describe, find

    found = find(load_context(), model, digest)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _say(*describe(found))


@app.command()
def sign(
    target: Annotated[
        str,
        typer.Argument(help="MODEL, MODEL/DIGEST, a URI of a folder, or ./FOLDER."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="File for the signature of a model in a store that this command cannot write.",
        ),
    ] = None,
) -> None:
    """Sign artifacts, or another model's files, with the key of this state folder."""
    from mlops_pipeline.cli.signing import sign as sign_target

    _say(*sign_target(load_context(), target, output=output, on_wait=_say_waiting))


@keys_app.command("list")
def keys_list(as_json: _AsJson = False) -> None:  # noqa: FBT002
    """List the key that signs, the trusted keys and the revoked ones."""
    from mlops_pipeline.cli.signing import list_keys

    rows = list_keys(load_context())
    if as_json:
        names = ("fingerprint", "state", "source")
        typer.echo(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
        return
    _say(*(f"{state:8} {known}  {source}" for known, state, source in rows))
    if not rows:
        _say("there are no keys yet; the first one is created when an artifact is published")


@keys_app.command("trust")
def keys_trust(file: Annotated[Path, typer.Argument(help="File with a public key, PEM.")]) -> None:
    """Trust a public key from now on."""
    from mlops_pipeline.cli.signing import trust

    _say(*trust(load_context(), file))


@keys_app.command("revoke")
def keys_revoke(
    fingerprint: Annotated[str, typer.Argument(help="Fingerprint of the key, or its beginning.")],
) -> None:
    """Refuse what a key signed from now on."""
    from mlops_pipeline.cli.signing import revoke

    _say(*revoke(load_context(), fingerprint))


@keys_app.command("rotate")
def keys_rotate() -> None:
    """Make another key that signs; the previous one stays trusted."""
    from mlops_pipeline.cli.signing import rotate

    _say(*rotate(load_context()))


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="Name of a layer or a deployment.")],
    lines: Annotated[int, typer.Option(min=1, max=100_000, help="Number of lines.")] = 100,
) -> None:
    """Show the last lines of the log of a layer or a deployment."""
    context = load_context()
    for model in context.models:
        if name == model.name:
            context.require_deployed(model)
            name = model.spec.server.deployment
    typer.echo(context.platform.logs(name, lines=lines))


@app.command()
def doctor() -> None:
    """Check ports, versions, disk and memory of this machine, and print what to do."""
    from mlops_pipeline.cli.doctor import examine

    findings = examine(load_context())
    table = Table("", "check", "found", "do", box=None, pad_edge=False, header_style="bold")
    for finding in findings:
        mark = "[green]✓[/green]" if finding.fine else "[red]✗[/red]"
        table.add_row(mark, finding.what, escape(finding.seen), escape(finding.remedy))
    console.print(table)
    if not all(finding.fine for finding in findings):
        raise typer.Exit(NOT_AS_IT_SHOULD_BE)


@bundle_app.command("create")
def bundle_create(
    directory: _Directory,
    machine: Annotated[
        str, typer.Option(help="Target system and architecture; default: this machine.")
    ] = "",
) -> None:
    """Collect all programs, charts, manifests and images that a platform on Kubernetes needs."""
    from mlops_pipeline.cli.bundle import create

    made = create(load_context(), directory, machine=machine, console=Console(stderr=True))
    size = sum(file.size or 0 for file in made.files)
    console.print(
        f"{directory} contains {len(made.files)} files, {size / 1e9:.2f} GB, for {made.platform}; "
        "run `mlops-pipeline bundle verify` on the target machine",
        soft_wrap=True,
        highlight=False,
    )


@bundle_app.command("verify")
def bundle_verify(directory: _Directory) -> None:
    """Verify the digest of every file in a bundle. Uses no network."""
    from mlops_pipeline.cli.bundle import describe_what_is_built, verify

    context = load_context()
    faults = verify(context, directory)
    for fault in faults:
        words = f"{fault.kind} {fault.what}" + (f": {fault.seen}" if fault.seen else "")
        console.print(words, soft_wrap=True, markup=False, highlight=False)
    if built := describe_what_is_built(context, directory):
        console.print(built, soft_wrap=True, markup=False, highlight=False)
    if faults:
        raise typer.Exit(NOT_AS_IT_SHOULD_BE)
    console.print(f"{directory} is complete and unchanged", soft_wrap=True, highlight=False)


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="First port to try.")] = 3000,
) -> None:
    """Serve the Dagster UI, which shows the runs of `up`, until interrupted."""
    from mlops_pipeline.cli.ui import serve

    try:
        serve(load_context(), host=host, port=port, console=console)
    except KeyboardInterrupt:
        console.print("the Dagster UI has stopped")
