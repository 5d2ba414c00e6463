"""The commands as they are typed, on an embedded platform that is not up: no process is started."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_pipeline import cli
from mlops_pipeline_tests.command_line import WINE

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
        WINE.read_text().replace('"sklearn"', '"xgboost"').replace('name="wine"', 'name="bad"')
    )
    (tmp_path / "mlops.toml").write_text(f'models = ["bad.py", "{WINE}"]\n')
    reason = f"the model bad of {file} is refused: framework is 'xgboost'; allowed: sklearn, tenso"

    for command in ("plan", "doctor", "status"):
        code, out, err = run(command)
        said = " ".join((out + err).split())
        assert code == 3, said
        assert "framework is 'xgboost'; allowed: sklearn, tensorflow" in said
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
    assert "nothing is called 'bda'; there are: supervisor, object_store, gateway, iris, mn" in err
    assert reason in err
