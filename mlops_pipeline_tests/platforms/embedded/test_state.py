"""What the embedded platform keeps on disk: ports, records, programs, artifacts, locks."""

import configparser
import hashlib
import json
import os
import shlex
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.clients.errors import (
    ConfigurationError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    PipelineError,
    UnavailableError,
)
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.clients.temporary import temporary_folder
from mlops_pipeline.platforms.embedded.keys import StoreKeys
from mlops_pipeline.platforms.embedded.models import ModelFolders
from mlops_pipeline.platforms.embedded.options import EmbeddedOptions
from mlops_pipeline.platforms.embedded.platform import EmbeddedPlatform
from mlops_pipeline.platforms.embedded.port_book import PortBook
from mlops_pipeline.platforms.embedded.program_files import ProgramFiles
from mlops_pipeline.platforms.embedded.programs import Program, render
from mlops_pipeline.platforms.embedded.records import Record, Records
from mlops_pipeline.platforms.embedded.routing import Endpoint, Route, Target
from mlops_pipeline.platforms.embedded.servers import ServerSet
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.seldon import SeldonDeployment, parse
from mlops_pipeline.platforms.signing import Signing
from mlops_pipeline.platforms.sticky import STICKY_ANNOTATION, Sticky
from mlops_pipeline.serving.artifact import MOST_BYTES
from mlops_pipeline.settings.signing import SigningSettings
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore

URI = "s3://models/iris/1"


def deployment(**graph: Any) -> SeldonDeployment:
    unit = {"name": "classifier", "implementation": "SKLEARN_SERVER", "modelUri": URI, **graph}
    return parse(
        {
            "apiVersion": "machinelearning.seldon.io/v1",
            "kind": "SeldonDeployment",
            "metadata": {"name": "iris", "namespace": "ns"},
            "spec": {"predictors": [{"name": "default", "graph": unit}]},
        }
    )


# Ports


def book(path: Path, *, taken: set[int]) -> PortBook:
    return PortBook(path, is_free=lambda port: port not in taken)


def test_the_preferred_port_is_taken_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    assert book(path, taken=set()).choose("gateway", preferred=8080) == 8080
    assert book(path, taken=set()).choose("gateway", preferred=9999) == 8080
    assert book(path, taken=set()).find("gateway") == 8080
    assert book(path, taken=set()).find("other") is None


def test_ports_of_other_programs_and_owners_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    assert book(path, taken={8080}).choose("gateway", preferred=8080) == 8081
    assert book(path, taken=set()).choose("other", preferred=8081) == 8082
    assert book(path, taken={8080, 8081}).choose("gateway", preferred=8080) == 8083


def test_a_port_that_our_process_has_is_kept_though_it_is_not_free(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    book(path, taken=set()).choose("gateway", preferred=8080)
    ours = book(path, taken={8080})
    assert ours.keep_or_choose("gateway", preferred=8080, ours={8080}) == 8080
    assert ours.keep_or_choose("gateway", preferred=8080, ours=set()) == 8081


def test_a_released_port_is_anybodys(tmp_path: Path) -> None:
    ports = book(tmp_path / "ports.json", taken=set())
    ports.choose("a", preferred=9000)
    ports.release(["a", "never given"])
    assert ports.choose("b", preferred=9000) == 9000


def damage_by(path: Path, kind: str) -> None:
    """Do to a file what a full disk, a crash or a person does."""
    if kind == "unreadable":
        path.chmod(0)
        return
    whole = path.read_bytes()
    path.unlink()
    if kind == "lost":
        return
    if kind == "a directory":
        path.mkdir()
    elif kind == "a link to itself":
        path.symlink_to(path)
    else:
        content = {"empty": b"", "truncated": whole[: len(whole) // 2]}
        content |= {"a list": b"[1]", "an object": b"{}"}
        path.write_bytes(content.get(kind, bytes(range(128, 256))))


IN_ITS_PLACE = (
    *("empty", "truncated", "binary", "a list", "an object"),
    *("a directory", "a link to itself"),
)
DAMAGES = (*IN_ITS_PLACE, "lost")


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_book_of_ports_is_reported_and_repaired(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ports.json"
    assert book(path, taken=set()).choose("gateway", preferred=8080) == 8080
    assert book(path, taken=set()).describe_damage() is None
    damage_by(path, kind)
    assert f"{path} is damaged" in (book(path, taken=set()).describe_damage() or "")
    assert book(path, taken=set()).find("gateway") == 8080
    book(path, taken=set()).repair()
    assert book(path, taken=set()).describe_damage() is None
    assert json.loads(path.read_text()) == {"gateway": 8080}


@pytest.mark.parametrize("kind", IN_ITS_PLACE)
def test_a_damaged_copy_is_named_and_written_again(tmp_path: Path, kind: str) -> None:
    path, copy = tmp_path / "ports.json", tmp_path / ".ports.json.copy"
    assert book(path, taken=set()).choose("gateway", preferred=8080) == 8080
    damage_by(copy, kind)
    assert f"{copy} is damaged" in (book(path, taken=set()).describe_damage() or "")
    book(path, taken=set()).repair()
    damage_by(path, kind)
    assert book(path, taken=set()).find("gateway") == 8080


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_book_of_ports_without_a_copy_starts_empty(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ports.json"
    book(path, taken=set()).choose("gateway", preferred=8080)
    (tmp_path / ".ports.json.copy").unlink()
    damage_by(path, kind)
    assert book(path, taken=set()).find("gateway") is None
    assert book(path, taken={8080}).choose("gateway", preferred=8080) == 8081
    assert json.loads(path.read_text()) == {"gateway": 8081}


# Records


def record() -> Record:
    targets = (Target("default", "abc", 100, False, (Endpoint("p.0", 9000, 9001),)),)
    return Record(deployment(), Route("ns", "iris", targets))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    records = Records(tmp_path)
    assert records.find("iris", namespace="ns") is None
    records.save(record())
    assert records.find("iris", namespace="ns") == record()
    assert records.list() == (record(),)
    assert records.routes() == (record().route,)
    records.remove("iris", namespace="ns")
    records.remove("iris", namespace="ns")
    assert records.list() == ()


def test_a_record_keeps_what_its_split_is_sticky_by(tmp_path: Path) -> None:
    given = deployment().annotated({STICKY_ANNOTATION: "cookie:user"})
    route = replace(record().route, sticky=Sticky("cookie", "user"))
    Records(tmp_path).save(Record(given, route))
    assert Records(tmp_path).routes() == (route,)


@pytest.mark.parametrize("content", ["", "a: [", "manifest: {}\nroute: []", "[]"])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "ns").mkdir()
    (tmp_path / "ns/iris.yaml").write_text(content)
    (damage,) = Records(tmp_path).damages()
    assert f"{tmp_path}/ns/iris.yaml is damaged (it is not a valid record" in damage
    assert "moves it aside" in damage
    assert Records(tmp_path).list() == ()
    assert Records(tmp_path).find("iris", namespace="ns") is None
    Records(tmp_path).repair()
    assert Records(tmp_path).damages() == ()
    (aside,) = (tmp_path / "ns").iterdir()
    assert aside.read_text() == content


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_record_is_read_from_its_copy_and_repaired(tmp_path: Path, kind: str) -> None:
    record = Record(deployment(), Route("ns", "iris", ()))
    Records(tmp_path).save(record)
    path = tmp_path / "ns" / "iris.yaml"
    whole = path.read_text()
    damage_by(path, kind)
    assert Records(tmp_path).list() == (record,)
    (damage,) = Records(tmp_path).damages()
    assert str(path) in damage
    assert "`mlops-pipeline up` writes it again from its copy" in damage
    Records(tmp_path).repair()
    assert Records(tmp_path).damages() == ()
    assert path.read_text() == whole
    damage_by(path, kind)
    Records(tmp_path).remove("iris", namespace="ns")
    assert Records(tmp_path).find("iris", namespace="ns") is None


# Keys


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_keys_of_the_store_are_reported_and_created_again(
    tmp_path: Path, kind: str
) -> None:
    keys = StoreKeys(tmp_path / "s3.json", secrets=tmp_path / "secrets")
    keys.make()
    before = keys.read()
    damage_by(keys.file, kind)
    with pytest.raises(PipelineError, match="`mlops-pipeline up object_store`"):
        keys.read()
    keys.make()
    assert keys.read() != before
    keys.write_secret("seldon", endpoint="http://s3")


@pytest.mark.parametrize("kind", IN_ITS_PLACE)
def test_a_damaged_secret_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "ns").mkdir()
    (tmp_path / "ns/own.json").write_text('{"RCLONE_CONFIG_S3_ENDPOINT": "http://s3"}')
    damage_by(tmp_path / "ns/own.json", kind)
    with pytest.raises(ConfigurationError, match=rf"the secret {tmp_path}/ns/own\.json[:; ]"):
        ModelFolders(tmp_path / "models", tmp_path).fetch(URI, namespace="ns", secret="own")


# Programs


def test_a_configuration_that_was_lost_is_known_by_its_copy(tmp_path: Path) -> None:
    files = ProgramFiles(tmp_path)
    program = Program("server-a.b", ("sleep", "1"), tmp_path)
    text = render(program, lock=tmp_path / "lock", logs=tmp_path)
    files.write(program.name, text)
    (tmp_path / "server-a.b.conf").unlink()
    assert files.names() == [program.name]
    assert files.find(program.name) == text
    (damage,) = files.damages()
    assert "writes it again from its copy" in damage
    files.repair()
    assert (tmp_path / "server-a.b.conf").read_text() == text
    files.remove(program.name)
    assert list(tmp_path.iterdir()) == []


def test_a_program_is_read_back_by_supervisords_rules() -> None:
    program = Program(
        "p",
        ("/bin/x y", "--a=it's 100%"),
        Path("/home/a b"),
        environment={"JSON": '[{"a": "b c, d=e"}]', "PLAIN": "100%"},
        final_exit_codes=(3,),
    )
    lock, logs = Path("/home/a b/p.lock"), Path("/home/a b/logs")
    section = read_ini(render(program, lock=lock, logs=logs))
    assert shlex.split(section["command"])[-5:] == [
        *(str(lock), "/home/a b/logs/p.log", "10"),
        *("/bin/x y", "--a=it's 100%"),
    ]
    assert section["directory"] == "/home/a b"
    assert (section["autorestart"], section["exitcodes"]) == ("unexpected", "3")

    from supervisor.datatypes import dict_of_key_value_pairs

    assert dict_of_key_value_pairs(section["environment"]) == dict(program.environment)


def read_ini(text: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(text)
    return {key: value.replace("%%", "%") for key, value in parser["program:p"].items()}


@pytest.mark.parametrize("value", ["it's", "a;b", "a #b", "a\nb", '"quoted"'])
def test_what_the_format_cannot_hold_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="X="):
        render(
            Program("p", ("x",), Path("/"), environment={"X": value}),
            lock=Path("/l"),
            logs=Path("/"),
        )


# Server sets


def server_set(found: SeldonDeployment, *, replicas: int = 1, version: str = "1") -> ServerSet:
    return ServerSet(
        namespace=found.namespace,
        deployment=found.name,
        predictor=found.spec.predictors[0],
        replicas=replicas,
        command=("serve",),
        environment="e",
        max_body_bytes=1 << 20,
        version=version,
    )


@pytest.mark.parametrize(
    "graph",
    [
        {"modelUri": "s3://models/iris/2"},
        {"implementation": "TENSORFLOW_SERVER"},
        {"name": "other"},
        {"parameters": [{"name": "method", "value": "predict"}]},
    ],
)
def test_what_servers_run_decides_their_key(graph: dict[str, Any]) -> None:
    assert server_set(deployment(**graph)).key != server_set(deployment()).key


def test_replicas_do_not_change_the_key_and_a_new_version_does() -> None:
    one, three = (server_set(deployment(), replicas=n) for n in (1, 3))
    assert one.key == three.key
    assert three.programs[:1] == one.programs
    assert len(three.programs) == 3
    assert server_set(deployment(), version="2").key != one.key


def test_parameters_reach_the_server_whatever_they_hold() -> None:
    parameters = [{"name": "a", "value": "it's; #1 'x'", "type": "STRING"}]
    contract = server_set(deployment(parameters=parameters)).contract(Endpoint("p", 1, 2))
    assert json.loads(contract["PREDICTIVE_UNIT_PARAMETERS"]) == parameters
    render(Program("p", ("x",), Path("/"), environment=contract), lock=Path("/l"), logs=Path("/"))


# Artifacts


@pytest.fixture
def folders(tmp_path: Path) -> Callable[..., ModelFolders]:
    (tmp_path / "models").mkdir()
    (tmp_path / "secrets/ns").mkdir(parents=True)
    secret = {
        f"RCLONE_CONFIG_S3_{k}": "x" for k in ("ENDPOINT", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
    }
    (tmp_path / "secrets/ns/mine.json").write_text(json.dumps(secret))
    (tmp_path / "secrets/ns/poor.json").write_text("{}")

    def make(
        store: FakeObjectStore, *, most_bytes: int = MOST_BYTES, signing: Signing | None = None
    ) -> ModelFolders:
        return ModelFolders(
            tmp_path / "models",
            tmp_path / "secrets",
            connect=lambda _, **__: store,
            most_bytes=most_bytes,
            signing=signing,
        )

    return make


@pytest.mark.parametrize("mode", ["required", "warn"])
def test_a_signed_folder_is_downloaded_again_when_the_store_has_other_files(
    folders: Callable[..., ModelFolders], tmp_path: Path, mode: str
) -> None:
    signing = Signing(tmp_path, SigningSettings.model_validate({"mode": mode}))
    store = FakeObjectStore()

    def put(content: bytes) -> None:
        files = {"model.joblib": hashlib.sha256(content).hexdigest()}
        store.put("models", "iris/1/model.joblib", content)
        store.put("models", "iris/1/model.sig", signing.sign(files, name="iris"))

    def fetch() -> bytes:
        models = folders(store, signing=signing)
        return (models.fetch(URI, namespace="ns", secret="mine") / "model.joblib").read_bytes()

    put(b"one")
    assert fetch() == b"one"
    store.silent = {"get", "sizes"}
    assert fetch() == b"one"  # Its signature counts, so the store is not asked.
    store.silent = set()
    (folder,) = (tmp_path / "models").iterdir()
    (folder / "model.sig").write_bytes(b"{")
    assert fetch() == b"one"
    put(b"two")
    (folder / "model.sig").write_bytes(b"{")
    assert fetch() == b"two"
    (folder / "model.sig").write_bytes(b"{")
    store.silent = {"get", "sizes"}
    with pytest.raises(UnavailableError) if mode == "required" else nullcontext():
        assert fetch() == b"two"


def test_an_artifact_that_is_too_large_is_not_downloaded(
    folders: Callable[..., ModelFolders], tmp_path: Path
) -> None:
    store = FakeObjectStore()
    store.put("models", "iris/1/model.joblib", b"0" * 101)
    store.silent.add("get")
    with pytest.raises(ConfigurationError, match="it has 101 bytes, and the maximum is 100 bytes"):
        folders(store, most_bytes=100).fetch(URI, namespace="ns", secret="mine")
    assert list((tmp_path / "models").iterdir()) == []


def test_everything_below_the_prefix_is_downloaded_once(
    folders: Callable[..., ModelFolders],
) -> None:
    store = FakeObjectStore()
    store.put("models", "iris/1/model.joblib", b"a")
    store.put("models", "iris/1/variables/x", b"b")
    store.put("models", "iris/10/model.joblib", b"other")
    path = folders(store).fetch(URI, namespace="ns", secret="mine")
    assert {str(f.relative_to(path)) for f in path.rglob("*") if f.is_file()} == {
        "model.joblib",
        "variables/x",
    }
    store.objects.clear()
    assert folders(store).fetch(URI, namespace="ns", secret="mine") == path
    with pytest.raises(NotFoundError, match="secret none does not exist"):
        folders(store).fetch(URI, namespace="ns", secret="none")


@pytest.mark.parametrize(
    ("uri", "secret", "error", "message"),
    [
        (URI, "mine", NotFoundError, "no objects below s3://models/iris/1"),
        ("s3://nowhere/x", "mine", NotFoundError, "nowhere"),
        (URI, "none", NotFoundError, "secret none does not exist in the namespace ns"),
        (URI, "poor", ConfigurationError, "lacks RCLONE_CONFIG_S3_ACCESS_KEY_ID"),
    ],
)
def test_what_is_missing_is_named(
    folders: Callable[..., ModelFolders],
    uri: str,
    secret: str,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        folders(FakeObjectStore()).fetch(uri, namespace="ns", secret=secret)


def test_a_broken_off_download_leaves_nothing(
    tmp_path: Path, folders: Callable[..., ModelFolders]
) -> None:
    store = FakeObjectStore()
    store.put("models", "iris/1/../../../escape", b"a")
    with pytest.raises(IntegrityError, match="outside its folder"):
        folders(store).fetch(URI, namespace="ns", secret="mine")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_damaged_copy_is_downloaded_again(folders: Callable[..., ModelFolders]) -> None:
    store = FakeObjectStore()
    store.put("models", "iris/1/manifest.json", b"{}")
    path = folders(store).fetch(URI, namespace="ns", secret="mine")
    (path / "manifest.json").write_text("{ damaged")
    assert folders(store).fetch(URI, namespace="ns", secret="mine") == path
    assert (path / "manifest.json").read_bytes() == b"{}"


def test_a_current_download_is_not_an_artifact_and_the_next_one_removes_a_killed_one(
    tmp_path: Path, folders: Callable[..., ModelFolders]
) -> None:
    store = FakeObjectStore()
    store.put("models", "iris/1/model.joblib", b"a")
    with temporary_folder("download", within=tmp_path / "models") as under_way:
        killed = tmp_path / "models/mlops-pipeline-tmp-download-killed"
        killed.mkdir()
        assert folders(store).all() == set()
        path = folders(store).fetch(URI, namespace="ns", secret="mine")
        assert set((tmp_path / "models").iterdir()) == {under_way, path}


# The state folder


@pytest.mark.parametrize("name", ["a;b", "a#b", "a%b", "a[b", "a\nb"])
def test_paths_that_supervisord_cannot_hold_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="MLOPS_HOME"):
        EmbeddedFolder.at(tmp_path / name)


def test_a_socket_of_a_deep_folder_is_reached_by_a_short_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    state = EmbeddedFolder.at(tmp_path / ("deep " * 30))
    state.prepare()
    socket = state.socket("sv.sock")
    assert len(os.fsencode(socket)) < 90
    assert socket.parent.resolve() == state.run.resolve()
    state.prepare()
    state.purge()
    assert not socket.parent.is_symlink()
    socket.parent.symlink_to(tmp_path)
    with pytest.raises(ConflictError, match="something else"):
        state.prepare()
    socket.parent.unlink()
    short.rmdir()


@pytest.mark.parametrize("length", range(60, 80))
def test_all_sockets_are_in_one_folder_which_prepare_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("t" * 80)))
    name = "s" * max(1, length - len(os.fsencode(tmp_path / "x/run")))
    state = EmbeddedFolder.at(tmp_path / name)
    state.prepare()
    sockets = [state.socket(socket) for socket in ("sv.sock", "ev.sock", "s3.sock", "filer.sock")]
    assert len({socket.parent for socket in sockets}) == 1
    assert sockets[0].parent.resolve() == state.run.resolve()
    assert all(len(os.fsencode(socket)) <= 80 for socket in sockets)
    state.purge()


def test_a_folder_with_somebodys_things_is_not_moved_into(tmp_path: Path) -> None:
    (tmp_path / "theirs/models").mkdir(parents=True)
    with pytest.raises(
        ConflictError, match=r"contains models, which this project did not create.*HOME"
    ):
        EmbeddedFolder.at(tmp_path / "theirs").prepare()
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == ["models"]


def test_a_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    EmbeddedFolder.at(tmp_path / "s").prepare()
    mark = tmp_path / "s/.mlops-pipeline-embedded"
    mark.write_text(json.dumps({"format": 2, "instance": "x", "more": 1}))
    with pytest.raises(
        ConfigurationError, match=r"has format 2, .* supports formats up to 1.*install that version"
    ):
        EmbeddedFolder.at(tmp_path / "s")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 1}', None])
def test_a_folder_without_a_readable_mark_is_adopted(tmp_path: Path, damage: str | None) -> None:
    state = EmbeddedFolder.at(tmp_path / "s")
    state.prepare()
    (state.object_store / "kept").write_text("data")
    mark = tmp_path / "s/.mlops-pipeline-embedded"
    mark.unlink() if damage is None else mark.write_text(damage)
    with pytest.raises(ConfigurationError, match="mlops-pipeline up"):
        _ = state.instance
    EmbeddedFolder.at(tmp_path / "s").prepare()
    assert len(state.instance) == 16
    assert (state.object_store / "kept").read_text() == "data"
    assert mark.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_has_lost_its_mark_is_ours_still(tmp_path: Path) -> None:
    state = EmbeddedFolder.at(tmp_path / "s")
    state.prepare()
    (tmp_path / "s/.mlops-pipeline-embedded").unlink()
    assert state.is_prepared()  # So `down` ends what runs.
    state.purge()
    assert not state.home.exists()


def test_two_that_prepare_at_once_agree_on_the_instance(tmp_path: Path) -> None:
    def prepare(_: int) -> str:
        state = EmbeddedFolder.at(tmp_path / "s")
        state.prepare()
        return state.instance

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(prepare, range(32)))) == 1


def test_a_folder_of_somebody_else_is_not_purged(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    with pytest.raises(ConflictError, match="this project did not create"):
        EmbeddedFolder.at(tmp_path / "theirs").purge()
    EmbeddedFolder.at(tmp_path / "nothing").purge()


def test_the_instance_has_a_name_that_stays(tmp_path: Path) -> None:
    state = EmbeddedFolder.at(tmp_path / "s")
    state.prepare()
    first = state.instance
    state.prepare()
    assert state.instance == first
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700


def test_whatever_takes_the_first_lock_leaves_the_folder_ours(tmp_path: Path) -> None:
    platform = EmbeddedPlatform(tmp_path / "state")
    with suppress(NotFoundError):
        platform.deployments.delete("iris", namespace="seldon")
    EmbeddedFolder.at(tmp_path / "state").prepare()
    EmbeddedFolder.at(tmp_path / "state").purge()  # Its sockets' link lies elsewhere.


def test_files_of_programs_are_repaired_under_their_writers_lock(
    tmp_path: Path,
) -> None:
    platform = EmbeddedPlatform(tmp_path / "s", EmbeddedOptions(lock_timeout=0.1))
    state = EmbeddedFolder.at(tmp_path / "s")
    with (
        Locks(state.locks, timeout=1, prepare=state.prepare).held("state", purpose="apply iris"),
        pytest.raises(UnavailableError, match="apply iris"),
    ):
        platform.layers[0].ensure()
    assert not (state.supervisor / "supervisord.conf").exists()
    state.purge()
