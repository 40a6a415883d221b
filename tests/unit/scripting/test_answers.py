"""Tests of L{nanotun.scripting.answers}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import ScriptAnswer, ScriptReply
from nanotun.script import Through
from nanotun.scripting.answers import ADDRESS_LIMIT, readAnswer, readReply
from nanotun.scripting.failures import WrongAnswer

NAMES = {
    "proxy": frozenset[str](),
    "office": frozenset[str](),
    "tor": frozenset(("session", "user")),
    "direct": frozenset[str](),
}


class AnswerTests(SynchronousTestCase):
    """L{readAnswer}."""

    def wrong(self, result: object) -> str:
        """What is wrong with an answer."""
        return str(self.assertRaises(WrongAnswer, readAnswer, result, NAMES, "it says so"))

    def test_names(self) -> None:
        """None leaves it to the rules; every name of an upstream is an answer."""
        self.assertEqual(readAnswer(None, NAMES, "it says so"), ScriptAnswer())
        for name in ("proxy", "office", "direct"):
            answer = readAnswer(name, NAMES, "it says so")
            self.assertEqual(answer, ScriptAnswer(name, "it says so"))
        self.assertEqual(readAnswer(Through("office"), NAMES, "").to, "office")

    def test_values(self) -> None:
        """Values for a template come as texts; those that nanotun knows may be given or not."""
        answer = readAnswer(Through("tor", session="bank"), NAMES, "")
        self.assertEqual(answer.values, (("session", "bank"),))
        answer = readAnswer(Through("tor", session=4711, user="ann"), NAMES, "")  # type: ignore[arg-type]
        self.assertEqual(answer.values, (("session", "4711"), ("user", "ann")))

    def test_wrong(self) -> None:
        """Whatever else is answered is one sentence, which helps to write it right."""
        for result, text in (
            ("ofice", "'ofice'; did you mean office?"),
            ("", "''; there are None, proxy, office, tor, direct"),
            (7, "7; there are None, proxy, office, tor, direct"),
            (False, "False; there are None, proxy, office, tor, direct"),
            (b"proxy", "b'proxy'; there are None, proxy, office, tor, direct"),
            (("proxy",), "('proxy',); there are None, proxy, office, tor, direct"),
            (Through("to"), "'to'; did you mean tor?"),
            (
                "tor",
                "'tor' without {session} of its user name; write Through('tor', session=...)",
            ),
            (
                Through("tor", sesion="x", session="y"),
                "sesion=..., but the user name of tor has no {sesion}",
            ),
            (
                Through("proxy", session="x"),
                "session=..., but the user name of proxy has no {session}",
            ),
            (
                # The text would be the same for all that have none.
                Through("tor", session=None),  # type: ignore[arg-type]
                "session=None, which is no text",
            ),
        ):
            self.assertEqual(self.wrong(result), text)

    def test_long(self) -> None:
        """An answer is not shown at any length, and none of its characters breaks the line."""
        text = self.wrong("x" * 1000)
        self.assertLess(len(text), 150)
        self.assertNotIn("\n", self.wrong("\n\u2028"))


class ReplyTests(SynchronousTestCase):
    """L{readReply}."""

    def test_right(self) -> None:
        """None, a refusal, one address or several, no address, and another server."""
        for result, reply in (
            (None, ScriptReply()),
            ("refuse", ScriptReply(refused=True)),
            ("192.0.2.1", ScriptReply(addresses=("192.0.2.1",))),
            (
                ["192.0.2.1", "2001:DB8::0001"],
                ScriptReply(addresses=("192.0.2.1", "2001:db8::1")),
            ),
            (("::1",), ScriptReply(addresses=("::1",))),
            ([], ScriptReply(addresses=())),
            ("udp://10.0.0.53", ScriptReply(server="udp://10.0.0.53:53")),
            ("udp://10.0.0.53:5353", ScriptReply(server="udp://10.0.0.53:5353")),
            ("udp://[2001:db8::53]:5353", ScriptReply(server="udp://[2001:db8::53]:5353")),
            ("udp://2001:db8::53", ScriptReply(server="udp://[2001:db8::53]:53")),
        ):
            self.assertEqual(readReply(result), reply, result)

    def test_wrong(self) -> None:
        """Whatever else is answered is one sentence that says what may be."""
        for result in (
            "",
            "reject",
            "example.org",
            7,
            True,
            b"\x01\x02\x03\x04",
            {"192.0.2.1"},
            ["192.0.2.1", 7],
            ["192.0.2.1"] * (ADDRESS_LIMIT + 1),
        ):
            error = self.assertRaises(WrongAnswer, readReply, result)
            self.assertIn("; it may answer None, 'refuse', addresses, or a server", str(error))

    def test_wrongServer(self) -> None:
        """A server is one address, and not of a kind that nanotun cannot ask."""
        for text in (
            "tls://10.0.0.53",
            "udp://dns.example",
            "udp://10.0.0.53:0",
            "udp://10.0.0.53:99999",
            "udp://10.0.0.53,10.0.0.54",
            "udp://",
            "udp://224.0.0.1",
        ):
            error = self.assertRaises(WrongAnswer, readReply, text)
            self.assertIn("; a server is written 'udp://192.0.2.53'", str(error))
