"""A state folder that an earlier version wrote, or a later one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.platforms.embedded import EmbeddedPlatform
from mlops_pipeline.platforms.layers import Ready
from mlops_pipeline_tests.command_line import CommandLine, free_ports
from mlops_pipeline_tests.embedded.rig import Rig, predictor, rig_in

pytestmark = pytest.mark.embedded

MARK = ".mlops-pipeline-embedded"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path / "s") as rig:
        rig.up()
        rig.platform.object_store().put("models", "kept", b"1")
        rig.apply(predictor(rig.publish("one")))
        yield rig


def as_the_first_version_left_it(rig: Rig) -> None:
    """Write what differed then: programs without back-off and fingerprint, Envoy's own format."""
    for path in (rig.home / "supervisor/programs").iterdir():
        lines = path.read_text().splitlines()
        kept = [line for line in lines if not line.startswith(("startretries=", "environment="))]
        path.write_text("\n".join(kept).replace("startsecs=1", "startsecs=0"))
    bootstrap = rig.home / "gateway/bootstrap.json"
    content = json.loads(bootstrap.read_text())
    (listener,) = content["static_resources"]["listeners"]
    del listener["enable_reuse_port"], listener["connection_balance_config"]
    bootstrap.write_text(json.dumps(content, indent=1))


@pytest.mark.parametrize("mark", ["kept", "missing"])
def test_an_older_state_folder_is_brought_up_with_its_data(rig: Rig, mark: str) -> None:
    url = rig.platform.gateway_url()
    rig.platform.down()
    as_the_first_version_left_it(rig)
    if mark == "missing":
        (rig.home / MARK).unlink()

    rig.up()

    assert [type(layer.observe()) for layer in rig.platform.layers] == [Ready] * 3
    assert rig.platform.gateway_url() == url
    assert rig.platform.object_store().get("models", "kept") == b"1"
    rig.apply(predictor("s3://models/toy/one"))
    assert rig.predict() == ["one"]
    assert json.loads((rig.home / MARK).read_text())["format"] == 1
    assert {change.action for change in rig.up().values()} == {"unchanged"}


def test_a_running_older_platform_is_taken_over(rig: Rig) -> None:
    as_the_first_version_left_it(rig)
    assert rig.up()["gateway"].action == "updated"
    rig.apply(predictor("s3://models/toy/one"))
    assert rig.predict() == ["one"]
    assert len(rig.pids()) == 4


def test_the_folder_of_a_newer_version_is_refused_by_every_command(tmp_path: Path) -> None:
    line = CommandLine(tmp_path / "home", tmp_path, free_ports(3))
    embedded = line.home / "embedded"
    embedded.mkdir(parents=True)
    (embedded / MARK).write_text(json.dumps({"format": 7, "instance": "later"}))
    for command in (("up", "supervisor"), ("status",), ("down", "--purge", "--yes")):
        done = line.run(*command, code=2)
        assert (
            "has format 7, and this version of mlops-pipeline knows formats up to 1" in done.stderr
        )
        assert "or choose another folder with MLOPS_HOME" in done.stderr
        assert "Traceback" not in done.stderr
    assert [path.name for path in embedded.iterdir()] == [MARK]
    with pytest.raises(ConfigurationError, match="format 7"):
        EmbeddedPlatform(embedded)


def test_somebodys_folder_is_neither_used_nor_purged(tmp_path: Path) -> None:
    line = CommandLine(tmp_path, tmp_path, free_ports(3))
    (tmp_path / "embedded").mkdir()
    (tmp_path / "embedded/main.c").write_text("mine")
    assert "holds main.c, which this project did not make" in (
        line.run("up", "supervisor", code=1).stderr
    )
    line.run("down", "--purge", "--yes", code=1)
    assert (tmp_path / "embedded/main.c").read_text() == "mine"
