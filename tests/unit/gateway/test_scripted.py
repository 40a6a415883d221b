"""
Tests for L{nanotun.gateway.dns.scripted}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.flow import Endpoint, ScriptReply
from nanotun.gateway.dns.answered import AnsweredNames
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.message import AAAA, HTTPS, A, errorReply, readQuery
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.gateway.dns.scripted import WAITING_LIMIT, ScriptedDns
from nanotun.script import Query
from nanotun.testing import FakeScript
from tests.unit.gateway.gateway_cases import FakeQueries, answer, ask, choiceOf, rcode

REFUSED, SERVFAIL = 5, 2


class Client:
    """A client, as the relay knows it."""

    host = "198.18.0.2"


class ScriptedDnsTests(SynchronousTestCase):
    """L{ScriptedDns}."""

    def setUp(self) -> None:
        """In front of a relay with a server, while there is another server."""
        self.usual, self.other = FakeQueries(), FakeQueries(key=b"other")
        self.names = AnsweredNames(wanted=lambda name: name != "secret.example")
        self.relay = DnsRelay(
            Clock(), choiceOf(self.usual), Counters(), 10, 100_000, names=self.names
        )
        self.addCleanup(self.relay.stop)
        self.endpoints: list[Endpoint] = []

        def serversAt(server: Endpoint) -> FakeQueries:
            self.endpoints.append(server)
            return self.other

        self.dns = ScriptedDns(self.relay, self.relay, serversAt)
        self.script = FakeScript()
        self.dns.configure(self.script)
        self.client = Client()
        self.got: list[bytes] = []

    def ask(self, wire: bytes, overTCP: bool = False) -> bool:
        """A client asks."""
        return self.dns.query(wire, self.client, self.got.append, overTCP)

    def test_interface(self) -> None:
        """It answers as the relay does."""
        verifyObject(IAnswering, self.dns)
        self.assertIs(self.dns.counters, self.relay.counters)

    def test_asked(self) -> None:
        """The script is told the name, the type, the source and the protocol of each query."""
        self.ask(ask("WWW.Example.com"))
        self.ask(ask("a.example", HTTPS), overTCP=True)
        self.ask(ask("a.example", 4711))
        source = "198.18.0.2"
        self.assertEqual(
            self.script.queries,
            [
                Query("www.example.com", "A", source, "udp"),
                Query("a.example", "HTTPS", source, "tcp"),
                Query("a.example", "TYPE4711", source, "udp"),
            ],
        )
        self.assertEqual(len(self.usual.asked), 3)

    def test_oddNames(self) -> None:
        """Whatever a name consists of, the script hears of it: no name passes it by."""
        wire = ask("x.y")
        start, end = wire[:12], wire[-4:]
        for labels, text in (
            (b"\0", ""),
            (b"\3a.b\1c\0", "a\\046b.c"),
            (b"\2\xff \0", "\\255\\032"),
            (b"\1-\x0a_dmarc.X_\0"[:0] + b"\1-\2_D\0", "-._d"),
        ):
            self.ask(start + labels + end)
            self.assertEqual(self.script.queries[-1].name, text)

    def test_otherClasses(self) -> None:
        """
        A query of another class than the Internet's tells its name to a server, too, so the
        script hears of it; it is never given addresses.
        """
        chaos, every = (ask("a.example")[:-2] + each for each in (b"\0\3", b"\0\xff"))
        self.script.reply = ScriptReply(refused=True)
        self.ask(chaos)
        self.ask(every)
        types = [query.type for query in self.script.queries]
        self.assertEqual(types, ["CLASS3 A", "CLASS255 A"])
        self.assertEqual(([*map(rcode, self.got)], self.usual.asked), ([REFUSED] * 2, []))
        self.script.reply = ScriptReply(addresses=("192.0.2.1",))
        self.ask(chaos)
        self.assertEqual(self.got[-1], errorReply(chaos, readQuery(chaos), 0))

    def test_noQuestion(self) -> None:
        """A query that asks nothing is refused: what it carries is nothing to ask the script of."""
        wire = ask("secret.example")
        self.ask(wire[:4] + b"\0\0" + wire[6:])
        self.assertEqual((rcode(self.got[0]), self.usual.asked), (REFUSED, []))
        self.assertEqual(self.script.queries, [])

    def test_left(self) -> None:
        """What the script leaves alone is answered, and cached, as without it."""
        self.ask(ask())
        self.usual.answer(answer(ask()))
        self.ask(ask())
        self.assertEqual(self.got, [answer(ask())] * 2)
        self.assertEqual((len(self.usual.asked), len(self.script.queries)), (1, 2))
        self.assertEqual(self.dns.counters.scripted, 0)

    def test_refused(self) -> None:
        """A query is refused if the script says so."""
        self.script.reply = ScriptReply(refused=True)
        self.assertTrue(self.ask(ask()))
        self.assertEqual((rcode(self.got[0]), self.usual.asked), (REFUSED, []))
        self.assertEqual((self.dns.counters.queries, self.dns.counters.scripted), (1, 1))

    def test_addresses(self) -> None:
        """
        Addresses are given for the type that they are of; for any other the name exists, and has
        no data.  Flows to them have the name.
        """
        self.script.reply = ScriptReply(addresses=("192.0.2.7", "2001:db8::7", "192.0.2.8"))
        for kind, count in ((A, 2), (AAAA, 1), (HTTPS, 0)):
            self.ask(ask("secret.example", kind))
            found = self.got[-1]
            self.assertEqual((rcode(found), found[7]), (0, count))
        self.assertIn(bytes((192, 0, 2, 8)), self.got[0])
        self.assertNotIn(bytes((192, 0, 2, 8)), self.got[1])
        for host in ("192.0.2.7", "192.0.2.8", "2001:db8::7"):
            self.assertEqual(self.names.all(host, 0).names, ("secret.example",))
        self.script.reply = ScriptReply(addresses=())
        self.ask(ask())
        self.assertEqual((rcode(self.got[-1]), self.got[-1][7]), (0, 0))
        self.assertEqual(self.usual.asked, [])

    def test_fits(self) -> None:
        """More addresses than fit a datagram are truncated, and by TCP they are all there."""
        hosts = tuple(f"192.0.2.{number}" for number in range(64))
        self.script.reply = ScriptReply(addresses=hosts)
        self.ask(ask())
        self.assertTrue(self.got[0][2] & 2)
        self.assertLessEqual(len(self.got[0]), 512)
        self.ask(ask(), overTCP=True)
        self.assertEqual((self.got[1][2] & 2, self.got[1][7]), (0, 64))

    def test_server(self) -> None:
        """
        Another server is asked, and nobody else is given its answer later; the flows to its
        addresses have the name.
        """
        self.script.reply = ScriptReply(server="udp://[fd00::53]:5353")
        self.ask(ask("secret.example"))
        self.assertEqual(self.endpoints, [Endpoint("fd00::53", 5353)])
        self.script.reply = ScriptReply()
        self.ask(ask("secret.example"))
        self.assertEqual((len(self.other.asked), len(self.usual.asked)), (1, 1))
        self.other.answer(answer(ask("secret.example")))
        self.assertEqual(len(self.got), 1)
        self.assertEqual(self.names.all("192.0.2.1", 0).names, ("secret.example",))
        self.script.reply = ScriptReply(server="udp://192.0.2.53:53")
        self.ask(ask("secret.example"))
        self.assertEqual(len(self.other.asked), 2)
        self.assertEqual(self.dns.counters.scripted, 2)

    def test_newServers(self) -> None:
        """
        When nothing more may be sent the old way, a query to a server that the script named is
        not sent to others.
        """
        self.script.reply = ScriptReply(server="udp://192.0.2.53:53")
        self.ask(ask("secret.example"))
        fresh = FakeQueries()
        self.relay.configure(choiceOf(fresh), 10, 100_000, anew=True)
        self.assertEqual((rcode(self.got[0]), fresh.asked), (SERVFAIL, []))

    def test_waits(self) -> None:
        """A query may wait for the script; its repetition asks nothing, and another one does."""
        self.script.reply = None
        self.assertTrue(self.ask(ask()))
        self.assertFalse(self.ask(ask()))
        self.assertTrue(self.dns.query(ask(), Client(), self.got.append))
        self.assertEqual((len(self.script.queries), self.got), (2, []))
        self.script.giveReply(ScriptReply(refused=True))
        self.assertEqual(rcode(self.got[0]), REFUSED)
        self.script.giveReply(ScriptReply())
        self.usual.answer(answer(ask()))
        self.assertEqual(self.got[1], answer(ask()))
        self.assertTrue(self.ask(ask()))

    def test_stop(self) -> None:
        """After the stop nobody hears anything, and the script is no longer waited for."""
        self.script.reply = None
        self.ask(ask())
        self.dns.stop()
        self.assertEqual((self.script.pending, self.got), (0, []))

    def test_tooMany(self) -> None:
        """Of too many queries that wait, the last ones are answered by SERVFAIL."""
        self.script.reply = None
        for number in range(WAITING_LIMIT + 1):
            self.ask(ask(f"n{number}.example"))
        self.assertEqual([rcode(each) for each in self.got], [SERVFAIL])
        self.assertEqual(self.script.pending, WAITING_LIMIT)
        self.assertEqual(self.dns.counters.limited, 1)
        self.dns.stop()

    def test_others(self) -> None:
        """
        What no server is asked passes the script by, and so does everything if the script answers
        no queries, or there is none.
        """
        update = bytearray(ask())
        update[2] |= 5 << 3
        for wire in (bytes(update), b"junk", ask(kind=252)):
            self.ask(wire)
        self.assertEqual(self.usual.asked, [])
        self.script.answersQueries = False
        self.ask(ask("b.example"))
        self.dns.configure(None)
        self.ask(ask("c.example"))
        self.assertEqual(self.script.queries, [])

    def test_reload(self) -> None:
        """Another script is asked about the queries that come from then on."""
        new = FakeScript()
        self.dns.configure(new)
        self.ask(ask())
        self.assertEqual((len(self.script.queries), len(new.queries)), (0, 1))
