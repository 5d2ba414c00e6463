"""A platform as a version before launchers, copies and certificates left it, or ran it."""

import configparser
import os
import shlex
import subprocess
import sys
from pathlib import Path

from mlops_pipeline.platforms.embedded.programs import FINGERPRINT, MARK
from mlops_pipeline.platforms.embedded.state import EmbeddedFolder
from mlops_pipeline_tests.embedded.rig import Rig

NEWER = {FINGERPRINT, "BOOTSTRAP_FINGERPRINT", "CERTIFICATE_FINGERPRINT"}
PROGRAM = """\
[program:{name}]
command={command}
directory={directory}
environment={environment}
autostart=true
autorestart={autorestart}
exitcodes={exitcodes}
startsecs=1
startretries=100000
stopwaitsecs={stopwaitsecs}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={logs}/{name}.log
stdout_logfile_maxbytes=2MB
stdout_logfile_backups=1
"""
SUPERVISORD = """\
[supervisord]
identifier={identity}
directory={run}
pidfile={run}/supervisord.pid
logfile={logs}/supervisor.log
logfile_maxbytes=2MB
logfile_backups=1
umask=077
minfds=4096
nocleanup=true
[unix_http_server]
file={socket}
chmod=0600
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[include]
files=programs/*.conf
"""


def leave(rig: Rig) -> None:
    """Bring the platform down and turn its folder into what that version would have left."""
    rig.platform.down()
    state = EmbeddedFolder.at(rig.home)
    store = [state.object_store / name for name in ("certificate.pem", "certificate.key")]
    newer = [*state.home.rglob(".*.copy"), *state.run.glob("*.lock"), *store]
    for path in (*newer, state.object_store / "security.toml"):
        path.unlink()
    for path in state.programs.glob("*.conf"):
        path.write_text(_program(path, state))
    path = state.supervisor / "supervisord.conf"
    socket = state.socket("sv.sock")
    folders = {"run": state.run, "logs": state.logs, "socket": socket}
    path.write_text(SUPERVISORD.format(identity=state.identity, **folders))


def start(rig: Rig) -> None:
    """Start that version's supervisord, as it did."""
    state = EmbeddedFolder.at(rig.home)
    subprocess.run(
        [
            *("/usr/bin/env", "-i", f"PATH={os.environ['PATH']}", f"{MARK}={state.identity}"),
            *(sys.executable, "-m", "supervisor.supervisord"),
            *("-c", str(state.supervisor / "supervisord.conf")),
        ],
        check=True,
        timeout=60,
        cwd=state.run,
    )


def _program(path: Path, state: EmbeddedFolder) -> str:
    """Return the file without the launcher, and for the store without what closes its ports."""
    from supervisor.datatypes import dict_of_key_value_pairs

    parser = configparser.RawConfigParser()
    parser.read_string(path.read_text())
    (section,) = parser.sections()
    now = dict(parser[section])
    _, found, command = now["command"].partition(f"{path.stem}.log {now['stopwaitsecs']} ")
    assert found, now["command"]
    words = [word for word in shlex.split(command) if word != "-disableHttp"]
    variables = {
        name: value
        for name, value in dict_of_key_value_pairs(now.pop("environment")).items()
        if name not in NEWER
    }
    return PROGRAM.format(
        **{**now, "command": shlex.join(words)},
        name=path.stem,
        environment=",".join(f"{name}='{value}'" for name, value in sorted(variables.items())),
        logs=state.logs,
    )
