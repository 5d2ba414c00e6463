"""TCP ports of this machine: which are free, and which processes use the others."""

import errno
import os
import socket
import stat
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlops_pipeline.clients.errors import ConfigurationError
from mlops_pipeline.clients.listening import listened_on

LOOPBACK = "127.0.0.1"
_LAST = 65_535


def is_free(port: int) -> bool:
    """Say whether a server could listen on `port` of 127.0.0.1 now."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((LOOPBACK, port))
            candidate.listen(1)
        except OSError:
            return False
        return True


def is_taken(port: int, *, address: str = LOOPBACK) -> bool:
    """Say whether any user's program listens on `port` of an address of this machine.

    This also works if this user may not listen there: a container engine that runs as root may.

    Raises:
        ConfigurationError: this machine does not have this address.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((address, port))
            candidate.listen(1)
        except PermissionError:
            return _answers(port, address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise ConfigurationError(
                f"could not listen on {address} ({error.strerror}): this machine does not have "
                "this address; choose another in the settings"
            ) from error
    return False


def is_reachable(address: str, port: int, *, timeout: float = 1.0) -> bool:
    """Say whether anything answers there within `timeout` seconds, even with a refusal."""
    try:
        socket.create_connection((address, port), timeout=timeout).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


def _answers(port: int, address: str) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def accepts(path: str) -> bool:
    """Say whether a program accepts connections on the unix socket `path`."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(1)
        try:
            caller.connect(path)
        except OSError:
            return False
        return True


def is_abandoned(path: Path) -> bool:
    """Say whether `path` is a unix socket of this user without a listening process."""
    try:
        found = path.lstat()
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.getuid():
            return False
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(1)
            caller.connect(str(path))
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def listen(host: str, first: int, *, tries: int = 50) -> socket.socket:
    """Listen on the first free TCP port from `first` on, of an address or name of this machine.

    Raises:
        ConfigurationError: none of `tries` ports is free, or listening there is not possible.
    """
    last = min(first + tries - 1, _LAST)
    for port in range(first, last + 1):
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, kind, protocol, _, address = found[0]
            return _listen(socket.socket(family, kind, protocol), address)
        except PermissionError as error:
            raise ConfigurationError(
                f"could not listen on port {port} of {host}: {error.strerror}. This user may not "
                "use ports below 1024; choose a higher one"
            ) from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConfigurationError(
                    f"could not listen on port {port} of {host}: {error.strerror}. Choose an "
                    "address of this machine"
                ) from error
    raise ConfigurationError(
        f"could not listen on {host}: all ports from {first} to {last} are in use; choose another"
    )


def _listen(listener: socket.socket, address: Any) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def first_free(
    first: int,
    *,
    besides: Collection[int] = (),
    tries: int = 200,
    is_free: Callable[[int], bool] = is_free,
) -> int:
    """Return the first free port from `first` on that is not in `besides`.

    Raises:
        ConfigurationError: none of the next `tries` ports is free.
    """
    for port in range(first, min(first + tries, _LAST + 1)):
        if port not in besides and is_free(port):
            return port
    raise ConfigurationError(
        f"all ports from {first} to {min(first + tries - 1, _LAST)} of {LOOPBACK} are in use; "
        "choose another first port in the settings"
    )


def listeners(pid: int) -> set[tuple[str, int]]:
    """Return (address, port) of each listening socket of a process and its children.

    Empty if the process does not exist or belongs to another user.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        with suppress(AttributeError, OSError):  # Not Linux, or a member of the family has ended.
            return listened_on(member.pid for member in family)
        connections = [c for member in family for c in member.net_connections(kind="tcp")]
    except psutil.Error:
        return set()
    return {(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN}
