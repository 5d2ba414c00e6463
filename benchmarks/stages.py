"""Where a request's time goes inside the model server, without sockets.

It calls the functions of the protocols one by one, and measures the processor time of this thread,
so that other programs on the machine matter little. Give it the folder of an artifact:

    python -m benchmarks.stages FOLDER [--rows 17000]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from mlops_pipeline.serving import loading
from mlops_pipeline.serving.batching import run_at_once
from mlops_pipeline.serving.messages import JSON, Request, answer
from mlops_pipeline.serving.models import Model, ask, compute
from mlops_pipeline.serving.payloads import numbers
from mlops_pipeline.serving.protocols import seldon

SECONDS = 2.0
"""How long each stage is repeated."""


def stages(model: Model, rows: int) -> Mapping[str, Callable[[], object]]:
    """Return the stages of a Seldon request with `data.ndarray`, in order, and all together."""
    shape = (rows, *(max(size, 1) for size in model.default.row_shape or ()))
    values = np.random.default_rng(0).uniform(0, 1, shape).round(4)
    body = orjson.dumps({"data": {"ndarray": values.tolist()}})
    unit = seldon.Unit(model, image="bench")
    nested = orjson.loads(body)["data"]["ndarray"]
    question = ask(model.default, values)
    scores = compute(question)[0][1]
    meta = seldon.answer_meta(unit, None)
    return {
        "parse the JSON": lambda: orjson.loads(body),
        "make an array of the lists": lambda: numbers(
            nested, where="data", body=body, wanted=model.default.dtype
        ),
        "check the rows": lambda: ask(model.default, values),
        "compute: the model's library": lambda: question.signature.compute(
            question.rows, question.names
        ),
        "write the answer": lambda: answer(
            {"data": {"names": seldon.column_names(unit, scores), "ndarray": scores}, "meta": meta}
        ),
        "everything": lambda: run_at_once(seldon.predictions(unit, Request(body, JSON))),
    }


def microseconds(stage: Callable[[], object]) -> float:
    """Return the processor time of a call: of ten calls, one is faster.

    The median depends on what else the machine does: other programs use the same caches.
    """
    took: list[float] = []
    end = time.monotonic() + SECONDS
    while time.monotonic() < end or len(took) < 10:
        begin = time.thread_time_ns()
        stage()
        took.append((time.thread_time_ns() - begin) / 1000)
    return statistics.quantiles(took, n=10)[0]


def main(arguments: list[str] | None = None) -> None:
    """Print the stages of one artifact."""
    parser = argparse.ArgumentParser(prog="benchmarks.stages", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1)
    given: Any = parser.parse_args(arguments)
    model = loading.load(given.folder, loading.verify(given.folder), {}, graph_name=None)
    for name, stage in stages(model, given.rows).items():
        print(f"{name:30} {microseconds(stage):10.1f} µs")


if __name__ == "__main__":
    main()
