"""The three layers as real processes: bring-up, idempotence, repair, down and up again."""

import stat
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from mlops_pipeline.clients.errors import ConfigurationError, NotFoundError, UnavailableError
from mlops_pipeline.clients.files import PRIVATE
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.platforms.embedded import EmbeddedOptions, EmbeddedPlatform, object_store
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.layers import Absent, Broken, Ready, Unknown
from mlops_pipeline.platforms.observing import observe_platform
from mlops_pipeline_tests.embedded.rig import Rig, listening, rig_in

pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig_in(tmp_path_factory.mktemp("layers") / "a state folder") as rig:
        assert [layer.observe() for layer in rig.platform.layers] == [Absent()] * 3
        changes = rig.up()
        assert {change.action for change in changes.values()} == {"created"}
        yield rig


def test_a_second_ensure_changes_nothing_and_is_quick(rig: Rig) -> None:
    before, start = rig.pids(), time.monotonic()
    changes = rig.up()
    assert {change.action for change in changes.values()} == {"unchanged"}
    assert rig.pids() == before
    assert time.monotonic() - start < 5


def test_every_listener_is_on_loopback(rig: Rig) -> None:
    assert listening(rig.pids()) == {"127.0.0.1"}


def test_secrets_are_private_and_on_no_command_line_and_in_no_log(rig: Rig) -> None:
    keys = [f for f in rig.home.rglob("*.json") if "secret" in str(f) or f.name == "s3.json"]
    assert len(keys) == 2
    assert {stat.S_IMODE(f.stat().st_mode) for f in keys} == {PRIVATE}
    assert stat.S_IMODE(rig.home.stat().st_mode) == 0o700
    secret = rig.platform.object_store()._credentials.secret_access_key
    assert len(secret) >= 40
    shown = [" ".join(psutil.Process(pid).cmdline()) for pid in rig.pids()]
    shown += [log.read_text() for log in (rig.home / "logs").iterdir()]
    shown += [repr(layer.observe()) for layer in rig.platform.layers]
    assert not [text for text in shown if secret in text]


def test_the_object_store_keeps_objects_and_refuses_other_keys(rig: Rig) -> None:
    from mlops_pipeline.clients.s3 import Credentials, ObjectStore

    store = rig.platform.object_store()
    store.put("models", "a/b", b"content")
    assert store.get("models", "a/b") == b"content"
    stranger = ObjectStore(store.endpoint, Credentials("stranger", "guess"))
    with pytest.raises(UnavailableError):
        stranger.get("models", "a/b")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/seldon/seldon/nothing/api/v1.0/predictions", 404),
        ("/seldon/seldon/nothing/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/a%2fb", 400),
    ],
)
def test_paths_of_nothing_are_refused_in_json(rig: Rig, path: str, status: int) -> None:
    answer = httpx.get(rig.platform.gateway_url() + path)
    assert answer.status_code == status
    assert answer.json()["status"]["code"] == status


def test_the_probe_of_the_gateway_is_not_a_failure(rig: Rig) -> None:
    answer = httpx.get(f"{rig.platform.gateway_url()}/healthz/ready")
    assert (answer.status_code, answer.text) == (200, "the gateway is ready")


@pytest.mark.parametrize("metadata", [(), (("seldon", "nothing"), ("namespace", "seldon"))])
def test_a_grpc_call_for_no_deployment_is_not_found(
    rig: Rig, metadata: tuple[tuple[str, str], ...]
) -> None:
    address = rig.platform.gateway_url().removeprefix("http://")
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        with pytest.raises(grpc.RpcError) as failure:
            call(b"", metadata=metadata, timeout=10)
    assert failure.value.code() == grpc.StatusCode.NOT_FOUND
    assert failure.value.details().startswith("no deployment has this path; paths are /seldon/")


def test_a_killed_supervisor_is_replaced_and_nothing_else_is(rig: Rig) -> None:
    programs = {name: rig.pid(name) for name in ("gateway", "object_store")}
    rig.kill("supervisor")
    supervisor, *above = observe_platform(rig.platform).values()
    assert isinstance(supervisor, Broken)
    assert supervisor.is_repairable
    assert above == [Unknown("requires supervisor, which is broken")] * 2
    changes = rig.up()
    assert {name: change.action for name, change in changes.items()} == {
        "supervisor": "repaired",
        "object_store": "unchanged",
        "gateway": "unchanged",
    }
    assert {name: rig.pid(name) for name in programs} == programs
    assert [type(layer.observe()) for layer in rig.platform.layers] == [Ready] * 3


def test_a_full_disk_is_seen_and_needs_a_person(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    lack = "the disk has 3 MiB free; free disk space there"
    monkeypatch.setattr(object_store, "describe_lack_of_space", lambda _: lack)
    store = rig.platform.layers[1]
    assert store.observe() == Broken.needing_help(lack)
    with pytest.raises(ConfigurationError, match=lack):
        store.ensure()
    monkeypatch.undo()
    assert isinstance(store.observe(), Ready)


def test_down_keeps_the_data_and_up_brings_it_back(rig: Rig) -> None:
    rig.platform.object_store().put("datasets", "kept", b"2")
    rig.platform.down()
    assert rig.pids() == []
    assert [layer.observe() for layer in rig.platform.layers] == [Absent()] * 3
    rig.platform.down()
    rig.up()
    assert rig.platform.object_store().get("datasets", "kept") == b"2"


def test_logs_name_what_there_is(rig: Rig) -> None:
    assert rig.platform.logs("supervisor", lines=3).count("\n") == 2
    with pytest.raises(NotFoundError, match="expected one of: supervisor, object_store, gateway"):
        rig.platform.logs("nothing", lines=3)


def test_a_removed_gateway_comes_back_at_its_address(rig: Rig) -> None:
    url = rig.platform.gateway_url()
    rig.platform.layers[2].remove()
    assert isinstance(rig.platform.layers[2].observe(), Absent)
    assert rig.ensure("gateway").action == "created"
    assert rig.platform.gateway_url() == url


def test_a_very_long_path_works(tmp_path: Path) -> None:
    home = tmp_path / ("long " * 20) / ("longer" * 20) / "state"
    with rig_in(home) as rig:
        rig.up()
        assert rig.up()["gateway"].action == "unchanged"


def test_layers_say_what_they_stand_on(tmp_path: Path) -> None:
    platform = EmbeddedPlatform(tmp_path / "s", EmbeddedOptions(lock_timeout=1))
    with pytest.raises(NotFoundError, match="up gateway"):
        platform.gateway_url()
    with pytest.raises(NotFoundError, match="up object_store"):
        platform.object_store()
    for layer in platform.layers[1:]:
        with pytest.raises(UnavailableError, match="up supervisor"):
            layer.ensure()


def test_a_second_up_waits_and_names_who_holds_the_lock(tmp_path: Path) -> None:
    settings = EmbeddedOptions(lock_timeout=0.2)
    platform = EmbeddedPlatform(tmp_path / "s", settings)
    EmbeddedFolder.at(tmp_path / "s").prepare()
    held = Locks(tmp_path / "s/locks", timeout=1).held("layers", purpose="hold it")
    with held, pytest.raises(UnavailableError, match=r"process \d+ \(hold it, since "):
        platform.layers[0].ensure()


def test_a_state_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="MLOPS_HOME"):
        EmbeddedPlatform(tmp_path / "file").layers[0].ensure()
