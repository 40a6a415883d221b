"""
Tests for L{nanotun.gateway.dns.troubles} and L{nanotun.gateway.dns.contexts}.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.dnsservers import server as parsed
from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.errors import (
    ConfigError,
    ProxyError,
    UpstreamError,
    UpstreamForbids,
    UpstreamRefused,
)
from nanotun.gateway.dns.contexts import contextsFor, keyOf, trusted
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.gateway.dns.troubles import Troubles
from nanotun.upstream import tlsstream
from tests.unit.upstream.tls_cases import CA, CERTIFICATES


class TroublesTests(SynchronousTestCase):
    """Tests for L{Troubles}."""

    def said(
        self,
        error: UpstreamError,
        via: str = "direct",
        text: str = "tls://192.0.2.1",
        ownVia: bool = False,
        mayFake: bool = False,
    ) -> tuple[type[Exception], str]:
        """The kind of error that queries get, and its sentence, which is reported once."""
        server = parsed(text)._replace(via=via)
        lines: list[str] = []
        tally = ServerTally(server)
        found = Troubles(server, ownVia, mayFake, lines.append, tally).notReached(error)
        self.assertEqual((lines, tally.trouble), ([str(found)], str(found)))
        return type(found), str(found)

    def test_direct(self) -> None:
        """A server that cannot be reached is to blame, but not this machine's lack of sockets."""
        reason = "The destination 192.0.2.1:853 cannot be reached: Connection refused."
        self.assertEqual(
            self.said(UpstreamRefused(reason)),
            (
                OSError,
                "The DNS server tls://192.0.2.1:853 cannot be reached: Connection refused; check "
                "its address and port.",
            ),
        )
        self.assertEqual(
            self.said(UpstreamError("There are no sockets.")),
            (UpstreamError, "A DNS query cannot be sent: There are no sockets."),
        )

    def test_proxy(self) -> None:
        """What the proxy says of the server is the server's fault."""
        self.assertEqual(
            self.said(UpstreamRefused("No."), "proxy"),
            (
                OSError,
                "The DNS server tls://192.0.2.1:853 cannot be asked through the proxy: No; if the "
                "proxy lets no DNS out, allow it there or set dnsVia: direct (--dns-via direct), "
                "which sends the queries past the proxy.",
            ),
        )

    def test_plain(self) -> None:
        """
        A proxy without UDP may let no DNS out, so that a plain server is not to blame.  The way
        past it is said to be in the clear.
        """
        kind, sentence = self.said(UpstreamRefused("No."), "proxy", "192.0.2.1", mayFake=True)
        self.assertIs(kind, UpstreamError)
        self.assertIn("192.0.2.1:53 cannot be asked over TCP through the proxy: No;", sentence)
        self.assertIn("allow it there, set dnsMode: fake-ip (--dns-mode fake-ip), ", sentence)
        self.assertTrue(sentence.endswith("past the proxy, in the clear."))

    def test_forbidden(self) -> None:
        """A proxy's rules, or a proxy that fails, are not the server's fault."""
        self.assertEqual(
            self.said(UpstreamForbids("The proxy p does not allow it."), "proxy"),
            (
                UpstreamError,
                "The proxy p does not allow it, and dnsVia sends the DNS queries through it; "
                "allow it there or set dnsVia: direct (--dns-via direct), which sends the queries "
                "past the proxy.",
            ),
        )
        self.assertEqual(
            self.said(ProxyError("The proxy p is down; start it."), "proxy"),
            (
                UpstreamError,
                "DNS queries cannot be sent, because dnsVia sends them through the proxy: The "
                "proxy p is down; start it.",
            ),
        )

    def test_ownVia(self) -> None:
        """Where the server's own via leads it there, the sentences say so."""
        _, sentence = self.said(UpstreamForbids("No."), "office", ownVia=True)
        self.assertIn(
            "No, and via sends the queries for the DNS server tls://192.0.2.1:853 through it; "
            "allow it there or give that server via: direct, which",
            sentence,
        )
        _, sentence = self.said(ProxyError("Down."), "office", ownVia=True)
        self.assertEqual(
            sentence,
            "The DNS server tls://192.0.2.1:853 cannot be asked, because its via leads through "
            "office: Down.",
        )

    def test_complain(self) -> None:
        """What a server does wrong is said of it, with the way that it is asked by."""
        for via, asked in (("direct", ""), ("office", ", asked through office,")):
            server = parsed("tls://192.0.2.1")._replace(via=via)
            lines: list[str] = []
            troubles = Troubles(server, True, False, lines.append, ServerTally(server))
            error = troubles.complain("breaks TLS")
            self.assertEqual(str(error), f"The DNS server tls://192.0.2.1:853{asked} breaks TLS.")
            self.assertEqual(lines, [str(error)])


class ContextsTests(SynchronousTestCase):
    """Tests for L{contextsFor}."""

    def contexts(self, *servers: Any) -> Any:
        """The contexts of settings with some servers."""
        flags = {"proxy": flagValue(KEYS["proxy"], "socks5://h")}
        return contextsFor(replace(makeSettings({}, flags, None), dns=servers))

    def test_shared(self) -> None:
        """There is one for each file and scheme; none if no server is encrypted."""
        self.assertEqual(self.contexts(parsed("192.0.2.1"), parsed("tcp://192.0.2.1")), {})
        servers = [
            parsed(text)._replace(ca=ca)
            for text, ca in (
                ("tls://192.0.2.1", CA),
                ("tls://192.0.2.2", CA),
                ("https://192.0.2.1", CA),
                ("tls://192.0.2.1", ""),
            )
        ]
        made: list[str] = []
        make = tlsstream.makeContext

        def note(ca: str, **options: Any) -> Any:
            made.append(ca)
            return make(ca, **options)

        self.patch(tlsstream, "makeContext", note)
        found = self.contexts(*servers)
        self.assertEqual(made, [CA, CA, ""])
        self.assertEqual(list(found), [(CA, "tls"), (CA, "https"), ("", "tls")])
        self.assertEqual([keyOf(server) in found for server in servers], [True] * 4)

    def test_trusted(self) -> None:
        """It is told whether a file has other certificates than before, and not of the system."""
        server, usual = parsed("tls://192.0.2.1"), parsed("https://192.0.2.1")
        found, path = [], Path(self.mktemp()).resolve()
        for text in (CERTIFICATES / "ca.pem", CERTIFICATES / "ca.pem", CERTIFICATES / "proxy.pem"):
            path.write_bytes(text.read_bytes())
            found.append(trusted(self.contexts(server._replace(ca=str(path)), usual)))
        self.assertEqual(found[0], found[1])
        self.assertNotEqual(found[1], found[2])

    def test_wrong(self) -> None:
        """A file that cannot be read is an error that names it and the server."""
        server = parsed("tls://192.0.2.1")._replace(ca="/nowhere")
        error = self.assertRaises(ConfigError, self.contexts, server)
        self.assertEqual(
            str(error),
            "The certificates in /nowhere cannot be read (No such file or directory); check ca of "
            "the DNS server tls://192.0.2.1:853.",
        )
