"""Trying an artifact without a server: the model server's command `predict`, wherever it runs."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from mlops_pipeline.clients.errors import IntegrityError


def arguments(
    *,
    model: Path | str,
    rows: Path | str,
    output: Path | str,
    implementation: str,
    parameters: Sequence[tuple[str, str]],
) -> list[str]:
    """Return Python's arguments that write the scores of `rows` to `output`, an .npy file."""
    told = [{"name": name, "value": value, "type": "STRING"} for name, value in parameters]
    return [
        *("-m", "mlops_pipeline.serving", "predict"),
        *("--model", str(model), "--rows", str(rows)),
        *("--implementation", implementation, "--parameters", json.dumps(told)),
        *("--output", str(output)),
    ]


def keep_signature(output: Path, signature: Path | None) -> None:
    """Copy the signature that was written beside the scores to `signature`, if that is wanted."""
    if signature is not None:
        shutil.copyfile(output.with_suffix(".json"), signature)


def read_scores(output: Path, *, who: str, rows: Path) -> list[list[float]]:
    """Return what was written, of shape [n, outputs]; `who` names the environment.

    Raises:
        IntegrityError: it is not a table of scores.
    """
    import numpy

    scores = numpy.load(output, allow_pickle=False)
    if scores.ndim != 2:
        raise IntegrityError(
            f"{who} answered scores of shape {scores.shape} for {rows}, not of [n, outputs]"
        )
    return [[float(score) for score in row] for row in scores]
