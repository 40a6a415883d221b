"""
The example of docs/extending.md, installed as a package, with real traffic.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path

from tests.e2e import schemes
from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab.badsocks import relay
from tests.e2e.lab.console import say
from tests.e2e.lab.nameserver import ask
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.servers import Peer
from tests.e2e.lab.topology import IPV4
from tests.e2e.schemes import HOST_PORT, NET_PORT, REFUSED_PORT
from tests.extending import installExample


def serveLine(namespace: Namespace, connection: socket.socket) -> str:
    """
    The example's proxy.

    @return: the host that it was asked for; empty if the client left without a request.
    """
    request = b""
    while not request.endswith(b"\n"):
        more = connection.recv(1)
        if not more:
            return ""  # As a check of the proxy does.
        request += more
    word, host, port = request.decode().split()
    assert word == "CONNECT", request
    try:
        outside = namespace.connect((host, int(port)))
    except OSError as error:
        connection.sendall(f"{error.strerror}\n".encode())
        return host
    with outside:
        connection.sendall(b"OK\n")
        relay(connection, outside)
    return host


class InstalledCase(TunnelCase):
    """A test for which the example is installed."""

    def setUp(self) -> None:
        """Install it where Python and twistd find it."""
        super().setUp()
        before = os.environ.get("PYTHONPATH")
        path = filter(None, [str(installExample(Path(self.directory, "example"))), before])
        os.environ["PYTHONPATH"] = os.pathsep.join(path)
        self.addCleanup(self._restore, before)

    def _restore(self, before: str | None) -> None:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before

    def lineProxy(self) -> Peer:
        """The proxy, in its namespace."""
        return self.peer(lambda connection: serveLine(self.lab.proxy, connection), self.lab.proxy)


class LineChecks(InstalledCase, schemes.SchemeChecks):
    """The example has to do what every scheme has to."""

    # The proxy has one word for all that can go wrong behind it.
    errors = dict.fromkeys((REFUSED_PORT, HOST_PORT, NET_PORT), errno.ECONNREFUSED)

    def proxyURL(self) -> str:
        return f"line://{IPV4.proxy}:{self.lineProxy().port}"


class LineTests(InstalledCase):
    """What the example has that is not in every scheme."""

    def test_names(self) -> None:
        """The proxy is sent names, also on a connection that waited."""
        self.nameServer(IPV4.world)
        self.lab.openDirectPath()
        proxy = self.lineProxy()
        daemon = self.daemon(
            proxy=f"line://{IPV4.proxy}:{proxy.port}", dns=[IPV4.world], upstreamPool=2
        )
        (address,) = ask(self.lab.app, IPV4.gateway, "host.lab", "A").data
        for _ in range(2):
            with contextlib.suppress(OSError):
                self.lab.app.connect((address, 80), 5.0).close()
            while not (asked := proxy.result()):
                pass
            self.assertEqual(asked, "host.lab")
        self.assertEndsWell(daemon)

    def test_check(self) -> None:
        """C{nanotun check} and C{explain} read its URL."""
        config = self.directory / "line.yaml"
        config.write_text("proxy: line://proxy.example\n")
        config.chmod(0o600)
        done = say("check", str(config))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("line://proxy.example:7070", done.stdout)
        done = say("explain", "tcp", "1.1.1.1:443", "--config", str(config))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("through the proxy", done.stdout)


engines(globals(), LineChecks)
del LineChecks, InstalledCase  # trial would run the bases too
