"""
A small FTP server (RFC 959, RFC 2428): one file for everybody, by passive and active mode.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

from tests.e2e.lab.namespace import Namespace

TEXT = b"a file that was sent by FTP\n"

_WAIT_SECONDS = 3.0
"""Seconds for a data connection."""


class FTPServer:
    """
    What a L{tests.e2e.lab.servers.Peer} is to call for each control connection.

    @ivar told: the addresses that clients asked it to connect to.
    """

    def __init__(self, namespace: Namespace) -> None:
        self.told: list[str] = []
        self._namespace = namespace

    def __call__(self, control: socket.socket) -> None:
        """Serve one client until it leaves."""
        data: Callable[[], socket.socket] | None = None
        lines = control.makefile("rwb", buffering=0)
        lines.write(b"220 Ready\r\n")
        while line := lines.readline().decode():
            verb, _, rest = line.strip().partition(" ")
            answer = {
                "USER": "331 Password?",
                "PASS": "230 Welcome",
                "PWD": '257 "/"',
                "TYPE": "200 Good",
                "SIZE": f"213 {len(TEXT)}",
                "QUIT": "221 Bye",
            }.get(verb, "502 Not here")
            if verb in ("EPSV", "PASV"):
                data, answer = self._passive(control, verb)
            elif verb in ("EPRT", "PORT"):
                data, answer = self._active(verb, rest), "200 Good"
            elif verb == "RETR" and data is not None:
                lines.write(b"150 Here it comes\r\n")
                answer = _send(data)
            lines.write(f"{answer}\r\n".encode())

    def _passive(
        self, control: socket.socket, verb: str
    ) -> tuple[Callable[[], socket.socket], str]:
        listener = self._namespace.makeSocket(socket.AF_INET6)
        listener.settimeout(_WAIT_SECONDS)
        listener.bind(("::", 0))
        listener.listen(1)
        port = listener.getsockname()[1]

        def accept() -> socket.socket:
            with listener:
                return listener.accept()[0]

        if verb == "EPSV":
            return accept, f"229 Entering (|||{port}|)"
        host = control.getsockname()[0].removeprefix("::ffff:").replace(".", ",")
        return accept, f"227 Entering ({host},{port >> 8},{port & 255})"

    def _active(self, verb: str, rest: str) -> Callable[[], socket.socket]:
        if verb == "EPRT":
            _, _, host, port, _ = rest.split(rest[0])
            place = host, int(port)
        else:
            *host4, high, low = re.findall(r"\d+", rest)
            place = ".".join(host4), int(high) << 8 | int(low)
        self.told.append(place[0])
        return lambda: self._namespace.connect(place, _WAIT_SECONDS)


def _send(data: Callable[[], socket.socket]) -> str:
    """Send the file over a data connection that is still to be opened."""
    try:
        with data() as connection:
            connection.sendall(TEXT)
    except OSError:
        return "425 No data connection"
    return "226 Done"
