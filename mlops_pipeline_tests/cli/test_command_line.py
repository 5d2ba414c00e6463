"""The commands as they are typed, on an embedded platform that is not up: no process is started."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml
from rich.console import Console

from mlops_pipeline import cli
from mlops_pipeline.cli import runs, up
from mlops_pipeline.cli.app import app
from mlops_pipeline.cli.context import Context, load_context
from mlops_pipeline.clients.errors import ConfigurationError, UnavailableError
from mlops_pipeline.clients.locks import Locks
from mlops_pipeline.delivery.artifacts import ref_to
from mlops_pipeline.delivery.deploying import seldon_deployment
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline.platforms.kubernetes.parts.state import ClusterFolder
from mlops_pipeline.platforms.layers import Change
from mlops_pipeline.resources import turn
from mlops_pipeline.resources.configuration import CURRENT, DEFAULTS
from mlops_pipeline.resources.home import MARK
from mlops_pipeline.resources.instance import prepare_instance
from mlops_pipeline.settings import Settings, load_settings
from mlops_pipeline_tests.command_line import WINE
from mlops_pipeline_tests.toy import TOY

IRIS_MODEL = "iris-model"
ROOT = Path(__file__).parents[2]
Run = Callable[..., tuple[int, str, str]]
# `up` writes to a copy of the terminal that ends with the process.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `mlops-pipeline …`; return its exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))

    def main(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlops-pipeline", *words])
        code: object = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
        said = capfd.readouterr()
        return int(code or 0) if isinstance(code, int | None) else 1, said.out, said.err

    return main


def test_a_refused_model_is_named_by_every_command_and_the_others_go_on(
    run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "bad.py"
    file.write_text(
        WINE.read_text().replace('"sklearn"', '"caffe"').replace('name="wine"', 'name="bad"')
    )
    (tmp_path / "mlops.toml").write_text(f'models = ["bad.py", "{WINE}"]\n')
    reason = f"the model bad of {file} is refused: framework is 'caffe'; allowed: sklearn, tenso"

    for command in ("plan", "doctor", "status"):
        code, out, err = run(command)
        said = " ".join((out + err).split())
        assert code == 3, said
        assert "framework is 'caffe'; allowed: sklearn, tensorflow" in said
        assert str(file) in said
        assert ("wine" in said) == (command != "doctor")
    seen = json.loads(run("status", "--json")[1])
    assert [m["name"] for m in seen["refused"]] == ["bad"]
    assert [m["name"] for m in seen["models"]] == ["iris", "mnist", "wine"]

    for words in (("up", "bad"), ("predict", "bad"), ("rollback", "bad"), ("models", "bad")):
        code, _, err = run(*words)
        assert (code, reason in err) == (2, True), (words, err)
    code, _, err = run("up", "bda")
    assert code == 2
    assert "unknown name 'bda'; expected one of: supervisor, object_store, gateway, iris" in err
    assert reason in err


def _named_things(group: Any = None, *above: str) -> list[tuple[str, ...]]:
    """Return each command that takes a name or a file, with one that nothing has."""
    found: list[tuple[str, ...]] = []
    makers = {"create", "new"}  # `bundle create` makes its folder, `new` its file.
    tree: Any = group or typer.main.get_command(app)
    for name, command in tree.commands.items():
        if hasattr(command, "commands"):
            found += _named_things(command, *above, name)
        elif name not in makers and any(p.param_type_name == "argument" for p in command.params):
            options = [p.opts[0] for p in command.params if p.required and p.opts[0][0] == "-"]
            given = [word for option in options for word in (option, "nothing")]
            found.append((*above, name, "nothing", *given))
    return found


@pytest.mark.parametrize("words", _named_things(), ids=" ".join)
def test_a_name_that_nothing_has_is_wrong_usage_everywhere(
    run: Run, words: tuple[str, ...], tmp_path: Path
) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, ""), err
    assert "nothing" in err
    assert not (tmp_path / "home/embedded").exists()


def test_enough_commands_take_names() -> None:
    assert len(_named_things()) >= 8


@pytest.mark.parametrize("command", ["predict", "logs"])
def test_a_model_that_is_not_deployed_is_called_that(run: Run, command: str) -> None:
    said = "error: iris is not deployed; run `mlops-pipeline up iris`\n"
    assert run(command, "iris") == (1, "", said)


def test_where_the_object_store_is_absent_every_command_that_reads_it_says_how_to_make_it(
    run: Run,
) -> None:
    said = "error: the object store is missing; bring it up with `mlops-pipeline up object_store`"
    for words in (("models",), ("models", "iris"), ("rollback", "iris"), ("prune",)):
        assert run(*words) == (1, "", f"{said}\n"), words
    assert run("plan")[0] == 3


def test_a_folder_of_somebody_else_is_not_used_as_state_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "photo.jpg").touch()
    code, _, err = run("status")
    assert code == 2
    assert (
        f"the state folder {tmp_path}/home contains photo.jpg, which this project did not create"
        in err
    )


@pytest.mark.parametrize("name", ["dagster", "examples", "embedded", "kind", "kubernetes"])
def test_a_folder_of_somebody_else_is_kept_whatever_it_is_called(
    run: Run, tmp_path: Path, name: str
) -> None:
    (theirs := tmp_path / "home" / name).mkdir(parents=True)
    theirs.chmod(0o755)
    (theirs / "dagster.yaml").write_text("telemetry: {enabled: true}\n")
    for words in (
        ("down", "--purge", "--yes"),
        ("down",),
        ("up", "supervisor"),
        ("unpin", "iris"),
        ("prune", "--yes"),
    ):
        code, _, err = run(*words)
        assert (code, f"contains {name}, which this project did not create" in err) == (2, True), (
            words,
            err,
        )
    with pytest.raises(ConfigurationError, match="did not create"):
        prepare_instance(load_settings())  # as Dagster's own commands do
    assert theirs.stat().st_mode & 0o777 == 0o755
    assert (theirs / "dagster.yaml").read_text() == "telemetry: {enabled: true}\n"
    assert list((tmp_path / "home").iterdir()) == [theirs]


def test_purge_deletes_its_own_examples_only(run: Run, tmp_path: Path) -> None:
    prepare_instance(load_settings())
    (examples := tmp_path / "home" / "examples").mkdir()
    for name in ("mnist.json", "gateway.crt", "mine.py"):
        (examples / name).touch()
    code, out, _ = run("down", "--purge", "--yes")
    assert code == 0
    assert f"{tmp_path}/home keeps examples/mine.py; delete what nobody needs" in out
    left = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    # With the mark, the next command goes on in this folder.
    assert sorted(left) == [tmp_path / "home" / ".mlops-pipeline", examples / "mine.py"]
    (examples / "mine.py").unlink()
    examples.rmdir()
    prepare_instance(load_settings())
    code, out, _ = run("down", "--purge", "--yes")
    assert (code, (tmp_path / "home").exists(), "keeps" in out) == (0, False, False)


def _first_defaults(home: Path) -> None:
    (home / "dagster").mkdir(parents=True)
    (home / "dagster/dagster.yaml").write_text(yaml.safe_dump(dict(DEFAULTS), sort_keys=False))


def _current_defaults(home: Path) -> None:
    (home / "dagster").mkdir(parents=True)
    (home / "dagster/dagster.yaml").write_text(f"{CURRENT}\nnux: {{enabled: false}}\n")


def _of_embedded(home: Path) -> None:
    EmbeddedFolder(home / "embedded").prepare()
    (home / "dagster").mkdir()


def _of_kubernetes(home: Path) -> None:
    ClusterFolder(home / "kind").prepare()
    (home / "examples").mkdir()


@pytest.mark.parametrize(
    "leave", [_first_defaults, _current_defaults, _of_embedded, _of_kubernetes]
)
def test_the_folder_of_an_earlier_version_is_adopted(
    run: Run, tmp_path: Path, leave: Callable[[Path], None]
) -> None:
    leave(home := tmp_path / "home")
    assert run("status")[0] == 3
    assert not (home / MARK).exists()  # It was only looked at.
    prepare_instance(load_settings())
    assert (home / MARK).exists()


@pytest.mark.parametrize(
    "words",
    [
        ("rollback", "iris"),
        ("apply", "-"),
        ("delete", "iris-model"),
        *(("release", verb, "iris") for verb in ("promote", "abort", "pause", "resume")),
    ],
)
def test_who_changes_deployments_waits_for_an_up(
    run: Run, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "_PATIENCE", 0.1)
    manifest = seldon_deployment(TOY, ref_to("toy", "a" * 64), secret="").to_manifest()
    monkeypatch.setattr(sys, "stdin", standard_input(json.dumps(manifest).encode()))
    records = prepare_instance(load_settings())
    with Locks(records, timeout=1).held("up", purpose="run `mlops-pipeline up`"):
        code, _, err = run(*words)
    assert code == 1
    assert "(run `mlops-pipeline up`, since " in err
    assert "UTC), which works on the same state folder" in err
    assert "has held" in err


def test_a_cluster_is_not_created_again_where_up_refuses_or_another_run_trains(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn, "_PATIENCE", 0.1)
    monkeypatch.setattr(up, "build_platform", lambda *_, **__: pytest.fail("it is created again"))
    monkeypatch.setattr(up, "provide", lambda *_: None)
    code, _, err = run("up", "--recreate")
    assert (code, "the platform embedded has no cluster to recreate" in err) == (2, True), err
    monkeypatch.setenv("MLOPS_PLATFORM", "kind")
    code, _, err = run("up", "tpyo", "--recreate")
    assert (code, "unknown name 'tpyo'" in err) == (2, True), err
    records = prepare_instance(load_settings())
    with Locks(records, timeout=1).held("training", purpose="train"):
        code, _, err = run("up", "cluster", "--recreate")
    assert code == 1
    assert "could not create the cluster again: process" in err
    assert "(train, since " in err


def test_a_cluster_is_created_again_with_both_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLOPS_PLATFORM", "kind")
    held: list[str] = []

    def ensure() -> Change:
        locks = Locks(tmp_path / "home" / "dagster", timeout=0)
        for name in (turn.TRAINING, turn.LOCK):
            with suppress(UnavailableError), locks.held(name, purpose="look"):
                pytest.fail(f"the lock {name} is not held")
            held.append(name)
        return Change("created")

    def build(name: str, _: object, *, recreate: bool) -> SimpleNamespace:
        assert (name, recreate) == ("kind", True)
        return SimpleNamespace(layers=[SimpleNamespace(name="cluster", ensure=ensure)])

    monkeypatch.setattr(up, "build_platform", build)
    said = io.StringIO()
    up._recreate_cluster(load_context(), Console(file=said))
    assert held == ["training", "up"]
    assert said.getvalue() == "cluster: created\n"


def test_a_manifest_is_read_from_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("utf-8", "utf-8-sig"):
        manifest = "kind: Secret\nmetadata: {name: kü}".encode(encoding)
        monkeypatch.setattr(sys, "stdin", standard_input(manifest))
        code, _, err = run("apply", "-")
        assert code == 2
        assert (
            "expected a SeldonDeployment in the manifest, found Secret kü; nothing was changed"
            in err
        )


def standard_input(content: bytes) -> io.TextIOWrapper:
    """Return what `sys.stdin` is in a locale that is not UTF-8."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="latin-1")


@pytest.mark.parametrize(
    ("encoding", "found"), [("utf-16", "UTF-16"), ("latin-1", "byte 10 in another encoding")]
)
def test_a_manifest_in_another_encoding_is_refused_with_what_to_do(
    run: Run, tmp_path: Path, encoding: str, found: str
) -> None:
    (tmp_path / "m.yaml").write_bytes("kind: 1234ü".encode(encoding))
    code, _, err = run("apply", str(tmp_path / "m.yaml"))
    assert code == 2
    assert f"expected text in UTF-8, got {found}; save it as UTF-8 and apply it again" in err


def test_a_closed_standard_input_is_an_empty_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    code, _, err = run("apply", "-")
    assert (code, "Traceback" in err) == (2, False)
    assert "SeldonDeployment" in err


def test_a_run_is_called_by_everything_that_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    options = up.Options(["iris"], force=True, accept_worse=True, recreate=True, unpin=True)
    assert options.as_typed() == "up iris --force --accept-worse --recreate --unpin"
    accepting = up.Options(["iris"], accept_unevaluated=True, no_wait=True)
    assert accepting.as_typed() == "up iris --accept-unevaluated --no-wait"
    assert up.Options().as_typed() == "up"
    order = runs.Order(options.as_typed(), "iris_lifecycle", keys=[], models=["iris"], config={})
    tags = runs._tags(load_context(), order)
    assert tags["mlops/command"] == "up iris --force --accept-worse --recreate --unpin"
    assert tags["mlops/model"] == "iris"
    assert tags["mlops/trigger"].startswith("mlops-pipeline up, ")


def test_up_takes_the_name_of_a_deployment_as_the_other_commands_do(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[runs.Order] = []

    def note(_: Context, order: runs.Order, **__: object) -> runs.Outcome:
        given.append(order)
        raise UnavailableError("noted")

    monkeypatch.setattr(up, "execute", note)
    monkeypatch.setattr(up, "provide", lambda *_: None)
    monkeypatch.setattr(turn, "_PATIENCE", 0.1)
    for target in ("iris", "iris-model"):
        assert run("up", target, "--force", "--accept-worse", "--unpin")[::2] == (
            1,
            "error: noted\n",
        )
    by_model, by_deployment = given
    assert by_deployment == replace(by_model, command=by_model.command.replace("iris", IRIS_MODEL))
    assert by_deployment.command == "up iris-model --force --accept-worse --unpin"
    assert by_deployment.models == ["iris"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("models", "bda"), 2),  # a sentence of ours
        (("predict",), 1),  # click's own
        (("unpin", "iris"), 1),  # typer.echo, before anything is changed
        (("status",), 3),  # nothing is written to standard error
        (("up", "bda"), 2),
    ],
    ids=str,
)
def test_where_standard_error_is_full_there_is_no_trace(
    tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    environment = {**os.environ, "MLOPS_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    records = prepare_instance(Settings(home=tmp_path / "home"))
    script = "from mlops_pipeline.cli import main; import sys; sys.argv[0] = 'x'; main()"
    with Locks(records, timeout=1).held("up", purpose="hold"), Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", script, *words],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            check=False,
            timeout=100,
        )
    assert (done.returncode, "Traceback" in done.stdout) == (code, False)


def test_the_console_of_a_run_says_that_standard_error_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        console = runs.quiet_console()
        with pytest.raises(UnavailableError, match="could not write to standard error: No space"):
            console.print("run begins")
        with pytest.raises(OSError, match="could not write"):  # as `logging` expects it
            console.print("run ends")


def test_new_writes_a_file_that_can_be_registered(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said, _ = run("new", "prices", "--task", "regression", "--framework", "lightgbm")
    assert code == 0
    assert 'models = ["prices.py"]' in said
    monkeypatch.setenv("MLOPS_MODELS", str(tmp_path / "prices.py"))
    assert load_context().model("prices").spec.task.name == "regression"
    code, _, error = run("new", "prices")
    assert code == 1
    assert "prices.py: it exists" in error


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("publish", "nowhere", "--model", "rose"), "unknown name 'rose'; expected one of: iris"),
        (
            ("publish", ".", "--model", "iris", "--holdout", "x.csv", "--unevaluated"),
            "--holdout evaluates the model, and --unevaluated does not; give one of them",
        ),
        (("import", "ftp://host/m", "--model", "iris"), "could not import ftp://host/m: expected"),
        (("up", "gateway", "--accept-unevaluated"), "--accept-unevaluated requires the name of a"),
        (("new", "rose", "--framework", "torch"), "unknown framework 'torch'; known are sklearn"),
    ],
)
def test_a_model_from_elsewhere_that_cannot_be_one_is_refused(
    run: Run, words: tuple[str, ...], complaint: str
) -> None:
    code, _, error = run(*words)
    assert code == 2
    assert complaint in " ".join(error.split())
