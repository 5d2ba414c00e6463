"""Trying an artifact without a server: the model server's command `predict`, wherever it runs."""

import json
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
