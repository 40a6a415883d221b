"""
Tests for L{nanotun.gateway.dns.tlstalk}, against a server of the same library.
"""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.gateway.dns.framedtalk import FramedTalk
from nanotun.gateway.dns.interfaces import ITalk
from nanotun.gateway.dns.talks import Heard, TalkError
from nanotun.gateway.dns.tlstalk import Sessions, Tls, TlsTalk
from nanotun.upstream.tlsstream import makeContext
from tests.unit.gateway.gateway_cases import answer, ask
from tests.unit.gateway.test_dns_talks import framed
from tests.unit.upstream.tls_cases import CA, TlsServer


class TlsTalkCase(SynchronousTestCase):
    """
    A L{TlsTalk} and its server.

    @ivar wholly: whether what the server sends comes in one piece, and not byte by byte.
    """

    wholly = True

    def setUp(self) -> None:
        """How the server of the tests is spoken with."""
        self.tls = Tls(
            makeContext(CA, protocols=()),
            "proxy.example",
            Sessions(),
            "",
            "does not speak it",
            853,
            lambda: "1970-01-01",
        )

    def make(self, **changes: Any) -> TlsTalk:
        """A talk whose ids count from 0; it has begun."""
        idents = itertools.count()
        inner = FramedTalk(lambda: next(idents).to_bytes(2, "big"))
        talk = TlsTalk(inner, self.tls._replace(**changes))
        talk.begin()
        return talk

    def feed(self, talk: TlsTalk, data: bytes) -> list[Heard]:
        """Have bytes arrive."""
        if self.wholly:
            return talk.receive(data) if data else []
        return [heard for byte in data for heard in talk.receive(bytes((byte,)))]

    def shake(self, talk: TlsTalk, server: TlsServer) -> list[Heard]:
        """Speak until neither has anything to say."""
        found = []
        while sent := talk.outgoing():
            found += self.feed(talk, server.receive(sent))
        return found

    def trouble(self, talk: TlsTalk, server: TlsServer | None = None) -> str:
        """The sentence of the handshake's failure."""
        error = self.assertRaises(TalkError, self.shake, talk, server or TlsServer())
        return str(error)

    def broken(self, before: Callable[[TlsServer], bytes]) -> tuple[TlsTalk, list[Heard]]:
        """A talk with a query, after something and a record that is none."""
        talk, server = self.make(), TlsServer()
        talk.send(ask())
        talk.send(ask())
        self.shake(talk, server)
        return talk, self.feed(talk, before(server) + b"\x17\3\3\0\x20" + bytes(32))


class WholeTests(TlsTalkCase):
    """Tests for L{TlsTalk}."""

    def test_interface(self) -> None:
        """It is a talk; until the handshake is done, that is what lacks."""
        talk = self.make()
        verifyObject(ITalk, talk)
        self.assertEqual((talk.greeted, talk.lacking), (False, "finish the TLS handshake"))
        self.shake(talk, TlsServer())
        self.assertEqual((talk.greeted, talk.lacking, talk.over), (True, "", False))

    def test_flight(self) -> None:
        """Queries from before the handshake go out with its end: two flights in all."""
        talk, server = self.make(), TlsServer()
        keys = [cast(bytes, talk.send(ask())) for _ in range(3)]
        self.feed(talk, server.receive(talk.outgoing()))
        server.receive(talk.outgoing())
        self.assertEqual(server.heard, framed(*(key + ask()[2:] for key in keys)))

    def test_answers(self) -> None:
        """Answers of any size and number arrive, and queries go on."""
        talk, server = self.make(), TlsServer()
        self.shake(talk, server)
        messages = [answer(ask(ident=ident)) + bytes(1000) for ident in range(3)]
        expected = [Heard(message[:2], message) for message in messages]
        self.assertEqual(self.feed(talk, server.say(framed(*messages))), expected)
        key = cast(bytes, talk.send(ask()))
        server.receive(talk.outgoing())
        self.assertEqual(server.heard, framed(key + ask()[2:]))

    def test_resumed(self) -> None:
        """The next connection resumes the session, with TLS 1.2 and 1.3, unless forgotten."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = None
            self.tls.sessions.forget()
            for turn in range(4):
                server = TlsServer(version, context)
                context = server.context
                talk = self.make()
                self.shake(talk, server)
                self.feed(talk, server.say(framed(answer(ask()))))
                self.assertEqual(talk.resumed, turn in (1, 3), (version, turn))
                if turn == 1:
                    self.tls.sessions.forget()

    def test_forgotten(self) -> None:
        """A session that was forgotten does not come back with what its connection still does."""
        server = TlsServer()
        talk = self.make()
        self.shake(talk, server)
        self.feed(talk, server.say(framed(answer(ask()))))
        self.assertIsNotNone(self.tls.sessions.last)
        self.tls.sessions.forget()
        self.feed(talk, server.say(framed(answer(ask()))))
        talk.ended()
        self.assertIsNone(self.tls.sessions.last)

    def test_name(self) -> None:
        """A certificate for another name or address is told from one that is not trusted."""
        for name, reason in (
            ("dns.example", "Hostname mismatch"),
            ("192.0.2.1", "IP address mismatch"),
        ):
            found = self.trouble(self.make(name=name))
            self.assertIn(f"has a certificate for another name ({reason}", found)
            self.assertTrue(found.endswith("as in tls://1.1.1.1#one.one.one.one"))
        self.shake(self.make(name="127.0.0.1"), TlsServer())

    def test_untrusted(self) -> None:
        """The sentence about an authority that is not known says what to write."""
        found = self.trouble(self.make(context=makeContext("", protocols=())))
        self.assertIn("has a certificate that is not trusted (", found)
        self.assertTrue(found.endswith("give its authority's certificate as ca: FILE"))

    def test_clock(self) -> None:
        """About a certificate out of its time, it says what the clock shows."""
        for code, start in ((9, "that is not valid yet"), (10, "that has expired")):
            error = ssl.SSLCertVerificationError(1, "certificate verify failed")
            error.reason = "CERTIFICATE_VERIFY_FAILED"
            error.verify_code, error.verify_message = code, "wrong time"
            self.assertIn(
                f"has a certificate {start}, and this machine's clock says 1970-01-01; ",
                self.make()._sentence(error),
            )

    def test_notTls(self) -> None:
        """A server that does not speak TLS, and one that ends in the handshake, have failed."""
        talk = self.make()
        talk.outgoing()
        error = self.assertRaises(TalkError, self.feed, talk, b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertEqual(
            str(error), "does not speak TLS on port 853 (wrong version number); check the port"
        )
        ended = "closed the connection during the TLS handshake; check the port"
        self.assertEqual(self.make().ended(), ended)

    def test_alert(self) -> None:
        """A server that refuses does speak TLS; the sentence has its reason."""
        talk = self.make()
        talk.outgoing()
        # A fatal alert: unrecognized_name.
        error = self.assertRaises(TalkError, self.feed, talk, b"\x15\3\3\0\2\2\x70")
        self.assertEqual(
            str(error),
            "refuses the TLS handshake (tlsv1 unrecognized name); check the name and the port",
        )

    def test_protocol(self) -> None:
        """Where a protocol has to be agreed on, a server without it has failed."""
        h2 = {"context": makeContext(CA, protocols=("h2",)), "protocol": "h2"}
        for protocols in ((), ("http/1.1",)):
            found = self.trouble(self.make(**h2), TlsServer(protocols=protocols))
            self.assertEqual(found, "does not speak it")
        self.shake(self.make(**h2), TlsServer(protocols=("h2",)))

    def test_closed(self) -> None:
        """After the server's end of TLS no queries go out, and those under way go elsewhere."""
        talk, server = self.make(), TlsServer()
        keys = [talk.send(ask(ident=ident)) for ident in range(4)]
        self.shake(talk, server)
        talk.forget(keys[0])
        message = answer(ask(ident=1))
        found = self.feed(talk, server.say(framed(message)) + server.end())
        self.assertEqual(found[0], Heard(keys[1], message))
        again = {Heard(key, again=True) for key in keys[2:]}
        self.assertEqual((set(found[1:]), len(found)), (again, 3))
        self.assertEqual((talk.over, talk.ended()), (True, ""))

    def test_cut(self) -> None:
        """If that is in the middle of an answer, it is the server's error."""
        talk, server = self.make(), TlsServer()
        self.shake(talk, server)
        self.feed(talk, server.say(b"\0\x40abc"))
        self.assertIn("in the middle of an answer", talk.ended())

    def test_broken(self) -> None:
        """A record that cannot be read ends the talk, with the reason."""
        error = self.assertRaises(TalkError, self.broken, lambda server: b"")
        self.assertIn("breaks TLS (", str(error))


class BytewiseTests(WholeTests):
    """The same, one byte at a time."""

    wholly = False


class BrokenTests(TlsTalkCase):
    """What only comes in one piece."""

    def test_brokenBehindAnswer(self) -> None:
        """An answer before it is not lost, nor are the other queries."""
        message = answer(ask(ident=0))
        talk, found = self.broken(lambda server: server.say(framed(message)))
        self.assertEqual(found, [Heard(b"\0\0", message), Heard(b"\0\1", again=True)])
        self.assertTrue(talk.over)
        self.assertIn("breaks TLS (", talk.ended())
        talk.send(ask())
        # An alert of ours, and no query.
        self.assertLess(len(talk.outgoing()), len(ask()))
