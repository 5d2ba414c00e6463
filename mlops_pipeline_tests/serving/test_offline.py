"""What the skew guard reads and writes, and what a deployment is asked with, in this process."""

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.naive_bayes import BernoulliNB

from mlops_pipeline.clients.http import HttpAnswer
from mlops_pipeline.clients.prediction import Predictions
from mlops_pipeline.serving import loading, payloads
from mlops_pipeline.serving.artifact import EXAMPLE, MANIFEST, Manifest, Tensor, hash_files
from mlops_pipeline.serving.errors import ExitCode, StartError
from mlops_pipeline.serving.models import predict
from mlops_pipeline.serving.offline import predict_file

ROWS = np.array([[True, False, True], [False, False, True], [True, True, False]] * 4)
LABELS = ROWS[:, 0].astype(int)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the folder of a model whose features are booleans."""
    folder = tmp_path / "model"
    folder.mkdir()
    joblib.dump(BernoulliNB().fit(ROWS, LABELS), folder / "model.joblib")
    (folder / EXAMPLE).write_text(json.dumps(ROWS[:1].tolist()))
    manifest = Manifest(
        "flags",
        "sklearn",
        hash_files(folder),
        inputs=(Tensor("predict", (-1, 3), "BOOL"),),
        outputs=(Tensor("predict_proba", (-1, 2), "FP64"),),
    )
    (folder / MANIFEST).write_text(manifest.to_json())
    return folder


def _scores(model: Path, rows: NDArray[Any], folder: Path) -> NDArray[Any]:
    np.save(folder / "rows.npy", rows)
    predict_file(
        model,
        rows=folder / "rows.npy",
        output=folder / "scores.npy",
        implementation="SKLEARN_SERVER",
        parameters={},
    )
    return np.asarray(np.load(folder / "scores.npy"))


def test_booleans_are_predicted_as_numbers_are(model: Path, tmp_path: Path) -> None:
    wanted = BernoulliNB().fit(ROWS, LABELS).predict_proba(ROWS)
    for rows in (ROWS, ROWS.astype(np.uint8), ROWS.astype(np.float64)):
        assert np.abs(_scores(model, rows, tmp_path) - wanted).max() < 1e-12


def test_a_deployed_model_is_asked_with_booleans(model: Path) -> None:
    loaded = loading.load(model, loading.verify(model), {}, graph_name=None)

    def answer(body: bytes) -> HttpAnswer:
        rows = json.loads(body)["data"]["ndarray"]
        values = payloads.numbers(rows, where="ndarray", body=body, wanted=loaded.default.dtype)
        ((_, scores),) = predict(loaded.default, values)
        return HttpAnswer(200, {}, json.dumps({"data": {"ndarray": scores.tolist()}}).encode())

    scores = Predictions("http://model", answer).predict(ROWS).scores
    assert np.argmax(scores, axis=1).tolist() == LABELS.tolist()


@pytest.mark.parametrize("rows", [np.array([["a"]]), np.array([1j]), np.array(True)])
def test_a_file_without_an_array_of_numbers_is_refused(
    model: Path, tmp_path: Path, rows: NDArray[Any]
) -> None:
    with pytest.raises(StartError, match="is not an array of numbers") as caught:
        _scores(model, rows, tmp_path)
    assert caught.value.code == ExitCode.ROWS
