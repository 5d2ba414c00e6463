"""Plots of a release in progress, as PNG of about 10 kB: traffic, evidence, answers, latency.

matplotlib costs about half a second to import, so only a function that draws imports it.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from mlops_pipeline.catalog.plotting import new_figure
from mlops_pipeline.delivery.releases.evidence import METRICS, Evidence, Look
from mlops_pipeline.delivery.releases.state import Release

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CANDIDATE, _STABLE = "tab:orange", "tab:blue"
_SIZE = (6.4, 2.6)
"""Inches."""
_UNITS = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0))
"""Unit of the time → its seconds; the largest of which the time has two."""


@dataclass(frozen=True)
class Latency:
    """How many answers of a version took longer than each limit of its servers' histogram."""

    answers: int
    slower: Mapping[float, int] = field(default_factory=dict)
    """Limit in seconds → answers that took longer."""

    def shares(self) -> list[tuple[float, float]]:
        """Return (seconds, percent of the answers that took longer), by rising seconds."""
        return [
            (limit, 100 * min(count / self.answers, 1.0))
            for limit, count in sorted(self.slower.items())
            if self.answers
        ]


def draw_traffic(release: Release, evidence: Evidence, *, now: datetime) -> bytes:
    """Return a plot of the candidate's share of the requests over time."""
    shares = [(step.since, step.share) for step in evidence.steps]
    points = [(release.since, 0), *shares, (now.isoformat(), release.share)]
    unit, seconds = _unit(release, now)
    figure = new_figure(*_SIZE)
    axes = figure.subplots()
    times = [_after(release, time) / seconds for time, _ in points]
    axes.step(times, [share for _, share in points], where="post", color=_CANDIDATE)
    axes.set(
        xlabel=f"{unit} since the release began",
        ylabel="copied requests, %" if release.is_shadow else "share of the candidate, %",
        ylim=(-3, 103),
    )
    return _png(figure)


def draw_e_values(evidence: Evidence, *, threshold: float | None) -> bytes | None:
    """Return a plot of the e-values over the candidate's answers; None without a look.

    `threshold` is the e-value at which the release is rolled back.
    """
    if not evidence.looks:
        return None
    figure = new_figure(*_SIZE)
    axes = figure.subplots()
    for metric in METRICS:
        if found := [look for look in evidence.looks if metric in look.e_values]:
            values = [max(look.e_values[metric], 1e-3) for look in found]
            axes.plot([look.answers for look in found], values, marker=".", label=metric)
    if threshold is not None:
        axes.axhline(threshold, color="tab:red", linestyle="--", label="rolled back")
    axes.set(xlabel="answers of the candidate", ylabel="evidence against it", yscale="log")
    axes.set_ylim(bottom=_least(evidence.looks) / 2)
    axes.yaxis.set_major_formatter("{x:g}")
    _explain(axes)
    return _png(figure)


def draw_answers(evidence: Evidence) -> bytes | None:
    """Return a plot of the answers and errors of both versions in each step; None without one."""
    if not evidence.steps:
        return None
    figure = new_figure(*_SIZE)
    counted, failed = figure.subplots(1, 2)
    tallies = [step.live.get("errors") for step in evidence.steps]
    places = range(len(tallies))
    for offset, role, color in ((-0.2, "stable", _STABLE), (0.2, "candidate", _CANDIDATE)):
        at = [place + offset for place in places]
        answers = [getattr(tally, f"{role}_answers", 0) for tally in tallies]
        events = [getattr(tally, f"{role}_events", 0) for tally in tallies]
        rates = [100 * e / n if n else 0.0 for e, n in zip(events, answers, strict=True)]
        counted.bar(at, answers, 0.4, color=color, label=role)
        failed.bar(at, rates, 0.4, color=color)
    names = [f"{step.share} %" for step in evidence.steps]
    for axes, label in ((counted, "answers"), (failed, "failed answers, %")):
        axes.set_xticks(list(places), names)
        axes.set(xlabel="step, by the candidate's share", ylabel=label)
    failed.set_ylim(0, max(1.0, failed.get_ylim()[1]))
    _explain(counted)
    return _png(figure)


def draw_latency(
    stable: Latency, candidate: Latency, *, slow_over: float | None = None
) -> bytes | None:
    """Return a plot of the answers that took longer than each limit; None if nobody answered.

    `slow_over` is the limit, in seconds, over which an answer counts as slow.
    """
    shares = (("stable", stable, _STABLE), ("candidate", candidate, _CANDIDATE))
    if not any(latency.shares() for _, latency, _ in shares):
        return None
    figure = new_figure(*_SIZE)
    axes = figure.subplots()
    for role, latency, color in shares:
        if points := [(limit, share) for limit, share in latency.shares() if limit > 0]:
            limits, percents = zip(*points, strict=True)
            axes.plot(
                [1000 * limit for limit in limits],
                percents,
                color=color,
                marker=".",
                label=f"{role}, {latency.answers} answers",
            )
    if slow_over is not None:
        axes.axvline(1000 * slow_over, color="tab:red", linestyle="--", label="slow")
    axes.set(xscale="log", xlabel="milliseconds", ylabel="answers that took longer, %")
    axes.set_ylim(-3, 103)
    axes.xaxis.set_major_formatter("{x:g}")
    _explain(axes)
    return _png(figure)


def _unit(release: Release, now: datetime) -> tuple[str, float]:
    total = _after(release, now.isoformat())
    return next((unit for unit in _UNITS if total >= 2 * unit[1]), ("seconds", 1.0))


def _after(release: Release, time: str) -> float:
    """Return the seconds from the start of the release to a time; 0 if that is before it."""
    start = datetime.fromisoformat(release.since)
    return max(0.0, (datetime.fromisoformat(time) - start).total_seconds())


def _least(looks: Sequence[Look]) -> float:
    return min([1.0, *(max(v, 1e-3) for look in looks for v in look.e_values.values())])


def _explain(axes: "Axes") -> None:
    axes.legend(fontsize="small")


def _png(figure: "Figure") -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=80, pil_kwargs={"optimize": True})
    return content.getvalue()
