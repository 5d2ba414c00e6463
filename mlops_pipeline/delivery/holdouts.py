"""The hold-out set that a published model is evaluated on."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_pipeline.catalog import worker
from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.delivery.criteria import dataset_criteria, describe_holdout_problems
from mlops_pipeline.delivery.judging import Judge
from mlops_pipeline.delivery.offered_files import Offer
from mlops_pipeline.delivery.verification import max_difference
from mlops_pipeline.delivery.working import WorkerContext, work

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIMEOUT = 600.0
"""Seconds to read, or to evaluate, a hold-out set."""


def take_holdout(offer: Offer, judge: Judge, folder: Path, worker_context: WorkerContext) -> None:
    """Write the hold-out set as `data.npz`: from its file, or from the dataset of the spec.

    Raises:
        ConfigurationError: the file does not exist, or the set does not fit the model.
        CommandError: the file cannot be read.
    """
    model, spec = offer.model, offer.model.spec
    if offer.holdout is None:
        snapshot = judge.datasets.ensure(model, file=offer.dataset, worker_context=worker_context)
        if unmet := judge.judge_anew(dataset_criteria(spec), snapshot.ref):
            reasons = "; ".join(problem.describe() for problem in unmet)
            raise ConfigurationError(
                f"could not evaluate {offer.folder} on the dataset of {spec.name}: {reasons}. Give "
                "another hold-out set with --holdout FILE. Nothing was stored"
            )
        judge.datasets.download(snapshot.ref, folder / worker.DATA)
        return
    if not offer.holdout.is_file():
        raise ConfigurationError(describe_no_file(offer.holdout))
    work(
        "holdout",
        model,
        *("--input", str(offer.holdout.absolute()), "--output", str(folder)),
        purpose=f"read the hold-out set {offer.holdout} of {spec.name}",
        timeout=TIMEOUT,
        on_line=worker_context.on_line,
    )
    profile = json.loads((folder / worker.PROFILE).read_bytes())
    if problems := describe_holdout_problems(spec, profile):
        raise ConfigurationError(
            f"the hold-out set {offer.holdout} does not fit {spec.name}: {'; '.join(problems)}. "
            "Nothing was stored"
        )


def describe_no_file(file: Path) -> str:
    """Return why a hold-out file cannot be one: it is a folder, or does not exist."""
    if file.is_dir():
        return f"the hold-out file {file} is a folder; give a .csv or .npz. Nothing was stored"
    return f"the hold-out file {file} does not exist. Nothing was stored"


def holdout_rows(folder: Path) -> "NDArray[Any]":
    """Return the rows of the `data.npz` that `take_holdout` has written."""
    rows: NDArray[Any] = worker.read_dataset(folder / worker.DATA).x_test
    return rows


def require_claimed(offer: Offer, claimed: "NDArray[Any]", served: "NDArray[Any]") -> None:
    """Compare every row's scores in the hold-out file with those of the serving environment.

    Raises:
        ConfigurationError: they differ by more than the tolerance.
    """
    if claimed.ndim == 1 and served.ndim == 2:
        claimed = claimed.reshape(-1, 1)
    tolerance = offer.model.spec.thresholds.tolerance
    if (found := max_difference(served, claimed)) > tolerance:
        raise ConfigurationError(
            f"the scores in {offer.holdout}, shape {list(claimed.shape)}, are not those that the "
            f"serving environment returns, shape {list(served.shape)}: they differ by at most "
            f"{found:.3g}, and the tolerance is {tolerance:g}. Compare the versions of the "
            "libraries and the preparation of the rows, or leave out `scores`. Nothing was stored"
        )
