from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_pipeline.catalog.spec import Thresholds
from mlops_pipeline.catalog.tasks import Classification, Regression
from mlops_pipeline.clients.errors import CommandError, ConfigurationError
from mlops_pipeline.delivery.artifacts import ArtifactStore
from mlops_pipeline.delivery.datasets import DatasetStore
from mlops_pipeline.delivery.training import (
    Training,
    TrainingOrder,
    ensure_trained,
    merge_hyperparameters,
)
from mlops_pipeline.delivery.working import WorkerContext
from mlops_pipeline.resources.turn import TurnLostError
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.toy import REGISTERED, TOY


@pytest.fixture
def stores() -> tuple[DatasetStore, ArtifactStore]:
    store = FakeObjectStore()
    return DatasetStore(store), ArtifactStore(store)


def test_unchanged_inputs_train_nothing(stores: tuple[DatasetStore, ArtifactStore]) -> None:
    datasets, artifacts = stores
    snapshot = datasets.ensure(REGISTERED, file=None)
    order = TrainingOrder(REGISTERED, snapshot.ref, TOY.hyperparameters)

    trained = [
        ensure_trained(order, datasets=datasets, artifacts=artifacts, run_id=run, force=force)
        for run, force in (("one", False), ("two", False), ("three", True))
    ]

    assert snapshot.change == "created"
    assert datasets.ensure(REGISTERED, file=None).change == "unchanged"
    assert [t.trained for t in trained] == [True, False, True]
    assert trained[0].ref == trained[1].ref
    assert trained[1].manifest.run_id == "one"
    assert trained[0].manifest.metrics["accuracy"] == 1.0
    assert trained[0].manifest.dataset_digest == snapshot.ref.digest
    assert "confusion_matrix.png" in trained[0].manifest.evaluation


@pytest.mark.usefixtures("worker_here")
def test_an_artifact_is_stored_even_if_the_turn_does_not_come_back(
    stores: tuple[DatasetStore, ArtifactStore],
) -> None:
    @contextmanager
    def turn_lost() -> Iterator[None]:
        yield
        raise TurnLostError

    datasets, artifacts = stores
    snapshot = datasets.ensure(REGISTERED, file=None)
    order = TrainingOrder(REGISTERED, snapshot.ref, TOY.hyperparameters)

    def train(run_id: str, context: WorkerContext) -> Training:
        return ensure_trained(
            order,
            datasets=datasets,
            artifacts=artifacts,
            run_id=run_id,
            force=False,
            worker_context=context,
        )

    with pytest.raises(TurnLostError):
        train("one", WorkerContext(without_turn=turn_lost))
    again = train("two", WorkerContext())
    assert not again.trained
    assert again.manifest.run_id == "one"


@pytest.mark.usefixtures("worker_here")
def test_a_snapshot_that_an_earlier_version_described_is_described_again() -> None:
    store = FakeObjectStore()
    new = DatasetStore(store).ensure(REGISTERED, file=None)
    for key in [key for _, key in store.objects if key.startswith("toy/inputs/")]:
        store.delete("datasets", key)
    store.put("datasets", f"toy/{new.ref.digest}/profile.json", b'{"of": "another time"}')
    again = DatasetStore(store).ensure(REGISTERED, file=None)
    assert (again.ref, again.change) == (new.ref, "unchanged")
    assert DatasetStore(store).profile(new.ref) == new.profile


@pytest.mark.usefixtures("worker_here")
def test_other_hyperparameters_are_other_inputs(
    stores: tuple[DatasetStore, ArtifactStore],
) -> None:
    snapshot = stores[0].ensure(REGISTERED, file=None)
    digests = {
        TrainingOrder(REGISTERED, snapshot.ref, merge_hyperparameters(TOY, changes)).inputs_digest()
        for changes in ({}, {"depth": 3}, {"depth": 4}, {"kernel": "rbf"})
    }
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"deep": 1}, "no hyper-parameter 'deep'; it has depth, kernel"),
        ({"depth": "three"}, "type int, got 'three'"),
        ({"depth": True}, "type int, got True"),
        ({"kernel": 1}, "type str, got 1"),
    ],
)
def test_wrong_hyperparameters_are_named(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        merge_hyperparameters(TOY, changes)


def test_a_dataset_file_that_is_not_there_is_named(
    stores: tuple[DatasetStore, ArtifactStore],
) -> None:
    with pytest.raises(ConfigurationError, match=r"/nowhere\.csv, which does not exist"):
        stores[0].ensure(REGISTERED, file=Path("/nowhere.csv"))


def test_a_truncated_dataset_says_so(tmp_path: Path) -> None:
    from mlops_pipeline.catalog.registry import load_catalog

    mnist = next(m for m in load_catalog().models if m.name == "mnist")
    broken = tmp_path / "mnist.npz"
    broken.write_bytes(b"PK\x03\x04 not a whole file")
    with pytest.raises(CommandError, match="could not load the dataset of mnist from"):
        DatasetStore(FakeObjectStore()).ensure(mnist, file=broken)


@pytest.mark.usefixtures("worker_here")
@pytest.mark.parametrize(
    "changes",
    [
        {"task": Regression(), "dataset": replace(TOY.dataset, classes=())}
        | {"thresholds": Thresholds({"rmse": 1.0})},
        {"task": Classification(threshold=0.5)},
        {"dataset": replace(TOY.dataset, classes=("high", "low"))},
    ],
)
def test_another_task_or_other_classes_load_and_train_again(
    stores: tuple[DatasetStore, ArtifactStore], changes: dict[str, Any]
) -> None:
    datasets, _ = stores
    ref = datasets.ensure(REGISTERED, file=None).ref
    changed = replace(REGISTERED, spec=replace(TOY, **changes))
    assert datasets.find(changed, file=None) is None
    digests = {
        TrainingOrder(model, ref, TOY.hyperparameters).inputs_digest()
        for model in (REGISTERED, changed)
    }
    assert len(digests) == 2
