"""Finds the proxy for an API server, with the same rules as kubectl and helm.

These are Go's rules: https://pkg.go.dev/golang.org/x/net/http/httpproxy#Config.
"""

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from mlops_pipeline.clients.errors import ConfigurationError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy."""

    url: str
    """Without a password."""
    login: str = ""
    """`name:password`; empty if it requires none."""

    def __repr__(self) -> str:
        return f"Proxy({self.url!r})"


def find(server: str, *, named: str) -> Proxy | None:
    """Return the proxy for the URL `server`: `named`, otherwise the one in the environment.

    The environment's proxy is not used for this machine and the exceptions in NO_PROXY. A named
    proxy, such as the `proxy-url` of a kubeconfig, is used for every server.

    Raises:
        ConfigurationError: it is not an HTTP proxy. The password is not shown.
    """
    if named:
        return _parsed(named, of="the proxy-url in the kubeconfig")
    parts = urlsplit(server)
    chosen = _variable(f"{parts.scheme}_proxy")
    if not chosen or _is_left_out(parts):
        return None
    return _parsed(chosen, of=f"{parts.scheme.upper()}_PROXY")


def _parsed(text: str, *, of: str) -> Proxy:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port, host, scheme = parts.port, parts.hostname, parts.scheme
    except ValueError:  # The error may quote the password.
        port, host, scheme = None, None, ""
    if scheme not in _PORTS or not host:
        raise ConfigurationError(
            f"{of} is not a supported proxy: expected http://HOST:PORT or "
            f"https://…{f', got a {scheme} address' if scheme not in ('', *_PORTS) else ''}; use "
            "another, or exclude the server with NO_PROXY"
        )
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    shown = f"[{host}]" if ":" in host else host
    return Proxy(f"{scheme}://{shown}{f':{port}' if port else ''}", login)


def _variable(name: str) -> str:
    return os.environ.get(name.upper()) or os.environ.get(name) or ""


def _is_left_out(server: SplitResult) -> bool:
    host = (server.hostname or "").rstrip(".")
    address, port = _address(host), server.port or _PORTS.get(server.scheme)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    entries = (entry.strip().lower() for entry in _variable("no_proxy").split(","))
    return any(_covers(entry, host, port) for entry in entries if entry)


def _covers(entry: str, host: str, port: int | None) -> bool:
    """Say whether an entry of NO_PROXY matches a host: `*`, a network, an address, or a name.

    A name also matches its subdomains; with a leading dot or `*.`, only its subdomains. A port
    after an address or a name must match the server's port.
    """
    if entry == "*":
        return True
    address = _address(host)
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass
    else:
        return address is not None and address in network
    name, colon, asked = entry.rpartition(":")
    if not colon:
        name, asked = entry, ""
    if asked and asked != str(port):
        return False
    if (meant := _address(name.strip("[]"))) is not None:
        return meant == address
    below = f".{name.removeprefix('*').removeprefix('.')}"
    return len(below) > 1 and (host.endswith(below) or (name[0] not in "*." and host == name))


def _address(host: str) -> "ipaddress.IPv4Address | ipaddress.IPv6Address | None":
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
