"""`release status` and `release history`: a release as people and as programs read it."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.release_documents import (
    HistoryDocument,
    MetricStatus,
    NextStatus,
    RecordStatus,
    ReleasesDocument,
    ReleaseStatus,
    TallyStatus,
    VersionStatus,
    WeighedStatus,
    metrics_of,
    record_status,
)
from mlops_pipeline.cli.releasing import releases_of
from mlops_pipeline.clients.errors import IntegrityError, NotFoundError, PipelineError
from mlops_pipeline.delivery.releases.driver import Progress
from mlops_pipeline.delivery.releases.evidence import is_of_both
from mlops_pipeline.delivery.releases.machine import (
    Action,
    Ask,
    Expose,
    Finish,
    Promote,
    Replay,
    RollBack,
    Wait,
)
from mlops_pipeline.delivery.releases.records import history
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.delivery.releases.telling import is_kept, lacks_evidence, tell

_ACTIONS: dict[type[Action], tuple[str, str]] = {
    Wait: ("wait", "nothing, until the evidence is complete"),
    Expose: ("expose", "the candidate gets the share of the next step"),
    Replay: ("replay", "hold-out rows are sent to both versions"),
    Ask: ("ask", "nothing: a person must decide"),
    Promote: ("promote", "the candidate gets all traffic"),
    RollBack: ("roll_back", "the stable version gets all traffic back"),
    Finish: ("finish", "the former version is removed"),
}
_MOST_REASON = 60
"""Characters of a reason in the list of releases."""


def observe(context: Context, models: Sequence[RegisteredModel]) -> ReleasesDocument:
    """Look at the release of each model. Changes nothing."""
    return ReleasesDocument(
        platform=context.platform.name,
        releases=[_observe(context, model) for model in models],
    )


def _observe(context: Context, model: RegisteredModel) -> ReleaseStatus:
    releases = releases_of(context, model, "release status")
    try:
        found = releases.find()
    except PipelineError as error:
        state = "damaged" if isinstance(error, IntegrityError) else "unknown"
        return _status(model, Progress(None), state=state, problem=str(error))
    if found is None:
        last, problem = _last(context, model)
        return _status(model, Progress(None), state="none", problem=problem, last=last)
    problem = ""
    try:
        progress = releases.look()
    except PipelineError as error:
        progress, problem = Progress(found), f"the evidence is unknown: {error}"
    state = "paused" if found.is_paused else found.phase
    return _status(model, progress, state=state, problem=problem)


def _last(context: Context, model: RegisteredModel) -> tuple[RecordStatus | None, str]:
    """Return how the last release ended, or why that is unknown."""
    try:
        found = history(model.spec, context.platform, most=1)
    except NotFoundError:  # Without an object store there was no release.
        return None, ""
    except PipelineError as error:
        return None, f"the last release is unknown: {error}"
    return (record_status(found[0]) if found else None), ""


def _status(
    model: RegisteredModel,
    progress: Progress,
    *,
    state: str,
    problem: str = "",
    last: RecordStatus | None = None,
) -> ReleaseStatus:
    release, evidence = progress.release, progress.evidence
    metrics = metrics_of(release, evidence) if release and evidence else []
    steps = release.plan.effective_steps() if release else ()
    wanted = steps[release.step].answers if release and release.ended is None else 0
    answers = next((m.step.candidate_answers for m in metrics if m.name == "errors"), 0)
    return ReleaseStatus(
        model=model.name,
        namespace=model.spec.server.namespace,
        deployment=model.spec.server.deployment,
        state=state,
        problem=problem,
        id=release.id if release else "",
        strategy=release.plan.strategy if release else "",
        requested_by=release.by if release else "",
        since=release.since if release else "",
        step=release.step + 1 if release else 0,
        steps=len(steps),
        step_since=release.step_since if release else "",
        versions=list(_versions(release)) if release else [],
        answers=answers,
        answers_wanted=wanted,
        answers_missing=max(0, wanted - answers) if evidence else wanted,
        metrics=metrics,
        next=_next(model.name, progress, state),
        last=last,
    )


def _versions(release: Release) -> Iterator[VersionStatus]:
    if release.ended is not None and release.ended.outcome == "promoted":
        yield VersionStatus(role="promoted", digest=release.candidate, traffic=100, copies=0)
        if release.phase == "kept":
            yield VersionStatus(role="former", digest=release.stable, traffic=0, copies=0)
        return
    share = 0 if release.is_shadow else release.share
    yield VersionStatus(role="stable", digest=release.stable, traffic=100 - share, copies=0)
    if release.ended is None:
        yield VersionStatus(
            role="candidate",
            digest=release.candidate,
            traffic=share,
            copies=release.share if release.is_shadow else 0,
        )


def _next(model: str, progress: Progress, state: str) -> NextStatus:
    action, release = progress.action, progress.release
    commands = {
        "observing": ("up", "release promote", "release pause", "release abort"),
        "paused": ("release resume", "release promote", "release abort"),
        "asking": ("up", "release promote", "release abort"),
        "kept": ("up", "release abort"),
        "ended": ("up",),
        "damaged": ("release abort",),
    }.get(state, ())
    if release is not None and lacks_evidence(release) and state == "asking":
        commands = ("release resume", "release promote", "release abort")
    return NextStatus(
        action=_ACTIONS[type(action)][0] if action is not None else "",
        sentence=_describe_next(model, progress),
        commands=[f"mlops-pipeline {command} {model}" for command in commands],
    )


def _describe_next(model: str, progress: Progress) -> str:
    release, action = progress.release, progress.action
    if release is None or action is None:
        return ""
    if release.phase == "ended":
        return "the record of the release is written"
    if is_kept(release, action):
        return tell(progress, model)
    sentence = _ACTIONS[type(action)][1]
    if isinstance(action, Wait):
        is_counting = not (action.needs_person or release.is_paused)
        return f"{sentence if is_counting else 'nothing'}: {action.missing}"
    asks = release.phase == "asking" and isinstance(action, Ask)
    return f"{sentence}: {release.reason if asks else action.reason}"


def history_of(context: Context, model: RegisteredModel) -> HistoryDocument:
    """Return how the releases of a model ended, the newest first.

    Raises:
        PipelineError: the object store does not answer, or does not exist yet.
    """
    found = history(model.spec, context.platform)
    return HistoryDocument(
        platform=context.platform.name,
        model=model.name,
        records=[record_status(record) for record in found],
    )


def show(seen: ReleasesDocument, console: Console) -> None:
    """Print a screen for each release; of models without one, how the last one ended."""
    for number, status in enumerate(seen.releases):
        if number:
            console.print()
        if status.id:
            _show_release(status, console)
        else:
            _print(console, _describe_none(status))


def _describe_none(status: ReleaseStatus) -> str:
    if status.problem:
        return f"{status.model}: {status.problem}"
    told = f"{status.model}: no release is in progress"
    if (last := status.last) is None:
        return f"{told}, and there was none before"
    return f"{told}. {_describe_record(last)}"


def _describe_record(record: RecordStatus) -> str:
    doubt = f" (this record is not proved: {record.doubt})" if record.doubt else ""
    return (
        f"The {record.strategy} release of {record.candidate[:12]} beside {record.stable[:12]} was "
        f"{record.outcome.replace('_', ' ')} at {record.time} by {record.decided_by}: "
        f"{record.reason}{doubt}"
    )


def _show_release(status: ReleaseStatus, console: Console) -> None:
    _print(
        console,
        f"{status.model}: {status.strategy} release {status.id}, {_describe_state(status)}",
        f"requested by {status.requested_by} at {status.since}",
        "",
    )
    console.print(_versions_table(status.versions))
    if status.metrics:
        console.print()
        console.print(_metrics_table(status.metrics))
    _print(console, "")
    if status.problem:
        _print(console, f"problem: {status.problem}")
    if status.answers_wanted:
        _print(
            console,
            f"answers of the candidate in this step: {status.answers} of {status.answers_wanted}; "
            f"{status.answers_missing} are missing",
        )
    if status.next.sentence:
        _print(console, f"next: {status.next.sentence}")
    if status.next.commands:
        _print(console, f"commands: {', '.join(f'`{c}`' for c in status.next.commands)}")


def _describe_state(status: ReleaseStatus) -> str:
    step = f"step {status.step} of {status.steps} since {status.step_since}"
    return {
        "observing": step,
        "paused": f"{step}, paused",
        "asking": f"{step}, waits for a person",
        "kept": f"promoted at {status.step_since}; the former version stays ready",
        "ended": "ended; its record is not written yet",
    }[status.state]


def _versions_table(versions: Sequence[VersionStatus]) -> Table:
    table = Table("version", "digest", "share", box=None, pad_edge=False, header_style="bold")
    for version in versions:
        copies = f", copies of {version.copies} %" if version.copies else ""
        table.add_row(version.role, version.digest[:12], f"{version.traffic} %{copies}")
    return table


def _metrics_table(metrics: Sequence[MetricStatus]) -> Table:
    """Return a row for each metric, and one for its replayed rows."""
    table = Table(
        "metric",
        "candidate",
        "stable",
        "e-value",
        "rolled back at",
        "upper bound",
        "limit",
        "missing",
        box=None,
        pad_edge=False,
        header_style="bold",
    )
    for metric in metrics:
        missing = str(metric.missing) if metric.live else ""
        table.add_row(*_metric_row(metric.name, metric.all_steps, metric.live), missing)
        if metric.replayed_rows.candidate_answers:
            name = f"{metric.name}, replayed rows"
            table.add_row(*_metric_row(name, metric.replayed_rows, metric.replayed), "")
    return table


def _metric_row(name: str, tally: TallyStatus, weighed: WeighedStatus | None) -> Iterator[str]:
    yield name
    yield f"{tally.candidate_events} of {tally.candidate_answers}"
    counted = f"{tally.stable_events} of {tally.stable_answers}"
    yield counted if tally.stable_answers and is_of_both(name.partition(",")[0]) else ""
    if weighed is None:
        yield from ("", "", "", "only shown")
        return
    yield f"{weighed.e_value:.3g}"
    yield f"{weighed.e_threshold:g}"
    yield f"{100 * weighed.upper_bound:.3g} %"
    yield f"{100 * weighed.limit:.3g} %"


def show_history(seen: HistoryDocument, console: Console) -> None:
    """Print a row for each record, and a sentence for each whose signature does not count."""
    if not seen.records:
        _print(console, f"no release of {seen.model} has ended on {seen.platform}")
        return
    names = ("outcome", "digest", "ended", "by", "reason", "release")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=name not in ("by", "reason"))
    for record in seen.records:
        table.add_row(
            record.outcome.replace("_", " "),
            record.candidate[:12],
            record.time,
            escape(record.decided_by.partition(",")[0]),
            escape(_shorten(record.reason)),
            record.id,
        )
    console.print(table)
    for record in seen.records:
        if record.doubt:
            _print(console, f"the record of {record.id} is not proved: {record.doubt}")


def _shorten(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= _MOST_REASON else f"{line[: _MOST_REASON - 1].rstrip()}…"


def _print(console: Console, *sentences: str) -> None:
    for sentence in sentences:
        console.print(sentence, soft_wrap=True, markup=False, highlight=False)
