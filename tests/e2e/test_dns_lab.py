"""
The DNS servers of the laboratory that speak TLS and HTTPS, without the daemon.
"""

from __future__ import annotations

from nanotun.upstream.tlsstream import makeContext
from tests.e2e.lab import baddns, tlsfront, toydns
from tests.e2e.lab.dnsdist import Dnsdist
from tests.e2e.lab.nameserver import HTTPS_PORT, HUGE_RECORDS, PATH, TLS_PORT, Answer, ask, kdig
from tests.e2e.lab.tlsdns import DohServer, DotServer
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6
from tests.e2e.schemes import ProgramsCase

NAMES = (f"DNS:{baddns.NAME}", f"IP:{IPV4.world}", f"IP:{IPV6.world}", f"IP:{IPV4.direct}")


class ServersTests(ProgramsCase):
    """As kdig sees them, which checks the certificates."""

    programs = ("dnsdist", "openssl")

    def setUp(self) -> None:
        """Make the certificates."""
        super().setUp()
        self.ca = tlsfront.authority(self.directory)
        self.shown = tlsfront.certificate(self.directory, self.ca, NAMES, "dns")

    def options(self, https: bool, port: int = 0) -> tuple[str, ...]:
        """How kdig asks."""
        way = (f"+https={PATH}",) if https else ("+tls",)
        port = port or (HTTPS_PORT if https else TLS_PORT)
        return (*way, "-p", str(port), f"+tls-ca={self.ca.cert}", f"+tls-host={baddns.NAME}")

    def answer(self, host: str, https: bool, *question: str, port: int = 0) -> Answer:
        """The answer of a server."""
        return ask(self.lab.world, host, *self.options(https, port), *question)

    def test_real(self) -> None:
        """Unbound and dnsdist answer over TLS and HTTPS, and unbound over nothing else if told."""
        server = self.nameServer(IPV4.world, IPV6.world, shown=self.shown)
        self.started(Dnsdist(self.lab.world, self.directory, IPV4.direct, IPV4.world, self.shown))
        for host in (IPV4.world, IPV6.world, IPV4.direct):
            for https in (False, True):
                self.assertEqual(self.answer(host, https, "host.lab", "A").data, ["10.1.2.3"])
                huge = self.answer(host, https, "huge.lab", "TXT")
                self.assertEqual(len(set(huge.data)), HUGE_RECORDS, (host, https))
        self.assertIn((IPV4.world, "host.lab"), server.queries())
        server.stop()
        self.nameServer(IPV4.world, shown=self.shown, plain=False)
        for transport in ("+notcp", "+tcp"):
            self.assertEqual(kdig(self.lab.world, IPV4.world, transport, "host.lab", wait=1), [])
        self.assertEqual(self.answer(IPV4.world, False, "host.lab", "A").data, ["10.1.2.3"])

    def test_closes(self) -> None:
        """Dnsdist closes a connection after one or two queries if told to."""
        self.nameServer(IPV4.world)
        self.started(
            Dnsdist(self.lab.world, self.directory, IPV4.direct, IPV4.world, self.shown, each=1)
        )
        context = makeContext(str(self.ca.cert), protocols=())
        connection = self.lab.world.connect((IPV4.direct, TLS_PORT))
        answers = 0
        with context.wrap_socket(connection, server_hostname=baddns.NAME) as tls:
            with self.assertRaises(OSError):
                for answers in range(5):
                    tls.sendall(toydns.framed(toydns.query("host.lab", answers)))
                    toydns.readFramed(tls)
        self.assertIn(answers, (1, 2))

    def test_ours(self) -> None:
        """Our own servers answer, too, and remember what they were asked."""
        for server in (DotServer(self.shown), DohServer(self.shown)):
            peer = self.peer(server)
            https = isinstance(server, DohServer)
            for family in FAMILIES:
                got = self.answer(family.world, https, "host.lab", "A", port=peer.port)
                self.assertEqual(got.data, ["10.1.2.3"])
            self.assertEqual(
                (server.opened, server.resumed, len(server.queries)), (2, [False] * 2, 2)
            )

    def test_bad(self) -> None:
        """Of a server that misbehaves kdig takes no answer, but for those that answer after all."""
        made = baddns.certificates(self.directory)
        for manner in baddns.manners(made):
            handler = baddns.Counted(manner.handler)
            port = self.peer(handler).port
            way: tuple[str, ...] = ("+tcp", "-p", str(port))
            if manner.scheme != "tcp":
                way = self.options(manner.scheme == "https", port)
            got = kdig(self.lab.world, IPV4.world, *way, "host.lab", "A", wait=2)
            right = bool(got) and got[0].data == ["10.1.2.3"]
            self.assertEqual((manner.name, right), (manner.name, manner.answers))
            self.assertEqual((manner.name, handler.opened), (manner.name, 1))
