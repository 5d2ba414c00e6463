"""The process of a component: `python -m mlops_pipeline.serving.custom.worker FD FOLDER SCRATCH`.

It answers one request after another on the socket FD. SCRATCH is its working directory. Standard
input is a pipe that the server holds: if it ends, this process ends too, with all that it has
started, also in the middle of a request.
"""

import os
import shutil
import signal
import socket
import sys
import threading
from pathlib import Path


def main() -> int:
    """Answer requests until the server is gone."""
    channel, folder = socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2])
    scratch = Path(sys.argv[3])
    _end_with_the_server(scratch if scratch != folder else None)
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # Of what the class starts, too.
    os.chdir(scratch)
    # The component's own packages come first, also its numpy: so nothing may be imported before.
    sys.path[:0] = [str(folder), str(folder / "site-packages")]
    from mlops_pipeline.serving.custom.host import answer_all

    return answer_all(channel, folder)


def _end_with_the_server(scratch: Path | None) -> None:
    """Watch the pipe on standard input in a thread; the class gets an empty input.

    The server deletes `scratch` if it ends this process, but not if it ends first.
    """
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        os.read(pipe, 1)
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)  # Its links, not what they lead to.
        if os.getpgrp() == os.getpid():  # The group is ours: so the server starts it.
            os.killpg(0, signal.SIGKILL)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
