"""Releases, counts and evidence for tests."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mlops_pipeline.catalog.releasing import ReleaseSpec, Step
from mlops_pipeline.delivery.releases.evidence import (
    Evidence,
    Metric,
    StepEvidence,
    Tally,
)
from mlops_pipeline.delivery.releases.state import Decision, Release
from mlops_pipeline.platforms.platform import PredictorCounts, ServerCounts

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LIMITS = ("0.01", "0.025", "0.05", "0.1", "0.25")


def later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def release(plan: ReleaseSpec | None = None, **fields: Any) -> Release:
    since = START.isoformat(timespec="seconds")
    made = Release(
        id="20260301T120000-cccc",
        candidate="c" * 64,
        stable="5" * 64,
        by="mlops-pipeline up",
        since=since,
        plan=plan or ReleaseSpec("canary"),
        step_since=since,
    )
    if fields.get("phase") in ("kept", "ended"):
        made = replace(made, ended=Decision("promoted", "it is good", "somebody", since))
    return replace(made, **fields)


def short(strategy: Any = "canary", **fields: Any) -> ReleaseSpec:
    """Return a plan of one step of 25 %, or of 100 %, that takes at most 60 s."""
    share = 100 if strategy in ("shadow", "blue_green") else 25
    return ReleaseSpec(strategy, (Step(share, 100, 60.0),), **fields)


def step(
    number: int = 0,
    share: int = 25,
    *,
    live: Mapping[Any, Tally] | None = None,
    replayed: Mapping[Any, Tally] | None = None,
) -> StepEvidence:
    since = START.isoformat(timespec="seconds")
    return StepEvidence(number, share, since, live=live or {}, replayed=replayed or {})


def evidence(*steps: StepEvidence) -> Evidence:
    return Evidence(release().id, steps)


def clean(answers: int, *, share: int = 25) -> dict[Metric, Tally]:
    """Return answers without an event, of both versions."""
    tally = Tally(0, answers, 0, answers * (100 - share) // share)
    return {"errors": tally, "slow": tally}


def server(name: str, answered: int, failed: int = 0, **fields: Any) -> ServerCounts:
    """Return what a server has counted, which started about a day before the release."""
    slow = fields.pop("slow", (0,) * len(LIMITS))
    made = ServerCounts(
        name,
        started=START.timestamp() - 86_400 - sum(name.split("-")[0].encode()),
        answered=answered,
        failed=failed,
        slower=dict(zip(LIMITS, slow, strict=True)),
    )
    return replace(made, **fields)


def predictor(name: str, *servers: ServerCounts, lost: int | None = 0) -> PredictorCounts:
    return PredictorCounts(name, servers, lost)
