"""
Tests for L{nanotun.gateway.dns.serverconnection} and for what L{nanotun.gateway.dns.tcp} does
about servers that misbehave.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from twisted.internet.defer import fail
from twisted.internet.task import deferLater
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nanotun.errors import UpstreamRefused
from nanotun.gateway.dns.framedtalk import FramedTalk
from nanotun.gateway.dns.interfaces import IAttempt, ITalk
from nanotun.gateway.dns.serverconnection import (
    GREETING_TIME,
    IDLE,
    QUIET,
    SOON,
    STRANGE_LIMIT,
)
from nanotun.gateway.dns.talks import Heard, TalkError
from tests.unit.gateway.gateway_cases import answer, ask, read
from tests.unit.gateway.serverstream_cases import StreamCase

#: What L{ToyTalk} hears as a greeting, a refusal and the end of the connection.
GREETING, REFUSAL, AGAIN, OVER = b"greeting", b"refusal", b"again", b"over"
LAST, NONSENSE = b"last", b"nonsense"


@implementer(ITalk)
class ToyTalk:
    """A talk whose server has to greet first, and says what it does in words."""

    def __init__(self, makeIdent: Callable[[], bytes], room: int = 100) -> None:
        self._inner = FramedTalk(makeIdent)
        self._most = room
        self.open: list[Hashable] = []
        self.greeted = self.over = False
        self.final = True

    @property
    def lacking(self) -> str:
        return "" if self.greeted else "greet"

    @property
    def room(self) -> int:
        return 0 if self.over else self._most - len(self.open)

    def begin(self) -> None:
        pass

    def send(self, wire: bytes) -> Hashable:
        self.open.append(self._inner.send(wire))
        return self.open[-1]

    def forget(self, key: Hashable) -> None:
        self._inner.forget(key)
        if key in self.open:
            self.open.remove(key)

    def receive(self, data: bytes) -> list[Heard]:
        found = []
        for heard in self._inner.receive(data):
            word = heard.answer
            if word == GREETING:
                self.greeted = True
            elif word == REFUSAL:
                found.append(Heard(self.open.pop(0), trouble="refuses"))
            elif word in (AGAIN, OVER):
                found += [Heard(key, again=True) for key in self.open]
                self.open.clear()
                self.over = word == OVER
            elif word == LAST:
                self.over = True
            elif word == NONSENSE:
                raise TalkError("talks nonsense")
            else:
                found.append(heard._replace(age=7))
        return found

    def ended(self) -> str:
        return "" if self.greeted else "closed the connection before it greeted"

    def outgoing(self) -> bytes:
        return self._inner.outgoing()


class GreetingTests(StreamCase):
    """A server that has to show first that it speaks what it should."""

    def setUp(self) -> None:
        """A stream on which L{ToyTalk} is spoken."""
        super().setUp()
        self.room = 100
        self.makeTalk = lambda makeIdent: ToyTalk(makeIdent, self.room)
        self.stream = self.make(lambda failures: 1.0 + failures)

    async def say(self, *words: bytes, server: int = 0) -> None:
        """Have a server say words."""
        await self.until(lambda: len(self.servers) > server)
        for word in words:
            self.servers[server].sendString(word)

    def numbers(self) -> list[int]:
        """The queries that were answered, in that order."""
        return [heard[0] for heard in self.heard if isinstance(heard, tuple)]

    async def turn(self) -> None:
        """Let what was said arrive."""
        for _ in range(5):
            await deferLater(self.reactor, 0.001)

    async def test_interface(self) -> None:
        """Both talks are talks, and a query is an attempt."""
        verifyObject(ITalk, FramedTalk(bytes))
        verifyObject(ITalk, ToyTalk(bytes))
        verifyObject(IAttempt, self.ask(0))

    async def test_greeted(self) -> None:
        """Queries go out before the greeting; their answers come with their age."""
        ages: list[int] = []
        wire = ask()
        self.stream.ask(wire, read(wire), lambda message, age: ages.append(age), self.fail)
        (query,) = await self.queries(1)
        await self.say(GREETING, answer(query))
        await self.until(lambda: ages)
        self.assertEqual(ages, [7])

    async def test_silent(self) -> None:
        """A server that does not greet in time is left alone, and the sentence says what lacks."""
        self.ask(0)
        await self.queries(1)
        self.clock.advance(GREETING_TIME)
        self.assertEqual((self.heard, self.troubles), ([0], ["did not greet within 5 s"]))
        error = self.assertRaises(OSError, self.ask, 1)
        self.assertEqual((str(error), self.dials), ("did not greet within 5 s", 1))

    async def test_greetedAndSilent(self) -> None:
        """After the greeting it has the time that every connection has."""
        self.ask(0)
        await self.say(GREETING)
        await self.turn()
        self.clock.advance(IDLE - 0.1)
        self.assertEqual(self.heard, [])
        self.clock.advance(0.1)
        self.assertEqual((self.heard, self.troubles), ([0], ["did not answer within 10 s"]))

    async def test_closed(self) -> None:
        """A server that closes before its greeting has failed, though nobody waits any more."""
        self.ask(0).cancel()
        await self.until(lambda: self.servers)
        self.servers[0].transport.loseConnection()  # type: ignore[union-attr]
        await self.until(lambda: self.troubles)
        self.assertEqual(self.troubles, ["closed the connection before it greeted"])

    async def test_nonsense(self) -> None:
        """A server that breaks the rules is left alone for longer each time, until it answers."""
        for server, pause in ((0, 1.0), (1, 2.0), (2, 3.0)):
            self.ask(server)
            await self.queries(1, server)
            await self.say(NONSENSE, server=server)
            await self.until(lambda: len(self.heard) > server)  # noqa: B023
            self.clock.advance(pause - 0.1)
            self.assertRaises(OSError, self.ask, 9)
            self.clock.advance(0.1)
        self.assertEqual((self.heard, self.troubles), ([0, 1, 2], ["talks nonsense"] * 3))
        self.ask(3)
        await self.say(GREETING, server=3)
        await self.answer(0, 3)
        self.ask(4)
        await self.queries(2, 3)
        await self.say(NONSENSE, server=3)
        await self.until(lambda: len(self.heard) == 5)
        self.clock.advance(1.0)
        self.ask(5)
        self.assertEqual(self.dials, 5)

    async def test_refused(self) -> None:
        """A query that fails alone leaves the connection open, but the server alone for a time."""
        self.ask(0)
        self.ask(1)
        await self.queries(2)
        await self.say(GREETING, REFUSAL)
        await self.until(lambda: self.heard)
        self.assertEqual((self.heard, self.troubles), ([0], ["refuses"]))
        self.assertRaises(OSError, self.ask, 2)
        await self.answer(1)
        self.ask(3)
        await self.queries(3)
        self.assertEqual(self.dials, 1)

    async def test_wrongAnswer(self) -> None:
        """Where only one answer can come, one to another question fails its query."""
        self.ask(0)
        (query,) = await self.queries(1)
        await self.say(GREETING, query[:2] + answer(ask("other"))[2:])
        await self.until(lambda: self.heard)
        self.assertEqual((self.heard, self.troubles), ([0], ["sends answers to other questions"]))

    async def test_room(self) -> None:
        """What the server does not take yet waits, in order."""
        self.room = 2
        for number in range(5):
            self.ask(number)
        await self.queries(2)
        await self.say(GREETING)
        await self.turn()
        self.assertEqual(len(self.servers[0].heard), 2)
        for number in range(5):
            await self.answer(number)
        self.assertEqual(self.numbers(), list(range(5)))

    async def test_over(self) -> None:
        """A server that takes no more queries gets the rest on another connection."""
        self.ask(0)
        await self.say(GREETING)
        await self.answer(0)
        self.ask(1)
        self.ask(2)
        await self.queries(3)
        await self.say(OVER)
        await self.say(GREETING, server=1)
        await self.answer(0, 1)
        await self.answer(1, 1)
        self.assertEqual((self.dials, self.troubles), (2, []))

    async def test_last(self) -> None:
        """Until it has answered those that it has taken, the others wait."""
        for number in range(2):
            self.ask(number)
        await self.say(GREETING, LAST)
        await self.answer(0)
        self.ask(2)
        await self.turn()
        self.assertEqual(self.dials, 1)
        await self.answer(1)
        await self.say(GREETING, server=1)
        await self.answer(0, 1)
        self.assertEqual(self.numbers(), [0, 1, 2])

    async def test_overAtOnce(self) -> None:
        """If it takes none on any connection, that is no loop: the queries fail."""
        self.ask(0)
        await self.queries(1)
        await self.say(GREETING, OVER)
        await self.until(lambda: self.heard)
        self.assertEqual(self.dials, 1)
        self.assertEqual(self.troubles, ["closed the connection without an answer"])
        self.assertRaises(OSError, self.ask, 1)

    async def test_overWhileIdle(self) -> None:
        """A connection that takes no more queries is not kept until there is one."""
        self.ask(0)
        await self.say(GREETING)
        await self.answer(0)
        await self.say(LAST)
        await self.until(lambda: self.servers[0].lost)
        self.ask(1)
        await self.say(GREETING, server=1)
        await self.answer(0, 1)
        self.assertEqual((self.numbers(), self.troubles), ([0, 1], []))

    async def test_overUnheard(self) -> None:
        """That it has answered nothing is told if it was asked, also if nobody waits any more."""
        self.ask(0).cancel()
        await self.say(GREETING, LAST)
        await self.until(lambda: self.troubles)
        self.assertEqual(self.troubles, ["closed the connection without an answer"])
        self.assertRaises(OSError, self.ask, 1)

    async def test_overUnasked(self) -> None:
        """If it was asked nothing, because nobody waited any more, that is no fault of its."""
        self.open = self.later
        self.ask(0).cancel()
        leg = await self.connect()
        self.legs[0].callback(leg)
        await self.say(GREETING, LAST)
        await self.until(lambda: self.servers[0].lost)
        self.assertEqual(self.troubles, [])

    async def test_again(self) -> None:
        """A query that the server has not looked at is sent again once, and then fails."""
        self.ask(0)
        await self.queries(1)
        await self.say(GREETING, AGAIN)
        await self.queries(2)
        await self.say(AGAIN)
        await self.until(lambda: self.heard)
        self.assertEqual((self.heard, self.dials, self.troubles), ([0], 1, []))

    async def test_renew(self) -> None:
        """In another network the pause is over, and a greeting that lacks is no fault."""
        self.ask(0)
        await self.queries(1)
        await self.say(NONSENSE)
        await self.until(lambda: self.heard)
        self.stream.renew()
        self.ask(1)
        await self.queries(1, 1)
        self.stream.renew()
        await self.queries(1, 2)
        self.assertEqual((self.heard, self.troubles), ([0], ["talks nonsense"]))

    async def test_stopWhileReading(self) -> None:
        """After stop nobody is called back, not even for what has arrived with the last answer."""
        self.ask(0)
        self.ask(1)
        first, second = await self.queries(2)
        self.heard = StoppingList(self.stream.stop)
        await self.say(GREETING, answer(first), answer(second))
        await self.turn()
        self.assertEqual(len(self.heard), 1)


class StoppingList(list[Any]):
    """Calls a function when something is added."""

    def __init__(self, added: Callable[[], None]) -> None:
        super().__init__()
        self._added = added

    def append(self, item: object) -> None:
        super().append(item)
        self._added()


class PlainTests(StreamCase):
    """Servers that speak plain DNS, in their own way."""

    async def test_cut(self) -> None:
        """A server that closes in the middle of an answer is told of."""
        self.ask(0)
        (query,) = await self.queries(1)
        transport: Any = self.servers[0].transport
        transport.write(b"\0\x40" + answer(query)[:10])
        transport.loseConnection()
        await self.until(lambda: self.heard)
        self.assertEqual(self.troubles, ["closed the connection in the middle of an answer"])

    async def test_withoutAnswer(self) -> None:
        """So is one that closes without an answer, but not if nobody has asked."""
        self.ask(0)
        await self.queries(1)
        self.servers[0].transport.loseConnection()  # type: ignore[union-attr]
        await self.until(lambda: self.heard)
        self.assertEqual(self.troubles, ["closed the connection without an answer"])
        self.ask(1).cancel()
        await self.until(lambda: len(self.servers) == 2)
        self.servers[1].transport.loseConnection()  # type: ignore[union-attr]
        await self.until(lambda: self.stream._connection is None)
        self.assertEqual(len(self.troubles), 1)

    async def test_garbage(self) -> None:
        """One that sends many messages that answer nothing loses the connection."""
        self.ask(0)
        await self.queries(1)
        for _ in range(STRANGE_LIMIT - 1):
            self.servers[0].sendString(b"garbage")
        await self.until(lambda: self.counters.ignored == STRANGE_LIMIT - 1)
        self.assertEqual(self.troubles, [])
        self.servers[0].sendString(b"garbage")
        await self.until(lambda: self.heard)
        self.assertEqual(self.troubles, ["sends messages that answer no query"])

    async def test_late(self) -> None:
        """Answers that come too late are no garbage, and show that the connection works."""
        for number in range(STRANGE_LIMIT + 1):
            self.ask(number).cancel()
        self.ask(99)
        queries = await self.queries(STRANGE_LIMIT + 2)
        for query in queries[:-1]:
            self.servers[0].sendString(answer(query))
        await self.until(lambda: self.counters.ignored == STRANGE_LIMIT + 1)
        self.servers[0].transport.loseConnection()  # type: ignore[union-attr]
        await self.answer(0, 1)
        self.assertEqual((len(self.heard), self.troubles), (1, []))

    async def singles(self, later: float) -> list[str]:
        """What is said of a server that closes so many seconds after each of four answers."""
        for number in range(4):
            self.ask(number)
            await self.answer(0, number)
            self.clock.advance(later)
            self.servers[number].transport.loseConnection()  # type: ignore[union-attr]
            await self.until(lambda: self.stream._connection is None)
        self.assertEqual(self.dials, 4)
        return self.troubles

    async def test_closesEach(self) -> None:
        """One that closes after each answer is asked all the same, and told of once."""
        self.assertEqual(
            await self.singles(SOON / 2),
            ["closes the connection after each query, so that each takes a new one"],
        )

    async def test_closesIdle(self) -> None:
        """One that closes idle connections is not told of, however few queries there were."""
        self.assertEqual(await self.singles(SOON), [])

    async def test_dead(self) -> None:
        """A connection that is silent since a query was sent is given up for it, once."""
        first = self.ask(0)
        await self.answer(0)
        self.assertTrue(first.doubt())
        self.clock.advance(QUIET)
        asked = self.ask(1)
        await self.queries(2)
        self.assertFalse(asked.doubt())
        self.assertEqual(self.dials, 1)
        self.clock.advance(0)
        await self.queries(1, 1)
        self.clock.advance(QUIET)
        self.assertFalse(asked.doubt())
        self.clock.advance(0)
        self.assertEqual(self.dials, 2)
        await self.answer(0, 1)
        self.assertTrue(asked.doubt())

    async def test_deadForGood(self) -> None:
        """If no other connection can be opened, the query fails, but not while it is doubted."""
        self.ask(0)
        await self.answer(0)
        self.clock.advance(QUIET)
        asked = self.ask(1)
        self.open = lambda: fail(UpstreamRefused("No."))
        self.assertFalse(asked.doubt())
        self.assertEqual(len(self.heard), 1)
        self.clock.advance(0)
        self.assertEqual((self.heard[1:], asked.doubt()), ([1], True))

    async def test_slow(self) -> None:
        """A query that goes out soon after the connection was heard of is only slow."""
        asked = self.ask(0)
        self.assertFalse(asked.doubt())
        await self.queries(1)
        self.clock.advance(IDLE / 2)
        self.assertFalse(asked.doubt())
        self.clock.advance(0)
        self.assertEqual(self.dials, 1)
        await self.answer(0)

    async def test_connecting(self) -> None:
        """While the connection is being opened, the answer is awaited."""
        self.open = self.later
        self.assertFalse(self.ask(0).doubt())
