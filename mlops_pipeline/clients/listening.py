"""Who listens on a TCP port, asked of Linux itself: `sock_diag(7)`, in 0.1 ms.

psutil reads `/proc/net/tcp` for that, for which the kernel goes through its table of all
connections: 10 ms.
"""

import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_SOCK_DIAG = 4
"""The netlink protocol."""
_BY_FAMILY, _DONE, _ERROR = 20, 3, 2
"""Types of messages."""
_REQUEST, _DUMP = 0x1, 0x300
_LISTENING = 1 << 10
"""The bit of the state TCP_LISTEN."""
_HEADER = struct.Struct("=IHHII")
_ASKED = struct.Struct("=BBBxI2H16s16sI2I")
"""`struct inet_diag_req_v2`: family, protocol, extensions, states, and a socket's identity."""
_PORT, _ADDRESS, _USER, _INODE = slice(4, 6), slice(8, 24), slice(64, 68), slice(68, 72)
"""In `struct inet_diag_msg`."""
_LOOPBACK = (
    bytes([127, 0, 0, 1]) + bytes(12),
    bytes(10) + bytes([255, 255, 127, 0, 0, 1]),
    bytes(16),
)
"""127.0.0.1, the same in IPv6, and any address."""
_TIMEOUT = 1.0
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def other_users_on(port: int) -> set[int]:
    """Return the ids of other users whose programs listen on a TCP port of 127.0.0.1.

    Empty on other systems than Linux: they do not say.
    """
    try:
        found = {
            user for family in (socket.AF_INET, socket.AF_INET6) for user in _users(family, port)
        }
    except (AttributeError, OSError):
        found = set(_users_in_tables(port))
    return found - {os.getuid()}


def listened_on(pids: Iterable[int]) -> set[tuple[str, int]]:
    """Return (address, port) of each TCP socket on which these processes listen.

    Raises:
        AttributeError: this is not Linux.
        OSError: the kernel does not answer, or a process has ended or belongs to another user.
    """
    held = {target for pid in pids for target in _open_files(pid)}
    return {
        (_shown(family, message[_ADDRESS]), int.from_bytes(message[_PORT], "big"))
        for family in (socket.AF_INET, socket.AF_INET6)
        for message in _listening(family)
        if f"socket:[{int.from_bytes(message[_INODE], sys.byteorder)}]" in held
    }


def _open_files(pid: int) -> Iterator[str]:
    """Yield what each file descriptor of a process refers to, such as `socket:[<inode>]`."""
    with os.scandir(f"/proc/{pid}/fd") as descriptors:
        for descriptor in descriptors:
            with suppress(FileNotFoundError):  # It was closed in between.
                yield os.readlink(descriptor.path)


def _shown(family: int, address: bytes) -> str:
    return socket.inet_ntop(family, address if family == socket.AF_INET6 else address[:4])


def _users(family: int, port: int) -> Iterator[int]:
    """Yield the user of each socket that listens on the port."""
    for message in _listening(family):
        if int.from_bytes(message[_PORT], "big") == port and message[_ADDRESS] in _LOOPBACK:
            yield int.from_bytes(message[_USER], sys.byteorder)


def _users_in_tables(port: int) -> Iterator[int]:
    """Yield the same from `/proc/net`, for a kernel that does not answer."""
    for table in _TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for _, local, _, state, _, _, _, user, *_ in map(str.split, lines):
            address, _, number = local.partition(":")
            is_local = bytes.fromhex(address)[-4:] in (bytes([1, 0, 0, 127]), bytes(4))
            if state == "0A" and is_local and int(number, 16) == port:
                yield int(user)


def _listening(family: int) -> Iterator[bytes]:
    asked = _ASKED.pack(
        family, socket.IPPROTO_TCP, 0, _LISTENING, 0, 0, bytes(16), bytes(16), 0, *[0xFFFFFFFF] * 2
    )
    length = _HEADER.size + len(asked)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as kernel:
        kernel.settimeout(_TIMEOUT)
        kernel.send(_HEADER.pack(length, _BY_FAMILY, _REQUEST | _DUMP, 1, 0) + asked)
        while True:
            for kind, message in _messages(kernel.recv(1 << 16)):
                if kind == _ERROR:
                    raise OSError("the kernel does not answer")
                if kind == _DONE:
                    return
                yield message


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]
