"""Logs in to a cluster with a program that the kubeconfig names.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mlops_pipeline.clients.errors import AccessDeniedError, CommandError
from mlops_pipeline.clients.process import run

_EARLY = timedelta(seconds=10)
_CONFIG = "client.authentication.k8s.io/exec"
"""Name of the cluster's extension for the program."""


@dataclass(frozen=True)
class Login:
    """Result of a login program."""

    user: Mapping[str, Any]
    """Entry that replaces it in the kubeconfig: a token, or a certificate with its key."""
    until: datetime | None = None
    """When it expires; None: unknown."""

    def is_over(self) -> bool:
        """Say whether it has expired or is about to."""
        return self.until is not None and datetime.now(UTC) > self.until - _EARLY


def log_in(
    program: Mapping[str, Any], *, cluster: Mapping[str, Any], folder: Path, timeout: float
) -> Login:
    """Run the program (`exec` of a kubeconfig's user) and return its result.

    `cluster` is the entry in the kubeconfig. `folder` is the folder of the kubeconfig, where a path
    of the program starts. `timeout` is in seconds. Its arguments and output are not shown, because
    both may be secret.

    Raises:
        AccessDeniedError: it is missing, fails, times out, or its output is invalid.
    """
    command = str(program.get("command", ""))
    what = f"log in to {cluster.get('server', 'the cluster')} by `{Path(command).name}`"
    if program.get("interactiveMode") == "Always":
        raise AccessDeniedError(
            f"could not {what}: it requires a terminal (interactiveMode: Always), and there is "
            "none; use a kubeconfig with a non-interactive login"
        )
    try:
        printed = run(
            [_located(command, folder), *map(str, program.get("args") or ())],
            purpose=what,
            timeout=timeout,
            environment={
                **_variables(program),
                "KUBERNETES_EXEC_INFO": _info(program, cluster, folder),
            },
            remedy=str(
                program.get("installHint") or "install it, or correct `exec` in the kubeconfig"
            ),
            secret=True,
        )
    except CommandError as error:
        raise AccessDeniedError(
            f"{error}\ncheck whether `kubectl` can log in with the same kubeconfig; the login may "
            "have expired"
        ) from error
    return _given(printed, str(program.get("apiVersion", "")), what)


def _located(command: str, folder: Path) -> str:
    """Return the program's path; one without a slash is searched on PATH."""
    return str(folder / command) if "/" in command else command


def _variables(program: Mapping[str, Any]) -> dict[str, str]:
    return {str(v["name"]): str(v["value"]) for v in program.get("env") or ()}


def _info(program: Mapping[str, Any], cluster: Mapping[str, Any], folder: Path) -> str:
    """Return the value of the program's variable KUBERNETES_EXEC_INFO."""
    spec: dict[str, Any] = {"interactive": False}
    if program.get("provideClusterInfo"):
        spec["cluster"] = _about(cluster, folder)
    version = program.get("apiVersion", "")
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": spec})


def _about(cluster: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    extensions = cluster.get("extensions") or ()
    config = [e.get("extension") for e in extensions if e.get("name") == _CONFIG]
    about = {key: value for key, value in cluster.items() if key != "extensions"}
    if file := about.pop("certificate-authority", ""):
        about["certificate-authority-data"] = base64.b64encode(
            (folder / file).read_bytes()
        ).decode()
    return {**about, **({"config": config[0]} if config else {})}


def _given(printed: str, version: str, what: str) -> Login:
    try:
        answer = json.loads(printed)
        status = answer["status"]
        if (answer["kind"], answer["apiVersion"]) == ("ExecCredential", version):
            return Login(_user(status), _moment(status.get("expirationTimestamp")))
    except (ValueError, LookupError, TypeError, AttributeError):
        pass  # Neither the error nor its cause may contain the output.
    wrong = (
        f"expected it to print an ExecCredential of {version} with a token, or a certificate "
        "and key"
    )
    raise AccessDeniedError(f"could not {what}: {wrong}; check the version of the program")


def _user(status: Mapping[str, Any]) -> dict[str, Any]:
    if token := status.get("token"):
        return {"token": str(token)}
    pairs = {"client-certificate-data": "clientCertificateData", "client-key-data": "clientKeyData"}
    return {ours: base64.b64encode(status[t].encode()).decode() for ours, t in pairs.items()}


def _moment(text: str | None) -> datetime | None:
    """Return the RFC 3339 time without fractions of a second."""
    plain = re.sub(r"\.\d+", "", text or "").replace("Z", "+00:00")
    return datetime.fromisoformat(plain) if plain else None
