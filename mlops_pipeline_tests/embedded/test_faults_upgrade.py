"""A state folder that an earlier version wrote, or a later one."""

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from mlops_pipeline.clients.errors import ConfigurationError, PipelineError
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.platforms.embedded import EmbeddedPlatform
from mlops_pipeline.platforms.embedded.store_program import PARTS
from mlops_pipeline.platforms.layers import Ready
from mlops_pipeline_tests.command_line import CommandLine, free_ports
from mlops_pipeline_tests.embedded import older
from mlops_pipeline_tests.embedded.attacker import GRPC, ask, call
from mlops_pipeline_tests.embedded.rig import Rig, predictor, rig_in

pytestmark = pytest.mark.embedded

NO_PLAINTEXT = "Client sent an HTTP request to an HTTPS server."
MARK = ".mlops-pipeline-embedded"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path / "s") as rig:
        rig.up()
        rig.platform.object_store().put("models", "kept", b"1")
        rig.apply(predictor(rig.publish("one")))
        yield rig


def as_an_older_version_left_it(rig: Rig) -> None:
    older.leave(rig)
    bootstrap = rig.home / "gateway/bootstrap.json"
    content = json.loads(bootstrap.read_text())
    (listener,) = content["static_resources"]["listeners"]
    del listener["enable_reuse_port"], listener["connection_balance_config"]
    bootstrap.write_text(json.dumps(content, indent=1))


def got_by_strangers(rig: Rig) -> list[str]:
    """Return what the store's inner ports give to somebody without its certificate."""
    book = json.loads((rig.home / "ports.json").read_text())
    got = []
    for owner in (f"{part}{kind}" for part in PARTS for kind in ("", ".grpc")):
        if owner != "s3":
            got += [f"{owner}: {answer}" for answer in answers(book[owner])]
    return [answer for answer in got if NO_PLAINTEXT not in answer]


def answers(port: int) -> Iterator[str]:
    for scheme in ("http", "https"):
        for path in ("/dir/status", "/status", "/buckets/models/?limit=100"):
            if (answer := ask(scheme, port, "GET", path)) is not None:
                yield answer
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for name, message in GRPC:
            reads = name.endswith(("Configuration", "VolumeList", "VolumeServerStatus"))
            if reads and (answer := call(channel, name, message)) is not None:
                yield answer


@pytest.mark.parametrize("mark", ["missing", pytest.param("kept", marks=pytest.mark.long)])
def test_an_older_state_folder_is_brought_up_with_its_data(rig: Rig, mark: str) -> None:
    url = rig.platform.gateway_url()
    as_an_older_version_left_it(rig)
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


def test_a_running_older_platform_is_taken_over_and_its_store_closed(rig: Rig) -> None:
    as_an_older_version_left_it(rig)
    older.start(rig)
    wait_until("the store", lambda: describe_lack(rig, "object_store"), timeout=60)
    wait_until("the gateway", lambda: describe_lack(rig, "gateway"), timeout=60)
    rig.platform.object_store().put("models", "older", b"2")
    assert rig.predict() == ["one"]
    assert {one.partition(":")[0] for one in got_by_strangers(rig)} >= {"master", "volume", "filer"}

    rig.up()

    assert [type(layer.observe()) for layer in rig.platform.layers] == [Ready] * 3
    assert got_by_strangers(rig) == []
    for key, content in {"kept": b"1", "older": b"2"}.items():
        assert rig.platform.object_store().get("models", key) == content
    rig.apply(predictor("s3://models/toy/one"))
    assert rig.predict() == ["one"]
    assert len(rig.pids()) == 4
    assert {change.action for change in rig.up().values()} == {"unchanged"}


def describe_lack(rig: Rig, program: str) -> str | None:
    """Say what the older platform lacks; it is asked from outside, as its users do."""
    try:
        if program == "gateway":
            rig.predict()
        else:
            rig.object_store(attempts=1).get("models", "kept")
    except (httpx.HTTPError, PipelineError) as error:
        return str(error)
    return None


def test_the_folder_of_a_newer_version_is_refused_by_every_command(tmp_path: Path) -> None:
    line = CommandLine(tmp_path / "home", tmp_path, free_ports(3))
    embedded = line.home / "embedded"
    embedded.mkdir(parents=True)
    (embedded / MARK).write_text(json.dumps({"format": 7, "instance": "later"}))
    for command in (("up", "supervisor"), ("status",), ("down", "--purge", "--yes")):
        done = line.run(*command, code=2)
        assert (
            "has format 7, but this version of mlops-pipeline supports formats up to 1"
            in done.stderr
        )
        assert "or set MLOPS_HOME to another folder" in done.stderr
        assert "Traceback" not in done.stderr
    assert [path.name for path in embedded.iterdir()] == [MARK]
    with pytest.raises(ConfigurationError, match="format 7"):
        EmbeddedPlatform(embedded)


def test_somebodys_folder_is_neither_used_nor_purged(tmp_path: Path) -> None:
    line = CommandLine(tmp_path, tmp_path, free_ports(3))
    (tmp_path / "embedded").mkdir()
    (tmp_path / "embedded/main.c").write_text("mine")
    assert "contains embedded, which this project did not create" in (
        line.run("up", "supervisor", code=2).stderr
    )
    line.run("down", "--purge", "--yes", code=2)
    assert (tmp_path / "embedded/main.c").read_text() == "mine"
