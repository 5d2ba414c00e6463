"""The same inputs train the same artifact, in real worker processes."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from mlops_pipeline.catalog import worker
from mlops_pipeline.catalog.registry import load_catalog
from mlops_pipeline.delivery.working import work
from mlops_pipeline.serving.artifact import hash_files

pytestmark = pytest.mark.embedded


@contextmanager
def _on(processors: set[int]) -> Iterator[None]:
    """Let this process and what it starts run on these processors."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="one number of processors is no comparison",
)
def test_mnist_is_trained_to_the_same_bytes_on_any_number_of_processors(tmp_path: Path) -> None:
    (mnist,) = [m for m in load_catalog((), datasets={}).models if m.name == "mnist"]
    random = np.random.default_rng(1)
    x, y = random.random((2_000, 784), dtype=np.float32), random.integers(0, 10, 2_000)
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x[:100], y_test=y[:100])
    available = os.sched_getaffinity(0)
    found = []
    for name, processors in (("all", available), ("one", {min(available)})):
        with _on(processors):
            work(
                "train",
                mnist,
                *("--input", str(tmp_path / "data.npz")),
                *("--hyperparameters", json.dumps({**mnist.spec.hyperparameters, "epochs": 2})),
                *("--output", str(tmp_path / name)),
                purpose="train",
                timeout=120,
                on_line=lambda *_: None,
            )
        found.append(hash_files(tmp_path / name))
    assert found[0] == found[1]
    assert f"{worker.MODEL}/1/variables/variables.index" in found[0]
