"""
Servers of the laboratory: programs in a namespace, and L{Peer}, which calls a test's own
function for every connection.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, Child, LabError, waitUntil

START_SECONDS = 60.0


class Server:
    """
    A program that listens on one TCP port in a namespace.  The constructor returns once it
    listens.
    """

    def __init__(self, namespace: Namespace, argv: list[str], port: int, log: Path) -> None:
        """@raise LabError: it ended, or did not listen in time."""
        self.port = port
        self._child = Child(namespace.argv(argv), log)
        self.pid = self._child.pid
        try:
            waitUntil(
                lambda: self._child.status() is not None or namespace.listening(port),
                START_SECONDS,
                f"{argv[0]} listens on {port}",
            )
            if self._child.status() is not None:
                raise LabError(f"{argv[0]} ended at once: {self.output().strip()}")
        except BaseException:
            self.stop()
            raise

    def output(self) -> str:
        """Its output so far."""
        return self._child.output()

    def stop(self) -> None:
        """End it; may be called twice."""
        self._child.stop()


class WebServer(Server):
    """The web server, L{tests.e2e.lab.webserver}."""

    def __init__(self, namespace: Namespace, directory: Path, port: int = 8080) -> None:
        argv = [sys.executable, "-m", "tests.e2e.lab.webserver", str(port)]
        super().__init__(namespace, argv, port, directory / f"web-{port}.log")

    def peers(self) -> list[str]:
        """The peer address of every connection so far, in order."""
        return [line for line in self.output().splitlines() if " " not in line]

    def requests(self) -> list[str]:
        """Every request so far: C{"PEER METHOD PATH"}."""
        return [line for line in self.output().splitlines() if " " in line]


class Iperf(Server):
    """An iperf3 server."""

    def __init__(self, namespace: Namespace, directory: Path, port: int = 5201) -> None:
        super().__init__(
            namespace, ["iperf3", "-s", "-p", str(port)], port, directory / "iperf3.log"
        )


class Peer:
    """
    Listens on all addresses of a namespace, IPv4 and IPv6, and calls C{handler(connection)} in
    a thread for each connection.  The connection is closed when the handler returns.

    @ivar port: the TCP port, chosen by the kernel by default.
    @ivar results: what the handlers returned, or the exceptions that they raised.
    """

    def __init__(
        self,
        namespace: Namespace,
        handler: Callable[[socket.socket], object],
        port: int = 0,
        timeout: float = PATIENCE,
    ) -> None:
        """@param timeout: seconds for each call on the connection."""
        self.results: queue.Queue[object] = queue.Queue()
        self._handler = handler
        self._timeout = timeout
        self._open: set[socket.socket] = set()
        self._listener = namespace.makeSocket(socket.AF_INET6)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._listener.bind(("::", port))
        self._listener.listen(1024)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # stop() shut the listener down
            connection.settimeout(self._timeout)
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            result = self._handler(connection)
        except Exception as error:
            result = error
        finally:
            self._open.discard(connection)
            connection.close()
        self.results.put(result)

    def result(self, timeout: float = PATIENCE) -> object:
        """
        Wait for the next handler to end, and return what it returned.

        @raise LabError: none ended within C{timeout} seconds.
        @raise Exception: what the handler raised.
        """
        try:
            result = self.results.get(timeout=timeout)
        except queue.Empty:
            raise LabError(f"no connection was served to its end within {timeout:g} s") from None
        if isinstance(result, Exception):
            raise result
        return result

    def request(self) -> object:
        """The next L{result} that is not empty: a check of a proxy's health asks for nothing."""
        result = self.result()
        while not result:
            result = self.result()
        return result

    def stop(self) -> None:
        """Accept no more connections, and close those that are open."""
        # close(2) alone would leave the accepting thread asleep in accept(2).
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(5)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
