"""The command line against faults: two at once, Ctrl-C anywhere, damage, leaks. One platform."""

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_pipeline.clients import running
from mlops_pipeline.clients.s3 import Credentials
from mlops_pipeline.platforms.embedded import EmbeddedPlatform
from mlops_pipeline.platforms.embedded.programs import MARK
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline_tests.command_line import WINE, CommandLine, free_ports, predict
from mlops_pipeline_tests.embedded.faults import Running
from mlops_pipeline_tests.platforms.embedded.test_state import damage_by

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """The command with a state folder of its own, and nothing up yet. Gone afterwards."""
    directory = tmp_path_factory.mktemp("faults")
    made = CommandLine(directory / "home", directory, free_ports(3))
    configure(made, trees=20)
    try:
        yield made
    finally:
        made.run("down", "--purge", "--yes")


def configure(line: CommandLine, *, trees: int) -> None:
    """Let the model wine have that many trees: another number trains it again."""
    model = line.directory / "wine.py"
    model.write_text(WINE.read_text().replace('"trees": 20', f'"trees": {trees}'))
    (line.directory / "mlops.toml").write_text(f'models = ["{model}"]\n')


@pytest.mark.parametrize(
    "word",
    [
        "",
        *(pytest.param(f"✓ {n}", marks=pytest.mark.long) for n in ("supervisor", "gateway")),
        "✓ object_store",
        "✓ wine/dataset",
        pytest.param("✓ wine/model", marks=pytest.mark.long),
    ],
)
def test_ctrl_c_ends_an_up_without_a_trace_or_a_process_left(line: CommandLine, word: str) -> None:
    for _ in range(3):
        up = Running(line, "up", "wine")
        up.read_until(word)
        if word == "✓ wine/dataset":  # Its checks are done, and the training begins.
            up.wait(1.0)
        code = up.interrupt()
        if word or code != 0:
            break  # Else Python's start or import lost it: 2 of 529, by a trace of Python's own.
    # Python's own end where it was still starting, before a line of ours ran.
    if word or "Fatal Python error: init_" not in up.said:
        assert code in ((130, -2) if not word else (130,)), up.said
    assert not word or "interrupted; run `mlops-pipeline up` to resume" in up.said
    assert not word or "Traceback" not in up.said
    assert up.left() == []


def test_two_ups_at_once_take_turns(line: CommandLine) -> None:
    ups = [Running(line, "up", "wine") for _ in range(2)]
    assert [up.end() for up in ups] == [0, 0], [up.said for up in ups]
    waited = [
        f"waiting for process {up.pid} (run `mlops-pipeline up wine`, since "
        for up in reversed(ups)
    ]
    assert any(who in up.said for up, who in zip(ups, waited, strict=True))
    assert any("nothing changed" in up.said for up in ups)
    assert predict(url_of(line), [1.0] * 13).headers["x-model-digest"] == digest_of(line)


def test_what_serves_goes_on_when_a_release_is_interrupted(line: CommandLine) -> None:
    url, before = url_of(line), digest_of(line)
    configure(line, trees=21)
    up = Running(line, "up", "wine")
    up.read_until("✓ wine/model")
    assert up.interrupt() == 130
    answer = predict(url, [1.0] * 13)
    assert answer.status_code == 200
    line.run("up", "wine")
    assert digest_of(line) != before
    assert answer.headers["x-model-digest"] in (before, digest_of(line))


def test_a_damaged_artifact_is_named_and_what_serves_goes_on(line: CommandLine) -> None:
    url, digest = url_of(line), digest_of(line)
    store = platform(line).object_store()
    store.put("models", f"wine/{digest}/model.joblib", b"something else")
    done = line.run("up", "wine", code=1)
    assert "matches_its_manifest" in done.stderr
    assert "model.joblib" in done.stderr
    assert predict(url, [1.0] * 13).headers["x-model-digest"] == digest
    line.run("up", "wine", "--force")
    assert predict(url, [1.0] * 13).headers["x-model-digest"] == digest_of(line)


def test_a_truncated_dataset_is_named(line: CommandLine, tmp_path: Path) -> None:
    import mlops_pipeline.catalog as catalog

    whole = (Path(catalog.__file__).parent / "data/mnist.npz").read_bytes()
    (tmp_path / "mnist.npz").write_bytes(whole[: len(whole) // 2])
    file = str(tmp_path / "mnist.npz")
    done = line.run("up", "mnist", code=1, MLOPS_DATASETS__MNIST=file)
    assert "mnist/dataset: could not load the dataset of mnist" in done.stderr
    assert file in done.stderr
    assert predict(url_of(line), [1.0] * 13).status_code == 200


def test_other_keys_are_named_and_up_gives_them_to_the_store(line: CommandLine) -> None:
    keys = line.home / "embedded/object_store/s3.json"
    old = secret_of(line)
    keys.write_text(keys.read_text().replace(old, "guessed-by-a-stranger"))
    shown = line.run("status", code=3).stdout
    assert (
        "the object store rejected the keys (SignatureDoesNotMatch); run `mlops-pipeline up"
        in shown
    )
    failed = line.run("models", "wine", "--debug", code=1).stderr
    assert "AccessDeniedError" in failed
    assert "guessed" not in shown + failed
    done = line.run("up", "wine", "--debug", timeout=60)
    assert "object_store           repaired" in done.stderr
    assert "guessed" not in done.stdout + done.stderr

    keys.write_text("{")
    shown = line.run("status", code=3).stdout
    assert "run `mlops-pipeline up object_store` to create new ones" in shown
    line.run("up", "wine", timeout=60)
    assert secret_of(line) not in (old, "guessed-by-a-stranger")
    line.run("plan", code=3)


def test_wrong_settings_are_named_before_anything_is_changed(
    line: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "wrong.toml").write_text("[embedded]\ndrain_timeout = 'x'")
    done = line.run("up", code=2, MLOPS_CONFIG=str(tmp_path / "wrong.toml"))
    assert "embedded.drain_timeout: Input should be a valid n" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_secret_is_in_two_private_files_and_nowhere_else(line: CommandLine) -> None:
    secret = secret_of(line).encode()
    assert len(secret) >= 40
    failed = line.run("up", "wine", "--debug", code=1, MLOPS_DATASETS__WINE="/dev/null/none")
    listed = subprocess.run(["ps", "axeww"], capture_output=True, check=True).stdout
    logs = [line.run("logs", name).stdout for name in ("supervisor", "object_store", "gateway")]
    said = [failed.stdout, failed.stderr, *logs]
    assert not [text for text in (listed, *(s.encode() for s in said)) if secret in text]

    holders = {
        path
        for path in line.home.rglob("*")
        if path.is_file() and not path.is_symlink() and secret in path.read_bytes()
    }
    folder = line.home / "embedded"
    assert holders == {
        folder / "object_store/s3.json",
        folder / "secrets/seldon/seldon-rclone-secret.json",
    }
    assert {path.stat().st_mode & 0o777 for path in holders} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(os.stat(path).st_uid == os.getuid() for path in holders)


def _files(home: Path) -> list[Path]:
    """Return every file but the object store's data and logs, those of Dagster last."""
    own = (p.relative_to(home) for p in home.rglob("*") if p.is_file() and not p.is_symlink())
    passed_over = {"data", "logs"}
    return sorted(
        (p for p in own if not passed_over & set(p.parts) and ".damaged-" not in str(p)),
        key=lambda p: (p.parts[0] == "dagster", p),
    )


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_whatever_file_is_damaged_no_command_ends_in_a_trace(line: CommandLine) -> None:
    line.run("up", "wine")
    kinds = itertools.cycle(["binary", "a directory", "an object", "lost", "truncated"])
    for number, file in enumerate(_files(line.home)):
        if not (line.home / file).exists():
            continue  # It went with what it belonged to.
        damage_by(line.home / file, kind := next(kinds))
        said = [line.run(command, code=None) for command in ("status", "plan")]
        up = line.run("up", "wine", code=None)
        of_dagster = file.parts[0] == "dagster"
        named = of_dagster and f"could not use {line.home / file}" in up.stderr
        assert up.returncode == 0 or named, (file, kind, up.stderr)
        if of_dagster and (line.home / file).exists():
            # Also one that nobody has missed: whoever makes the index anew reads all of them.
            (line.home / file).rename(line.directory / f"moved away {number}")
            said.append(line.run("up", "wine"))
        assert not [s for s in (*said, up) if "Traceback" in s.stderr], (file, kind)
        assert predict(url_of(line), [1.0] * 13).status_code == 200, (file, kind)
        line.run("status", code=None)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("file", "kind"),
    [
        (".mlops-pipeline-embedded", "lost"),
        ("ports.json", "binary"),
        ("supervisor/supervisord.conf", "a directory"),
        ("run/supervisord.pid", "a directory"),
        ("locks/state.lock", "a directory"),
    ],
)
def test_down_ends_everything_whatever_file_is_damaged(
    line: CommandLine, file: str, kind: str
) -> None:
    line.run("up", "wine")
    damage_by(line.home / "embedded" / file, kind)
    line.run("down")
    assert running.marked(MARK, EmbeddedFolder.at(line.home / "embedded").identity) == []
    line.run("up", "wine")
    assert predict(url_of(line), [1.0] * 13).status_code == 200


def platform(line: CommandLine) -> EmbeddedPlatform:
    return EmbeddedPlatform(line.home / "embedded")


def secret_of(line: CommandLine) -> str:
    keys: Credentials = platform(line).object_store()._credentials
    return keys.secret_access_key


def url_of(line: CommandLine) -> str:
    return f"{platform(line).gateway_url()}/seldon/seldon/wine-model"


def digest_of(line: CommandLine) -> str:
    (predictor,) = platform(line).deployments.status("wine-model", namespace="seldon")
    return predictor.digest
