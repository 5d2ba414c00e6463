"""What `status`, `rollback` and `delete` do while a release is in progress."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mlops_pipeline.cli import releasing, status
from mlops_pipeline.cli.rollback import require_named
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.delivery.applying import delete_deployment
from mlops_pipeline.delivery.history import place_for
from mlops_pipeline.delivery.releases.refusing import find_refusal
from mlops_pipeline.delivery.verdicts import VerdictLog
from mlops_pipeline.platforms.layers import Broken
from mlops_pipeline_tests.cli.release_rig import PLACE, ReleaseRig, release_rig
from mlops_pipeline_tests.toy import TOY


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReleaseRig]:
    with release_rig(tmp_path, monkeypatch) as made:
        yield made


def _roll_back(rig: ReleaseRig) -> str:
    """Return what is said of an aborted release; empty where none is aborted."""
    return releasing.abort_to_roll_back(rig.context, rig.model, pytest.fail)


def _taken_back(rig: ReleaseRig) -> str:
    return (
        f"{rig.old.digest[:12]} has the traffic. Nothing is pinned; {rig.new.digest[:12]} is not "
        "released again"
    )


def test_status_has_a_sentence_on_a_release(rig: ReleaseRig) -> None:
    (model,) = status.observe(rig.context).models
    assert model.release is None
    rig.begin()
    rig.answer(60)
    seen = status.observe(rig.context)
    (model,) = seen.models
    assert model.release is not None
    assert (model.release.candidate, model.release.share) == (rig.new.digest, 25)
    assert "60 of 100 answers; 40 are missing" in model.release.sentence
    assert [p.traffic for p in model.predictors] == [75, 25]
    console = Console(width=200, file=io.StringIO())
    status.show(seen, console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"toy: {rig.new.digest[:12]} has 25 % of the traffic" in said
    assert "`mlops-pipeline release status toy` shows the evidence" in said


def test_status_shows_a_release_without_its_evidence(rig: ReleaseRig) -> None:
    rig.begin()
    rig.platform.layers[0].state = Broken("the store is silent")
    (model,) = status.observe(rig.context).models
    assert model.release is not None
    assert model.release.sentence.endswith("; step 1 of 2")
    damaged = {"mlops-pipeline/release": "{"}
    rig.platform.deployments.annotate(TOY.server.deployment, damaged, namespace=PLACE)
    (model,) = status.observe(rig.context).models
    assert model.release is not None
    assert "release abort" in model.release.sentence


def test_a_rollback_without_a_digest_aborts_the_release(rig: ReleaseRig) -> None:
    assert _roll_back(rig) == ""
    rig.begin()
    with pytest.raises(ConfigurationError, match="--accept-refused requires the digest"):
        require_named(rig.model, None, accept_refused=True)
    assert len(rig.served()) == 2
    said = _roll_back(rig)
    assert said.startswith("toy: aborted: a person rolled it back (mlops-pipeline rollback, ")
    assert said.endswith(_taken_back(rig))
    assert rig.served() == {rig.old.digest: 100}
    assert _roll_back(rig) == ""


def test_a_rollback_after_a_promotion_returns_to_the_former_version(rig: ReleaseRig) -> None:
    rig.begin()
    rig.releases.promote()
    assert rig.served() == {rig.new.digest: 100, rig.old.digest: 0}
    assert _roll_back(rig).endswith(_taken_back(rig))
    assert rig.served() == {rig.old.digest: 100}
    log, place = VerdictLog(rig.platform.store), place_for(TOY, rig.platform)
    assert find_refusal(log, rig.new, place=place), "it is not released again"


def test_a_rollback_takes_a_promotion_back_until_the_former_version_is_removed(
    rig: ReleaseRig,
) -> None:
    rig.begin()
    rig.releases.promote()
    rig.wait(10_000)
    assert _roll_back(rig).endswith(_taken_back(rig))
    assert rig.served() == {rig.old.digest: 100}


def test_after_an_advance_removed_the_former_version_nothing_is_taken_back(rig: ReleaseRig) -> None:
    rig.begin()
    rig.releases.promote()
    rig.wait(10_000)
    rig.releases.advance()
    assert _roll_back(rig) == ""
    assert rig.served() == {rig.new.digest: 100}


def test_what_a_deployed_artifact_ends_is_said(rig: ReleaseRig) -> None:
    assert releasing.describe_superseded(rig.releases) == ""
    rig.begin()
    assert releasing.describe_superseded(rig.releases) == (
        f"this ends the canary release of {rig.new.digest[:12]} beside {rig.old.digest[:12]}, "
        "which began at 2026-12-01T00:00:00+00:00"
    )
    rig.releases.promote()
    assert releasing.describe_superseded(rig.releases) == ""


def test_a_deployment_is_deleted_with_its_release(rig: ReleaseRig) -> None:
    rig.begin()
    delete_deployment("toy-model", platform=rig.platform, by="a test", namespace=PLACE)
    assert rig.releases.find() is None
    assert rig.platform.deployments.list() == []
    assert _roll_back(rig) == ""
