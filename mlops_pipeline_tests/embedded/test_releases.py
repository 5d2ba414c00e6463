"""Releases on real processes: good versions are promoted, bad ones rolled back, none is dropped."""

from collections.abc import Iterator

import pytest

from mlops_pipeline.catalog.releasing import Step
from mlops_pipeline.delivery.releases.records import history
from mlops_pipeline.platforms.build import build_platform
from mlops_pipeline.settings import load_settings
from mlops_pipeline_tests.command_line import CommandLine, free_ports
from mlops_pipeline_tests.embedded.release_rig import ReleaseRig

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleaseRig]:
    """A platform with the first version of the model, which answers well."""
    directory = tmp_path_factory.mktemp("releases")
    made = CommandLine(directory / "home", directory, free_ports(3))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment().items():
            if name.startswith("MLOPS_"):
                patch.setenv(name, value)
        patch.chdir(directory)
        try:
            made.run("up", "gateway", "object_store")
            yield ReleaseRig(build_platform("embedded", load_settings(platform="embedded")))
        finally:
            made.run("down", "--purge", "--yes")


def test_a_good_version_is_promoted_on_the_answers_of_clients(rig: ReleaseRig) -> None:
    old, new = rig.artifact(version=1), rig.artifact(version=2)
    rig.deploy(old)
    rig.plan(
        steps=(Step(25, answers=20, seconds=60), Step(50, answers=50, seconds=60)),
        max_errors=0.05,
        max_slow=0.3,
        when_silent="wait",
    )
    with rig.load(rate=200) as traffic:
        ended = rig.release(new)
    assert ended.decision is not None
    assert ended.decision.outcome == "promoted", ended.decision.reason
    assert traffic.failures == []
    assert rig.served() == new.digest
    (record, *_) = history(rig.spec, rig.platform)
    assert record.decision.outcome == "promoted"
    assert record.key, "the record is signed"
    answers = sum(step.live["errors"].candidate_answers for step in record.evidence.steps)
    assert 59 <= answers <= traffic.digests[new.digest]
