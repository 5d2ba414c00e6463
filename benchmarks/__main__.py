"""Measure everything, write results.json, and fill the tables of docs/benchmarks.md from it."""

import argparse
import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import batching, lifecycle, machine, report, serving
from mlops_pipeline.catalog.mnist import MNIST

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
PAGE = FOLDER.parent / "docs" / "benchmarks.md"
LONG = (
    lifecycle.Plan(from_nothing=3, repeats=5),
    serving.Plan(5, 2.0, 5.0),
    batching.Plan(5, 2.0),
)
QUICK = (
    lifecycle.Plan(from_nothing=1, repeats=2),
    serving.Plan(2, 1.0, 2.0),
    batching.Plan(2, 1.0),
)


def main() -> None:
    """Run the benchmark, or render the page anew from what it found."""
    options = _options()
    if not options.render:
        _forget_settings()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # And clean up.
        if options.mnist:
            results = json.loads(RESULTS.read_text()) | {"batching": _batching(options.mnist)}
        else:
            results = _measure(quick=options.quick)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(RESULTS.read_text())
    page = report.fill(PAGE.read_text(), report.blocks(results))
    PAGE.write_text(page)
    print(report.verdicts(results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: 4 minutes")
    parser.add_argument(
        "--mnist", type=Path, help="measure only batching, with MNIST's artifact in this folder"
    )
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page")
    return parser.parse_args()


def _measure(*, quick: bool) -> dict[str, Any]:
    cycle, load, batches = QUICK if quick else LONG
    command = "make bench ARGS=--quick" if quick else "make bench"
    about = machine.describe(command)
    with ExitStack() as stack:
        # Short, because a unix socket's path may have 108 bytes at most.
        parent = tempfile.TemporaryDirectory(prefix="mlops-bench-", dir="/tmp")
        folder = Path(stack.enter_context(parent))
        platform = stack.enter_context(lifecycle.platform_in(folder))
        print("bench: the life cycle", flush=True)
        cycles = lifecycle.measure(platform, cycle)
        print("bench: serving", flush=True)
        served = serving.measure(platform, folder, load)
        print("bench: batching", flush=True)
        batched = _about_batching() | batching.measure(_mnist(platform), folder, batches)
    return {**about, "lifecycle": cycles, "serving": served, "batching": batched}


def _mnist(platform: lifecycle.Platform) -> Path:
    """Return the folder of the artifact that the platform serves."""
    command = platform.model_server(MNIST.server.deployment).cmdline()
    return next(Path(argument) for argument in command if (Path(argument) / "1").is_dir())


def _batching(model: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="mlops-bench-", dir="/tmp") as folder:
        return _about_batching() | batching.measure(model, Path(folder), LONG[2])


def _about_batching() -> dict[str, Any]:
    return {
        "commit": machine.commit(),
        "started": machine.now(),
        "load": os.getloadavg()[0],
    }


def _forget_settings() -> None:
    """Measure with the defaults, whatever the caller has set for a platform of their own."""
    for name in list(os.environ):
        if name.startswith(("MLOPS_", "DAGSTER_")):
            del os.environ[name]


if __name__ == "__main__":
    main()
