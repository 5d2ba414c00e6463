"""The same inputs train the same artifact: found out by a second training, once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mlops_pipeline.catalog import contents
from mlops_pipeline.catalog.spec import TrainedModel
from mlops_pipeline.clients.errors import ConflictError
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.datasets import DatasetStore
from mlops_pipeline.delivery.reproducing import check_reproduction, compare
from mlops_pipeline.delivery.training import TrainingOrder, ensure_trained
from mlops_pipeline.serving.artifact import Manifest, Tensor
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.toy import REGISTERED, TOY
from mlops_pipeline_tests.worker_here import worker_here


@pytest.fixture
def _trains_here() -> Iterator[None]:
    """Let each training be one, also where another had the same inputs."""
    with worker_here(remembers=False):
        yield


@pytest.mark.usefixtures("_trains_here")
def test_a_second_training_is_compared_once() -> None:
    store = FakeObjectStore()
    datasets, artifacts = DatasetStore(store), ArtifactStore(store)
    data = datasets.ensure(REGISTERED, file=None).ref
    order = TrainingOrder(REGISTERED, data, TOY.hyperparameters)
    made = ensure_trained(order, datasets=datasets, artifacts=artifacts, run_id="1", force=False)
    assert len(made.manifest.content_digest) == 64
    assert made.manifest.reproducible == "bytes"

    verdict = check_reproduction(REGISTERED, made.ref, datasets=datasets, artifacts=artifacts)
    assert verdict.passed
    assert verdict.description == "a second training gave the same bytes"
    store.delete("datasets", f"toy/{data.digest}/data.npz")  # No third training is possible.
    again = check_reproduction(REGISTERED, made.ref, datasets=datasets, artifacts=artifacts)
    assert again == verdict
    assert [a.ref for a in artifacts.list("toy")] == [made.ref]

    other = replace(REGISTERED, spec=replace(TOY, dataset=replace(TOY.dataset, classes=("a", "b"))))
    with pytest.raises(ConflictError, match="the model's file, the project or a library changed"):
        check_reproduction(other, made.ref, datasets=datasets, artifacts=artifacts)


@pytest.mark.parametrize(
    ("content", "same_content"), [("weights", True), ("others", False), ("", False)]
)
def test_bytes_and_content_are_told_apart(content: str, same_content: bool) -> None:  # noqa: FBT001
    first = Manifest("toy", "sklearn", {"a": "1", "b": "2"}, (), (), content_digest="weights")
    second = replace(first, files={"a": "1", "b": "3"}, content_digest=content)
    found = compare(first, second)
    assert (found.same_bytes, found.same_content) == (False, same_content)
    assert found.changed == ("b",)
    assert not compare(replace(first, content_digest=""), second).same_content


def test_the_content_of_an_estimator_is_what_it_learned(tmp_path: Path) -> None:
    x, y = np.arange(40.0).reshape(20, 2), np.array([0, 1] * 10)
    tensors = (Tensor("predict", (-1, 2), "FP64"),)
    described = TrainedModel(lambda rows: rows, tensors, tensors)
    digests, contents_of = set(), []
    for number, (compress, strength) in enumerate([(0, 1.0), (3, 1.0), (0, 0.5)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        model = LogisticRegression(C=strength).fit(x, y)
        joblib.dump(model, folder / "model.joblib", compress=compress)
        digests.add((folder / "model.joblib").read_bytes())
        contents_of.append(contents.digest("sklearn", folder, described))
    assert len(digests) == 3
    assert contents_of[0] == contents_of[1] != contents_of[2]
    other = replace(described, outputs=(Tensor("score", (-1, 2), "FP64"),))
    assert contents.digest("sklearn", tmp_path / "0", other) != contents_of[0]


def test_the_content_of_a_saved_model_without_variables_is_its_files(tmp_path: Path) -> None:
    (tmp_path / "1" / "assets").mkdir(parents=True)
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"a graph with constants")
    (tmp_path / "1" / "assets" / "words.txt").write_text("a b")
    found = contents.of_saved_models(tmp_path)
    assert found.keys() == {"1/saved_model.pb", "1/assets/words.txt"}
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"another graph")
    assert contents.of_saved_models(tmp_path) != found


def test_strings_are_told_apart_by_their_bytes() -> None:
    def digest(*texts: bytes) -> str:
        return contents._of_values(np.array(texts, dtype=object))

    assert digest(b"ab", b"c") == digest(bytes(bytearray(b"ab")), b"c")
    assert len({digest(b"ab", b"c"), digest(b"a", b"bc"), digest(b"ab", b"d")}) == 3
    assert contents._of_values(np.float32(1)) != contents._of_values(np.float32(2))
