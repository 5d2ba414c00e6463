"""One server process, from its settings to its exit code."""

import gc
import os
import sys
import threading
import warnings

from mlops_pipeline.serving import loading, process
from mlops_pipeline.serving.custom import scratch
from mlops_pipeline.serving.errors import ExitCode
from mlops_pipeline.serving.settings import Place, ServerSettings


def run(own: ServerSettings, *, implementation: str | None, started: float) -> ExitCode:
    """Verify the artifact, then serve it until SIGTERM or SIGINT.

    `started` is the monotonic time at which the process began, for the log.

    Raises:
        StartError: the server cannot start; says why.
    """
    manifest = loading.verify(
        own.model_folder, place=own.place, implementation=implementation, policy=own.signing
    )
    if implementation:
        loading.check_implementation(manifest, implementation)
    take = process.listen if own.place is Place.MACHINE else process.bind
    more = [own.metrics_port] if own.metrics_port not in (0, own.http_port) else []
    listeners = [take(own.host, port) for port in (own.http_port, *more)]
    scratch.clear()  # Only now: no other server has our port.
    # Overflows in a model: an answer that is not finite is refused, and needs no log line.
    warnings.simplefilter("ignore", RuntimeWarning)
    gc.disable()  # Imports create many objects and no garbage; the server enables it when ready.
    process.log_to_stdout()
    from mlops_pipeline.serving.server import LOADER_THREAD, ModelServer

    async def serve() -> None:
        await ModelServer(own, manifest, listeners=listeners, started=started).run()

    try:
        process.event_loop().run_until_complete(serve())
    finally:
        sys.stdout.flush()
    if any(thread.name == LOADER_THREAD for thread in threading.enumerate()):
        # Stopped while loading: an interpreter that ends during TensorFlow's import may crash.
        os._exit(ExitCode.OK)
    return ExitCode.OK
