"""A scikit-learn model that was trained elsewhere: published, deployed, asked, and replaced."""

import json
import re
import shutil
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from mlops_pipeline.catalog.iris import IRIS
from mlops_pipeline_tests.command_line import ODD_FLOWER, CommandLine, predict

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(600)]


@pytest.fixture
def model(tmp_path: Path) -> LogisticRegression:
    """Return a model in `tmp_path/trained`, with a hold-out set beside it, and as an archive."""
    x, y = load_iris(return_X_y=True)
    train, test = np.arange(150) % 3 != 0, np.arange(150) % 3 == 0
    made = LogisticRegression(max_iter=1000).fit(x[train], y[train])
    (tmp_path / "trained").mkdir()
    joblib.dump(made, tmp_path / "trained" / "model.joblib")
    table = np.column_stack([x[test], y[test]])
    header = ",".join([*IRIS.dataset.names(), "target"])
    np.savetxt(tmp_path / "holdout.csv", table, delimiter=",", header=header, comments="", fmt="%g")
    other = LogisticRegression(C=0.5, max_iter=1000).fit(x[train], y[train])
    (tmp_path / "other").mkdir()
    joblib.dump(other, tmp_path / "other" / "model.joblib")
    shutil.make_archive(str(tmp_path / "other"), "zip", tmp_path / "other")
    return made


def test_a_model_that_was_trained_elsewhere_is_served(
    command_line: CommandLine, tmp_path: Path, model: LogisticRegression
) -> None:
    url, own = command_line.url("iris"), command_line.digest("iris")
    holdout = str(tmp_path / "holdout.csv")
    done = command_line.run(
        "publish", str(tmp_path / "trained"), "--model", "iris", "--holdout", holdout
    )
    assert "every check passed" in done.stdout
    assert command_line.digest("iris") == own, "publishing deploys nothing"
    try:
        command_line.run("deploy", "iris-model")
        published = command_line.digest("iris")
        assert f"iris {published[:12]}: accuracy" in done.stdout
        answer = predict(url, ODD_FLOWER)
        assert answer.headers["x-model-digest"] == published != own
        (scores,) = answer.json()["data"]["ndarray"]
        assert scores == pytest.approx(model.predict_proba([ODD_FLOWER])[0].tolist(), rel=1e-9)
        assert f"{published[:12]} is pinned since" in command_line.run("up", "iris").stdout
        assert command_line.digest("iris") == published
        _accept_an_unevaluated_one(command_line, tmp_path)
    finally:
        command_line.run("up", "iris", "--unpin")
    assert command_line.digest("iris") == own


def _accept_an_unevaluated_one(command_line: CommandLine, folder: Path) -> None:
    archive = str(folder / "other.zip")
    done = command_line.run("import", archive, "--model", "iris", "--unevaluated", code=3)
    assert "fetched " in done.stdout
    (digest,) = re.findall("--digest ([0-9a-f]{12}) --accept-unevaluated", done.stdout)
    assert "is unevaluated" in command_line.run("deploy", "iris", code=1).stderr
    red = command_line.run(
        "deploy", "iris", "--digest", digest, "--accept-unevaluated", code=3
    ).stderr
    assert "served_accuracy_at_least_threshold" in red
    assert "the artifact is unevaluated: it has no hold-out set" in red
    assert "unevaluated (accepted)" in command_line.run("models", "iris").stdout
    body = json.loads(command_line.run("predict", "iris", "--json").stdout)
    assert sum(body["data"]["ndarray"][0]) == pytest.approx(1)
