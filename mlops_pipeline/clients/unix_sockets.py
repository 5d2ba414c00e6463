"""HTTP over unix sockets, which supervisord and Envoy's admin interface speak."""

import http.client
import socket
import xmlrpc.client
from pathlib import Path
from typing import Any


class UnixConnection(http.client.HTTPConnection):
    """A connection to the unix socket `address`; `timeout` is in seconds and bounds each step."""

    def __init__(self, address: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._address = address

    def connect(self) -> None:
        """Connect to the socket.

        Raises:
            OSError: nothing listens there.
        """
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._address))
        except OSError:
            self.close()
            raise


class UnixTransport(xmlrpc.client.Transport):
    """Sends calls of XML-RPC to the unix socket `address`."""

    def __init__(self, address: Path, timeout: float) -> None:
        super().__init__()
        self._address = address
        self._timeout = timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """Return a connection to the socket, whatever the host is."""
        # The base class closes the connection in this attribute.
        self._connection = host, UnixConnection(self._address, self._timeout)
        return self._connection[1]
