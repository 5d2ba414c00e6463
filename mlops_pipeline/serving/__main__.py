"""`python -m mlops_pipeline.serving serve | pod | predict | versions`: the model server.

`serve` runs on a machine, `pod` in any container that Seldon's operator creates, `predict` predicts
offline, and `versions` prints the library versions.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

STARTED = time.monotonic()

from mlops_pipeline.serving import settings as _settings  # noqa: E402
from mlops_pipeline.serving.errors import ExitCode, StartError  # noqa: E402

EXIT_CODES = """exit codes:
  0  stopped by a signal, after answering all requests, or the rows were predicted
  2  an option, a variable or a parameter has an invalid value
  3  the artifact does not match its manifest
  4  the model does not load, or does not answer
  5  a port is in use or not allowed
  6  predict: the rows cannot be read, or the model refuses them

The server's variables are described at the top of mlops_pipeline/serving/settings.py.
"""

LIBRARIES: Mapping[str, str] = {
    # Predictions are short: threads inside them cost more than they save, and take processor time
    # from other servers. TensorFlow has pools of its own, see below.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # The server itself refuses NaN and Infinity before rows reach the model.
    "SKLEARN_ASSUME_FINITE": "1",
    # The thread that waits for gRPC calls also reads them, instead of passing them to a thread
    # pool: an answer through the gateway takes a fifth less processor time.
    "GRPC_EXPERIMENTS": "-event_engine_listener",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_NUM_INTRAOP_THREADS": "2",
    "TF_NUM_INTEROP_THREADS": "1",
}
"""Defaults of the libraries' own variables, which they read when they are imported."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the process's exit code."""
    options = _parser().parse_args(arguments)
    for name, value in LIBRARIES.items():
        os.environ.setdefault(name, value)
    try:
        return int(options.command(options))
    except StartError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mlops_pipeline.serving",
        description=__doc__,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="serve|pod|predict|versions")
    serve = commands.add_parser("serve", help="serve one model over REST and gRPC until stopped")
    serve.add_argument("--model", help="folder of the artifact; by default from the environment")
    serve.add_argument(
        "--implementation", help="of Seldon, such as SKLEARN_SERVER; the artifact must match"
    )
    serve.set_defaults(command=_serve)
    pod = commands.add_parser(
        "pod",
        help="run in a container of a Seldon pod, configured by its environment",
        description="With TF Serving's own options, the container acts as TF Serving.",
        allow_abbrev=False,
    )
    pod.add_argument("--port", type=int, help="gRPC port")
    pod.add_argument("--rest_api_port", type=int)
    pod.add_argument("--model_name", help="the model's name in every URL")
    pod.add_argument("--model_base_path", help="folder of the artifact")
    pod.set_defaults(command=_pod)
    predict = commands.add_parser("predict", help="predict rows like the server, but offline")
    predict.add_argument("--model", required=True, help="folder of the artifact")
    predict.add_argument("--rows", required=True, type=Path, help=".npy of shape [n, …]")
    predict.add_argument("--output", required=True, type=Path, help=".npy to write, [n, outputs]")
    predict.add_argument(
        "--implementation", help="of Seldon, such as SKLEARN_SERVER; the artifact must match"
    )
    predict.add_argument("--parameters", default="", help="as PREDICTIVE_UNIT_PARAMETERS")
    predict.set_defaults(command=_predict)
    versions = commands.add_parser("versions", help="print the libraries' versions as JSON")
    versions.set_defaults(command=_versions)
    return parser


def _serve(options: argparse.Namespace) -> ExitCode:
    """Serve until a signal."""
    own = _settings.read_settings(os.environ, model=options.model)
    from mlops_pipeline.serving.run import run

    return run(own, implementation=options.implementation, started=STARTED)


def _pod(options: argparse.Namespace) -> ExitCode:
    """Serve or forward until a signal."""
    from mlops_pipeline.serving.pod import TensorFlowArguments, run_pod

    arguments = TensorFlowArguments(
        port=options.port,
        rest_api_port=options.rest_api_port,
        model_name=options.model_name,
        model_base_path=options.model_base_path,
    )
    return run_pod(arguments, os.environ, started=STARTED)


def _predict(options: argparse.Namespace) -> ExitCode:
    """Write the scores of rows."""
    parameters = _settings.parse_parameters(options.parameters)
    from mlops_pipeline.serving.offline import predict_file

    predict_file(
        Path(options.model),
        rows=options.rows,
        output=options.output,
        implementation=options.implementation,
        parameters=parameters,
    )
    return ExitCode.OK


def _versions(_: argparse.Namespace) -> ExitCode:
    """Print name → version."""
    from mlops_pipeline.serving.libraries import versions

    sys.stdout.write(json.dumps(versions()) + "\n")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
