"""What people see of a release: counts, plots, and which versions may answer."""

import io
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from PIL import Image

from mlops_pipeline.catalog.releasing import ReleaseSpec
from mlops_pipeline.delivery.artifacts import ref_to
from mlops_pipeline.delivery.deploying import seldon_deployment
from mlops_pipeline.delivery.references import DeploymentRef
from mlops_pipeline.delivery.releases.beside import digests_beside
from mlops_pipeline.delivery.releases.counts import counts_by_step, counts_in_all
from mlops_pipeline.delivery.releases.evidence import Evidence, Look
from mlops_pipeline.delivery.releases.latencies import find_latencies
from mlops_pipeline.delivery.releases.manifests import beside
from mlops_pipeline.delivery.releases.plots import (
    Latency,
    draw_answers,
    draw_e_values,
    draw_latency,
    draw_traffic,
)
from mlops_pipeline.delivery.releases.state import Release
from mlops_pipeline.platforms.seldon import SeldonDeployment
from mlops_pipeline_tests.delivery.releases.test_records import CANDIDATE, STABLE, record
from mlops_pipeline_tests.fakes.platform import FakePlatform
from mlops_pipeline_tests.toy import TOY

RELEASE, EVIDENCE = record().release, record().evidence


def _size(png: bytes | None) -> tuple[int, int]:
    assert png is not None
    assert len(png) < 40_000
    return Image.open(io.BytesIO(png)).size


def test_counts_are_told_by_step_and_in_all() -> None:
    told = [
        (count.step, count.share, count.describe(), count.limit)
        for count in counts_by_step(EVIDENCE, RELEASE.plan)
    ]
    assert told == [
        (1, 10, "errors 0 of 60, stable 1 of 540", 0.01),
        (2, 50, "errors 1 of 300, stable 1 of 310", 0.01),
        (2, 50, "slow 9 of 300, stable 12 of 310", 0.15),
        (2, 50, "disagreement 2 of 30 (replayed rows)", None),
    ]
    disagreement = counts_by_step(EVIDENCE, RELEASE.plan)[-1]
    assert replace(disagreement, stable_answers=30).describe() == disagreement.describe()
    in_all = [(count.step, count.describe()) for count in counts_in_all(EVIDENCE, RELEASE.plan)]
    assert in_all[0] == (0, "errors 1 of 360, stable 2 of 850")


def test_plots_are_small_pictures() -> None:
    looks = [
        Look(f"2026-01-02T03:{minute:02}:05+00:00", 10, minute, {"errors": 1.5**minute, "slow": 0})
        for minute in range(5, 20)
    ]
    seen = replace(EVIDENCE, looks=tuple(looks))
    now = datetime(2026, 1, 2, 4, 20, tzinfo=UTC)
    latency = Latency(200, {0.001: 180, 0.01: 20, 0.1: 0})
    sizes = {
        _size(draw_traffic(RELEASE, seen, now=now)),
        _size(draw_e_values(seen, threshold=200.0)),
        _size(draw_answers(seen)),
        _size(draw_latency(latency, Latency(0), slow_over=0.01)),
    }
    assert sizes == {(512, 208)}


def test_what_was_not_counted_is_not_drawn() -> None:
    nothing = Evidence(RELEASE.id)
    assert draw_e_values(nothing, threshold=None) is None
    assert draw_answers(nothing) is None
    assert draw_latency(Latency(0), Latency(0)) is None
    now = datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)
    assert _size(draw_traffic(RELEASE, nothing, now=now)) == (512, 208)


def _released(platform: FakePlatform, release: Release) -> SeldonDeployment:
    """Deploy both versions, as the release says."""
    stable, candidate = (
        seldon_deployment(TOY, ref_to("toy", digest), secret="s") for digest in (STABLE, CANDIDATE)
    )
    both = beside(stable, stable.spec.predictors[0], candidate.spec.predictors[0], release)
    platform.deployments.apply(both)
    return both


@pytest.mark.parametrize(
    ("digest", "release", "expected"),
    [
        (STABLE, RELEASE, (CANDIDATE,)),
        (CANDIDATE, RELEASE, (STABLE,)),
        ("e" * 64, RELEASE, ()),
        (STABLE, replace(RELEASE, plan=ReleaseSpec("shadow"), step=0), ()),
        (STABLE, replace(RELEASE, phase="ended", ended=record().decision), ()),
    ],
)
def test_the_other_version_may_answer_only_while_both_get_requests(
    digest: str, release: Release, expected: tuple[str, ...]
) -> None:
    platform = FakePlatform()
    _released(platform, release)
    server = TOY.server
    ref = DeploymentRef(server.deployment, server.namespace, "http://x", ref_to("toy", digest))
    assert digests_beside(ref, platform) == expected


def test_latencies_are_those_of_each_version() -> None:
    platform = FakePlatform()
    there = _released(platform, RELEASE)
    platform.deployments.count(
        there.name, "default", namespace=there.namespace, answered=7, failed=1
    )
    stable, candidate = find_latencies(TOY, platform, RELEASE)
    assert (stable.answers, candidate.answers) == (8, 0)
    assert all(percent == 0 for _, percent in stable.shares())
    assert candidate.shares() == []
