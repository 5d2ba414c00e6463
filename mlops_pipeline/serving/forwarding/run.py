"""One forwarder process, from its settings to its exit code."""

import asyncio
import gc
import json
import logging
import signal
import sys
import time
from contextlib import suppress
from typing import Literal

from mlops_pipeline.serving import process
from mlops_pipeline.serving.errors import ExitCode, RequestError, StartError
from mlops_pipeline.serving.forwarding.calls import CallForwarder
from mlops_pipeline.serving.forwarding.connection import Reply
from mlops_pipeline.serving.forwarding.rest import RestForwarder
from mlops_pipeline.serving.forwarding.target import Target
from mlops_pipeline.serving.forwarding.upstream import Upstream
from mlops_pipeline.serving.grpc_port import bound_server
from mlops_pipeline.serving.http_server import SignalFreeServer, uvicorn_config
from mlops_pipeline.serving.paths import READY
from mlops_pipeline.serving.settings import ServerSettings
from mlops_pipeline.serving.unit_header import HEADER

logger = logging.getLogger("forwarder")

POLL_SECONDS = 0.1


def run(own: ServerSettings, target: Target, *, started: float) -> ExitCode:
    """Forward to the model's server, after it is ready, until SIGTERM or SIGINT.

    `started` is the monotonic time at which the process began, for the log.

    Raises:
        StartError: a port cannot be used, or the model lacks what the unit's parameters name; says
            why.
    """
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    process.event_loop().run_until_complete(Forwarder(own, target, started).run())
    return ExitCode.OK


class Forwarder:
    """Both sides of a forwarder."""

    def __init__(self, own: ServerSettings, target: Target, started: float) -> None:
        self._own = own
        self._target = target
        self._started = started
        self._upstream = Upstream(target, seconds=own.answer_seconds)
        self._told_to_stop = asyncio.Event()

    async def run(self) -> None:
        """Wait for the model's server, and serve until a signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop.set)
        stopped = asyncio.ensure_future(self._told_to_stop.wait())
        ready = asyncio.ensure_future(self._wait_ready())
        await asyncio.wait({ready, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            ready.result()
            await self._serve(stopped)
        else:
            ready.cancel()
        self._upstream.close()

    async def _wait_ready(self) -> None:
        """Return when the model's server is ready to answer for this unit.

        Raises:
            StartError: the model lacks what the unit's parameters name.
        """
        head = f"GET {READY[0]} HTTP/1.1\r\nhost: model\r\n{HEADER}: {self._target.said}\r\n\r\n"
        shown = ""
        while (seen := await self._describe_unready(head.encode())) is not None:
            if seen != shown:
                logger.info("Waiting: %s", seen)
            shown = seen
            await asyncio.sleep(POLL_SECONDS)

    async def _describe_unready(self, head: bytes) -> str | None:
        try:
            reply = await self._upstream.ask(head, b"")
        except RequestError as error:
            return error.sentence
        if reply.status == 400:
            raise StartError(f"{_info(reply)}.", code=ExitCode.SETTINGS)
        if reply.status != 200:
            return f"the model's server at {self._upstream.place} answers {reply.status}"
        return None

    async def _serve(self, stopped: "asyncio.Task[Literal[True]]") -> None:
        """Open the ports, and answer until the signal to stop; then finish the current requests."""
        own = self._own
        more = [own.metrics_port] if own.metrics_port not in (0, own.http_port) else []
        listeners = [process.listen(own.host, port) for port in (own.http_port, *more)]
        calls = CallForwarder(self._target, seconds=own.answer_seconds)
        grpc_server, grpc_port = bound_server(
            [calls], host=own.host, port=own.grpc_port, max_message_bytes=own.max_body_bytes
        )
        rest = RestForwarder(self._upstream, self._target.said)
        http_server = SignalFreeServer(uvicorn_config(rest, own))
        await grpc_server.start()
        serving = asyncio.ensure_future(http_server.serve(sockets=listeners))
        gc.freeze()
        logger.info(
            "Ready in %.2f s: %s on http://%s:%d and gRPC port %d, to the model's server at %s",
            time.monotonic() - self._started,
            own.graph_name or "model",
            own.host,
            listeners[0].getsockname()[1],
            grpc_port,
            self._upstream.place,
        )
        await asyncio.wait((serving, stopped), return_when=asyncio.FIRST_COMPLETED)
        http_server.should_exit = True
        await asyncio.gather(serving, grpc_server.stop(grace=own.drain_seconds))
        await calls.close()


def _info(reply: Reply) -> str:
    """Return the message of a refusal."""
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(reply.body)["status"]["info"])
    return f"the model's server refuses this unit: {reply.body[:300]!r}"
