"""Programs under supervisord, written as its configuration files.

Format: http://supervisord.org/configuration.html
"""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlops_pipeline.clients import launcher, log_rotation
from mlops_pipeline.clients.errors import ConfigurationError

MARK = "MLOPS_PIPELINE_SUPERVISED"
"""In the environment of every process below supervisord: the state folder's identity."""
FINGERPRINT = "MLOPS_PIPELINE_PROGRAM"
"""In the environment of a program's process: a digest of the configuration it was started with."""
GRACE = 2.5
"""Seconds for programs to end that a killed supervisord has left behind."""
SUPERVISOR_LOG = "supervisor.log"
_MOST_BYTES = 2_000_000
"""Of a log; then it is moved aside."""


@dataclass(frozen=True)
class Program:
    """A process that is restarted whenever it dies, unless it exits with a final code."""

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    final_exit_codes: tuple[int, ...] = ()
    """Exit codes after which a restart cannot help."""
    stop_seconds: int = 10
    """Between SIGTERM and SIGKILL."""


def render(program: Program, *, lock: Path, logs: Path) -> str:
    """Return the program's configuration file; the process that is it holds `lock`.

    Raises:
        ConfigurationError: a value in its environment that the format cannot hold.
    """
    restart = "unexpected" if program.final_exit_codes else "true"
    codes = ",".join(map(str, program.final_exit_codes)) or "0"
    variables = ",".join(
        f"{name}={_quoted(name, value)}" for name, value in sorted(program.environment.items())
    )
    command = (
        *(sys.executable, "-I", launcher.__file__, str(lock), str(logs / f"{program.name}.log")),
        *(str(program.stop_seconds), *program.command),
    )
    lines = [
        f"[program:{program.name}]",
        f"command={_escaped(shlex.join(command))}",
        f"directory={_escaped(str(program.directory))}",
        f"environment={variables}",
        "autostart=true",
        f"autorestart={restart}",
        f"exitcodes={codes}",
        # What dies within a second is started again after ever longer pauses, without end: after
        # an hour of failures they are a minute and a half. Nothing starts in a tight loop.
        "startsecs=1",
        "startretries=100000",
        f"stopwaitsecs={program.stop_seconds}",
        "stopasgroup=true",
        "killasgroup=true",
        "redirect_stderr=true",
        "stdout_logfile=NONE",
    ]
    return "\n".join(lines) + "\n"


def parse_rendered(text: str, *, name: str) -> str:
    """Return `text` if it is a whole configuration file of the program `name`.

    Raises:
        ValueError: it breaks off, or is something else.
    """
    if not text.startswith(f"[program:{name}]\ncommand=") or not text.endswith("\n"):
        raise ValueError("it is not the complete configuration of this program")
    return text


def render_supervisord(
    *, identity: str, socket: Path, run: Path, logs: Path, open_files: int
) -> str:
    """Return supervisord's own configuration; programs are included from `programs/*.conf`."""
    lines = [
        "[supervisord]",
        f"identifier={identity}",
        f"directory={_escaped(str(run))}",
        f"pidfile={_escaped(str(run / 'supervisord.pid'))}",
        f"logfile={_escaped(str(logs / SUPERVISOR_LOG))}",
        f"logfile_maxbytes={_MOST_BYTES}",
        "logfile_backups=1",
        "umask=077",
        f"minfds={open_files}",
        "nocleanup=true",
        "[unix_http_server]",
        f"file={_escaped(str(socket))}",
        "chmod=0600",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        "[rpcinterface:logs]",
        f"supervisor.rpcinterface_factory={log_rotation.__name__}:make",
        f"folder={_escaped(str(logs))}",
        f"own={SUPERVISOR_LOG}",
        f"most_bytes={_MOST_BYTES}",
        "[include]",
        "files=programs/*.conf",
    ]
    return "\n".join(lines) + "\n"


def _quoted(name: str, value: str) -> str:
    """Quote for `environment=`, whose quotes have no escapes."""
    if any(character in value for character in "'\n;#") or value != value.strip("\"' "):
        raise ConfigurationError(
            f"could not pass {name}={value!r} to a supervised program: the value must not start or "
            "end with a quote or a space, or contain an apostrophe, a line break, `;` or `#`"
        )
    return f"'{_escaped(value)}'"


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
