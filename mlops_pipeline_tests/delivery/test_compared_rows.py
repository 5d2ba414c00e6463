"""Which hold-out rows two artifacts are compared on, where there are too many."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mlops_pipeline.delivery import trials, verification
from mlops_pipeline.delivery.artifacts import ArtifactStore, spread
from mlops_pipeline.delivery.trials import compare_with
from mlops_pipeline.delivery.verification import check_skew
from mlops_pipeline_tests.fakes.object_store import FakeObjectStore
from mlops_pipeline_tests.fakes.platform import FakeServingEnvironment
from mlops_pipeline_tests.toy import TOY, published_files


@pytest.mark.parametrize(
    "labels",
    [
        np.repeat([0, 1, 2], [60_000, 30_000, 10_000]),
        np.arange(100_000) % 2,
        np.arange(100_000) % 5,
        np.random.default_rng(7).integers(0, 3, 100_000),
    ],
    ids=["sorted", "alternating", "alternating at the step", "shuffled"],
)
def test_each_class_has_its_share_of_the_rows(labels: "NDArray[Any]") -> None:
    chosen = spread(labels, most=20_000)
    assert len(np.unique(chosen)) == len(chosen) == 20_000
    assert (np.diff(chosen) > 0).all()
    wanted, seen = np.bincount(labels) / 5, np.bincount(labels[chosen])
    assert np.abs(wanted - seen).max() <= 1
    for label in np.unique(labels):  # From everywhere, not from the start.
        places = np.flatnonzero(labels == label)
        taken = chosen[labels[chosen] == label]
        assert taken.min() <= places[10]
        assert taken.max() >= places[-10]


@pytest.mark.parametrize("rows", [0, 1, 3, 20_000])
def test_a_set_that_is_small_enough_is_compared_whole(rows: int) -> None:
    assert spread(np.zeros(rows, dtype=int), most=20_000).tolist() == list(range(rows))


def _says_low(rows: int) -> FakeServingEnvironment:
    """Serves a model that takes so many rows, and each of them for a low one."""
    return FakeServingEnvironment([[1.0, 0.0]] * rows)


def test_a_holdout_set_sorted_by_class_is_compared_on_every_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = ArtifactStore(FakeObjectStore())
    old, new = (
        artifacts.publish(manifest, files=files, evaluation=evaluation)
        for manifest, files, evaluation in (
            published_files(tmp_path / content, content=content) for content in ("old", "new")
        )
    )
    monkeypatch.setattr(trials, "_COMPARED_ROWS", 4)  # Of 10: five low ones, then five high ones.
    seen = compare_with(TOY, new, old, artifacts=artifacts, environment=_says_low(4)).comparison
    assert (seen.rows, seen.value, seen.reference_value) == (4, 1.0, 0.5)
    assert (seen.lost, seen.gained) == (0, 2)


def test_a_holdout_set_sorted_by_class_is_tried_on_every_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = ArtifactStore(FakeObjectStore())
    manifest, files, evaluation = published_files(tmp_path)
    ref = artifacts.publish(manifest, files=files, evaluation=evaluation)
    monkeypatch.setattr(verification, "_SKEW_ROWS", 4)
    seen = check_skew(TOY, ref, artifacts=artifacts, environment=_says_low(4))
    assert (seen.rows, seen.max_difference) == (4, 1.0)  # The first four are low ones.
