"""Dagster's webserver behind the token: a program that `mlops-pipeline ui` starts.

Dagster's own command takes no middleware, and listens where everybody on the machine may connect.
"""

import json
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.version import __version__

from mlops_pipeline.cli.access import TokenGate, secret_path
from mlops_pipeline.cli.claim import read_token
from mlops_pipeline.cli.instance import open_instance
from mlops_pipeline.cli.streams import say
from mlops_pipeline.clients import ports
from mlops_pipeline.clients.errors import PipelineError
from mlops_pipeline.clients.waiting import wait_until
from mlops_pipeline.settings import load_settings

_STATEMENT_TIMEOUT = 15_000
"""Milliseconds that a statement may take in a database that is a server."""
_POOL_RECYCLE, _POOL_OVERFLOW = 3_600, 20
_CODE = 600.0
"""Seconds in which the code servers must listen."""
_GOODBYE = 3
"""Seconds that open pages have to close their connections."""


def main() -> None:
    """Serve as the one argument says: JSON with the fields that `cli.ui` writes."""
    try:
        _serve(json.loads(sys.argv[1]))
    except PipelineError as error:
        sys.exit(f"error: {error}")


def _serve(order: Mapping[str, Any]) -> None:
    listener = socket.socket(fileno=order["descriptor"])
    with open_instance(load_settings(), on_wait=_say_waiting):
        pass  # It exists from here on, and runs whose process is gone are closed.
    # The code servers start as long as this module is read: it waits here, not before its start.
    wait_until("the code servers", lambda: _describe_absent(order["after"]), timeout=_CODE)
    with dg.DagsterInstance.get() as instance:
        instance.optimize_for_webserver(_STATEMENT_TIMEOUT, _POOL_RECYCLE, _POOL_OVERFLOW)
        target = WorkspaceFileTarget([order["workspace"]])
        with WorkspaceProcessContext(instance, target, version=__version__) as context:
            token = read_token(Path(order["home"]))
            app = create_app_from_workspace_process_context(context, secret_path(token))
            gate = TokenGate(app, token=token, names=[order["host"]])
            config = uvicorn.Config(
                gate,
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=_GOODBYE,
            )
            uvicorn.Server(config).run(sockets=[listener])


def _say_waiting(who: str) -> None:
    say(f"waiting for {who}")


def _describe_absent(sockets: list[str]) -> str | None:
    return next((f"nothing listens on {p}" for p in sockets if not ports.accepts(p)), None)


if __name__ == "__main__":
    main()
