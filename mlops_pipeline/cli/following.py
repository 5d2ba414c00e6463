"""`up` after its run: the releases of its models, until each has ended or needs a person."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import typer
from rich.console import Console

from mlops_pipeline.catalog.registry import RegisteredModel
from mlops_pipeline.cli import INTERRUPTED
from mlops_pipeline.cli.context import Context
from mlops_pipeline.cli.instance import instance_for_run
from mlops_pipeline.cli.progress import Updating
from mlops_pipeline.cli.release_endings import Ending, ended, goes_on
from mlops_pipeline.cli.releasing import order_to_advance, releases_of
from mlops_pipeline.cli.runs import execute, show_outcome
from mlops_pipeline.clients.errors import PipelineError, UnavailableError
from mlops_pipeline.clients.waiting import MONOTONIC, Clock, wait_until
from mlops_pipeline.delivery.releases.driver import Progress
from mlops_pipeline.delivery.releases.machine import Ask, Wait
from mlops_pipeline.delivery.releases.telling import how_to_continue, tell
from mlops_pipeline.resources.turn import turn

_INTERVAL = 1.0
"""Seconds between two looks."""
_PATIENCE = 60.0
"""Seconds of looks that fail after which nothing is expected any more."""
_REPEATED = 60.0
"""Seconds between two lines about the same, where there is no terminal."""
_COUNTED = 5.0
"""Seconds between two writes of the counts: servers count from zero when they start again."""
_MOST_RUNS = 3
"""Runs that may leave a release as it is before that is an error."""


def find_releases(
    context: Context, models: Sequence[RegisteredModel]
) -> dict[str, tuple[str, str]]:
    """Return model → id and candidate of its release, of those in which one is in progress.

    A deployment that cannot be read has none: the run says why.
    """
    found = {}
    for model in models:
        try:
            release = releases_of(context, model, "up").find()
        except PipelineError:
            continue
        if release is not None:
            found[model.name] = (release.id, release.candidate)
    return found


@dataclass
class _Followed:
    """One model whose release is followed."""

    model: RegisteredModel
    id: str
    candidate: str
    progress: Progress | None = None
    ending: Ending | None = None
    idle_runs: int = 0
    """Runs since the state of the release changed."""
    counted: float = -math.inf
    """When the counts were written last."""
    failing_since: float | None = None
    failure: str = ""

    def describe(self) -> str:
        name = self.model.name
        told = tell(self.progress, name) if self.progress else "a release is in progress"
        return f"{name}: {self.failure or told}"

    def how_to_continue(self) -> str:
        release = self.progress.release if self.progress else None
        return how_to_continue(self.model.name, release)

    def news(self) -> object:
        """Return what a line without a terminal is about."""
        release = self.progress.release if self.progress else None
        action = type(self.progress.action) if self.progress else None
        return (release and release.revision, action, bool(self.failure))


@dataclass
class _Lines:
    """What is said while releases are followed. Without a terminal, nothing is said twice."""

    console: Console
    clock: Clock
    _updating: Updating = field(init=False)
    _news: object = None
    _last: str = ""
    _since: float = -math.inf
    """When `_last` was printed."""
    _number: int = 0

    def __post_init__(self) -> None:
        self._updating = Updating(self.console)

    def show(self, text: str, *, news: object) -> None:
        """Show the text until the next one. Without a terminal, print it if there is news."""
        is_due = self.clock.now() - self._since >= _REPEATED
        if is_due or (news != self._news and text != self._last):
            self._note(text)
            self._number += 1
        self._news = news
        self._updating.show(text, news=self._number or None)

    def print(self, text: str) -> None:
        """Print the text, to stay."""
        self.stop()
        if self.console.is_terminal or text != self._last:
            self._note(text)
            self.console.print(text, soft_wrap=True, markup=False, highlight=False)

    def stop(self) -> None:
        """Remove the text that is shown from a terminal."""
        self._updating.stop()

    def _note(self, text: str) -> None:
        self._last, self._since = text, self.clock.now()


@dataclass
class Following:
    """Advances the releases of some models, each change in a Dagster run."""

    context: Context
    command: str
    """As it was typed, without the program's name."""
    console: Console
    clock: Clock = MONOTONIC
    _followed: list[_Followed] = field(default_factory=list)
    _lines: _Lines = field(init=False)

    def __post_init__(self) -> None:
        self._lines = _Lines(self.console, self.clock)

    def follow(
        self,
        models: Sequence[RegisteredModel],
        *,
        before: Mapping[str, tuple[str, str]],
        is_waiting: bool,
    ) -> list[Ending]:
        """Return how each release ended or what it waits for, once no release can go on alone.

        `before` are the releases before the run of `up`, which may have ended in it. Without
        `is_waiting`, only says how they are.

        Raises:
            typer.Exit: a run failed, or somebody interrupted it: the releases stay as they are.
            UnavailableError: the platform or the object store did not answer for a minute.
        """
        there = {**before, **find_releases(self.context, models)}
        self._followed = [_Followed(m, *there[m.name]) for m in models if m.name in there]
        if not self._followed:
            return []
        try:
            if is_waiting:
                wait_until(
                    "the releases",
                    self._describe_waiting,
                    timeout=math.inf,
                    interval=_INTERVAL,
                    clock=self.clock,
                )
            else:
                for followed in self._followed:
                    self._look(followed)
        except KeyboardInterrupt:
            self._say_interrupted()
            raise typer.Exit(INTERRUPTED) from None
        finally:
            self._lines.stop()
        return [one.ending or _goes_on(one) for one in self._followed]

    def _describe_waiting(self) -> str | None:
        """Look at each release, run what follows, and return what is waited for."""
        waiting = [followed for followed in self._followed if followed.ending is None]
        for followed in waiting:
            self._look(followed)
            if followed.ending is None and _has_something_to_do(followed):
                self._run(followed)
            elif followed.ending is None and self.clock.now() - followed.counted >= _COUNTED:
                self._count(followed)
        told = [followed for followed in waiting if followed.ending is None]
        if not told:
            return None
        text = "\n".join(one.describe() for one in told)
        self._lines.show(text, news=[one.news() for one in told])
        return text

    def _look(self, followed: _Followed) -> None:
        try:
            progress = releases_of(self.context, followed.model, "up").look()
        except UnavailableError as error:
            self._bear(followed, error)
            return
        followed.failure, followed.failing_since = "", None
        if _revision(progress) != _revision(followed.progress):
            followed.idle_runs = 0
        followed.progress = progress
        followed.ending = _ending(self.context, followed)

    def _bear(self, followed: _Followed, error: UnavailableError) -> None:
        now = self.clock.now()
        since = followed.failing_since = followed.failing_since or now
        if now - since >= _PATIENCE:
            raise UnavailableError(
                f"could not look at the release of {followed.model.name} for {_PATIENCE:g} s: "
                f"{error}. The release stays as it is; {followed.how_to_continue()}"
            ) from error
        followed.failure = str(error)

    def _count(self, followed: _Followed) -> None:
        """Write what was counted: the limit of slowness and the plots rest on it."""
        followed.counted = self.clock.now()
        with turn(  # A replay in another process writes the same evidence.
            self.context.settings,
            purpose=f"count the answers in the release of {followed.model.name}",
            on_wait=lambda _: None,
            during_training=True,
        ):
            try:
                releases_of(self.context, followed.model, "up").watch()
            except UnavailableError as error:
                self._bear(followed, error)

    def _run(self, followed: _Followed) -> None:
        """Let a Dagster run take the next step of a release, in the turn of the state folder."""
        model, platform = followed.model, self.context.platform.name
        if followed.idle_runs == _MOST_RUNS:
            raise UnavailableError(
                f"could not advance the release of {model.name}: {_MOST_RUNS} runs left it as it "
                f"is ({followed.describe()}). See these runs in `mlops-pipeline ui`; "
                f"{followed.how_to_continue()}"
            )
        followed.idle_runs += 1
        opened = instance_for_run(
            self.context.settings,
            purpose=f"advance the release of {model.name}",
            on_wait=lambda who: self._lines.print(f"waiting for {who}"),
            during_training=True,
        )
        with opened as instance:
            self._look(followed)  # Another command may have had the turn before.
            if followed.ending is not None:
                return
            self._lines.print(followed.describe())
            outcome = execute(
                self.context,
                order_to_advance(platform, model.name, command=self.command),
                instance=instance,
                console=self.console,
            )
        show_outcome(
            outcome,
            self.console,
            next_step=f"the release stays as it is; {followed.how_to_continue()}",
        )
        self._look(followed)

    def _say_interrupted(self) -> None:
        for followed in self._followed:
            if followed.ending is None:
                self._lines.print(
                    f"interrupted; the release stays as it is. {followed.describe()}. To "
                    f"continue, {followed.how_to_continue()}"
                )


def _has_something_to_do(followed: _Followed) -> bool:
    """Return whether something follows from the evidence, and is not only waited for."""
    progress = followed.progress
    if followed.failure or progress is None or progress.release is None:
        return False
    return progress.action is not None and not isinstance(progress.action, Wait)


def _revision(progress: Progress | None) -> int:
    return progress.release.revision if progress and progress.release else 0


def _ending(context: Context, followed: _Followed) -> Ending | None:
    """Return how a release ended or why it needs a person; None while it goes on alone."""
    progress, name = followed.progress, followed.model.name
    if progress is None:
        return None
    release = progress.release
    if release is None or release.id != followed.id:
        return ended(context, followed.model, id=followed.id, candidate=followed.candidate)
    is_idle = not _has_something_to_do(followed)
    if release.phase == "kept" and is_idle:
        return Ending(name, 0, followed.describe())
    asks = release.phase == "asking" and (is_idle or isinstance(progress.action, Ask))
    is_changed = isinstance(progress.action, Wait) and progress.action.needs_person
    if asks or is_changed or (release.is_paused and is_idle):
        return _goes_on(followed)
    return None


def _goes_on(followed: _Followed) -> Ending:
    release = followed.progress.release if followed.progress else None
    return goes_on(followed.model.name, followed.describe(), release)
