"""
Tests of L{nanotun.upstream.tlsstream}, against a server of the same library.
"""

from __future__ import annotations

import ssl

from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import ConfigError
from nanotun.upstream.tlsstream import TlsStream, makeContext
from tests.unit.upstream.tls_cases import CA, CERTIFICATES, TlsServer


def shake(stream: TlsStream, server: TlsServer) -> None:
    """Do the handshake of both sides."""
    while not stream.handshake():
        stream.feed(server.receive(stream.outgoing()))
    stream.feed(server.receive(stream.outgoing()))
    stream.read()


class ContextTests(SynchronousTestCase):
    """L{makeContext}."""

    def test_wrongFile(self) -> None:
        """
        A file that is missing or holds no certificate is an error with its path.
        """
        for path, complaint in (
            ("/nowhere/ca.pem", "No such file"),
            (str(CERTIFICATES / "README"), "no certificate"),
        ):
            text = str(self.assertRaises(ConfigError, makeContext, path, False))
            self.assertIn(path, text)
            self.assertIn(complaint, text)
            self.assertIn("check ca in the proxy's URL", text)

    def test_trusted(self) -> None:
        """
        The same certificates are good on each version of Python: the server's own is enough if it
        is trusted, and a CA needs no key usage.
        """
        make = ssl.create_default_context

        def strict(cafile: str | None) -> ssl.SSLContext:
            context = make(cafile=cafile)
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            return context

        self.patch(ssl, "create_default_context", strict)
        context = makeContext(str(CERTIFICATES / "proxy.pem"))
        shake(TlsStream(context, "proxy.example"), TlsServer())
        self.assertFalse(context.verify_flags & ssl.VERIFY_X509_STRICT)

    def test_given(self) -> None:
        """The error names the place where the path was set, also if that is no proxy's URL."""
        error = self.assertRaises(ConfigError, makeContext, "/nowhere", given="ca of some server")
        self.assertIn("check ca of some server.", str(error))

    def test_protocols(self) -> None:
        """The server hears of the protocols that are wanted, and of none if there are none."""
        for protocols, chosen in ((("h2",), "h2"), (("http/1.1",), "http/1.1"), ((), None)):
            server = TlsServer(protocols=("h2", "http/1.1"))
            stream = TlsStream(makeContext(CA, protocols=protocols), "proxy.example")
            shake(stream, server)
            self.assertEqual(stream.protocol, chosen)


class ResumptionTests(SynchronousTestCase):
    """The session of a L{TlsStream}."""

    def resumed(self, version: ssl.TLSVersion) -> None:
        """Two connections to servers that share their tickets' keys; the second resumes."""
        first = TlsServer(version)
        context = makeContext(CA)
        stream = TlsStream(context, "proxy.example")
        shake(stream, first)
        stream.feed(first.say(b"x"))
        self.assertEqual((stream.read(), stream.resumed), (b"x", False))
        second = TlsServer(version, first.context)
        again = TlsStream(context, "proxy.example", stream.session)
        shake(again, second)
        self.assertTrue(again.resumed)

    def test_newer(self) -> None:
        """With TLS 1.3 a connection goes on with the session of the one before."""
        self.resumed(ssl.TLSVersion.TLSv1_3)

    def test_older(self) -> None:
        """With TLS 1.2 it does, too."""
        self.resumed(ssl.TLSVersion.TLSv1_2)

    def test_none(self) -> None:
        """There is no session before the server has given one."""
        stream = TlsStream(makeContext(CA), "proxy.example")
        self.assertIsNone(stream.session)
        server = TlsServer()
        stream.handshake()
        stream.feed(server.receive(stream.outgoing()))
        self.assertTrue(stream.handshake())
        self.assertIsNone(stream.session)


class StreamTests(SynchronousTestCase):
    """L{TlsStream} after its handshake."""

    def setUp(self) -> None:
        """Connect."""
        self.server = TlsServer()
        self.stream = TlsStream(makeContext(CA, False), "proxy.example")
        while not self.stream.handshake():
            self.stream.feed(self.server.receive(self.stream.outgoing()))
        self.stream.write(b"x")
        self.stream.feed(self.server.receive(self.stream.outgoing()))
        self.assertEqual(self.stream.read(), b"")

    def test_large(self) -> None:
        """
        Data of many records arrives in both directions.
        """
        data = bytes(range(256)) * 2000
        self.stream.write(data)
        self.server.receive(self.stream.outgoing())
        self.assertEqual(self.server.heard, b"x" + data)
        self.stream.feed(self.server.say(data))
        self.assertEqual(self.stream.read(), data)

    def test_halfClose(self) -> None:
        """
        After the client has ended, the server can go on, in pieces of any size, and
        end.
        """
        self.stream.close()
        self.server.receive(self.stream.outgoing())
        self.assertTrue(self.server.ended)
        data = bytes(100_000)
        wire = self.server.say(data)
        found = b""
        for start in range(0, len(wire), 1000):
            self.stream.feed(wire[start : start + 1000])
            found += self.stream.read()
        self.assertEqual(found, data)
        self.assertFalse(self.stream.ended)
        self.stream.feed(self.server.end())
        self.assertEqual(self.stream.read(), b"")
        self.assertTrue(self.stream.ended)

    def test_halfClosed(self) -> None:
        """
        After the server has ended, the client can go on and end.
        """
        self.stream.feed(self.server.say(b"last") + self.server.end())
        self.assertEqual(self.stream.read(), b"last")
        self.assertTrue(self.stream.ended)
        self.stream.write(b"more")
        self.stream.close()
        self.server.receive(self.stream.outgoing())
        self.assertEqual(self.server.heard, b"xmore")

    def test_wrongBehindGood(self) -> None:
        """
        Bytes before a broken record, or an alert, are not lost.
        """
        good = self.server.say(b"good")
        self.stream.feed(good + b"\x17\3\3\0\x20" + bytes(32))
        self.assertEqual(self.stream.read(), b"good")
        self.assertRaises(ssl.SSLError, self.stream.read)
