"""
Tests for L{nanotun.router.programs}, by itself and by way of the router.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nanotun.flow import Decision, Endpoint, Flow, Owner, Protocol, Verdict
from nanotun.router import programs
from nanotun.router.programs import QUEUE_LIMIT, FlowPrograms
from nanotun.testing import FakeOwners
from tests.unit.router.dial_cases import PlannedCase
from tests.unit.router.test_ends import Heard
from tests.unit.router.test_router import RouterCase

CURL = Owner(17, 1000, "curl", "/usr/bin/curl", "/system.slice/ssh.service")
PLACE = Endpoint("192.0.2.7", 443)
RULED = Decision(Verdict.PROXY, "#2", "rule 2 says so")


def flowNumber(number: int, protocol: Protocol = Protocol.TCP) -> Flow:
    """A flow from the port of its number."""
    return Flow(number, protocol, Endpoint("198.18.0.2", number), PLACE)


class SlowOwners(FakeOwners):
    """
    Owners that take a while.

    @ivar waiting: what each question waits for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Deferred[Owner | None]] = []

    def ownerOf(self, flow: Flow) -> Any:
        """See L{nanotun.interfaces.IOwners.ownerOf}."""
        self.asked.append(flow)
        self.waiting.append(Deferred())
        return self.waiting[-1]


class ProgramsTests(RouterCase):
    """L{FlowPrograms}, by itself."""

    def setUp(self) -> None:
        """Somebody who finds the process of flow 1."""
        super().setUp()
        self.spent = 0.0
        self.programs = FlowPrograms(self.clock, self.gateway.isLocal, lambda: self.spent)
        self.owners = FakeOwners()
        self.owners.known[1] = CURL
        self.told: list[Owner | None] = []

    def end(self, number: int, protocol: Protocol = Protocol.TCP) -> None:
        """A flow ends."""
        self.programs.ended(flowNumber(number, protocol), self.told.append)

    def test_off(self) -> None:
        """Nothing is looked up or kept while nobody records."""
        self.assertFalse(self.programs.active)
        self.programs.look(flowNumber(1), RULED)
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.end(1)
        self.assertEqual(self.told, [None])

    def test_alongside(self) -> None:
        """A process is looked up in the reactor's next turn, and known until the flow's end."""
        self.programs.use(self.owners)
        self.programs.look(flowNumber(1), RULED)
        self.assertEqual(self.owners.asked, [])
        self.clock.advance(0)
        self.assertEqual(self.programs.of(flowNumber(1)), CURL)
        self.end(1)
        self.end(1)
        self.assertEqual(self.told, [CURL, None])
        self.assertIs(self.programs.of(flowNumber(1)), None)

    def test_known(self) -> None:
        """What a rule has looked up is not looked up again; a user alone is not all of it."""
        self.programs.use(self.owners)
        self.programs.look(flowNumber(1), RULED._replace(owner=CURL))
        self.clock.advance(0)
        self.assertEqual(self.owners.asked, [])
        self.programs.look(flowNumber(1), RULED._replace(owner=Owner(0, 1000)))
        self.clock.advance(0)
        self.assertEqual(self.owners.asked, [flowNumber(1)])

    def test_asked(self) -> None:
        """Of flows that somebody looks at each is looked up once, found or not."""
        self.programs.use(self.owners, everyFlow=False)
        self.assertFalse(self.programs.active)
        self.programs.look(flowNumber(1), RULED)
        for _ in range(2):
            self.programs.ask(flowNumber(1), None)
            self.programs.ask(flowNumber(2), None)
            self.programs.ask(flowNumber(3), CURL)
            self.clock.advance(0)
            self.programs.ask(flowNumber(1), None)
        self.assertEqual(self.owners.asked, [flowNumber(1), flowNumber(2)])
        self.assertEqual(self.programs.of(flowNumber(1)), CURL)
        self.assertIs(self.programs.of(flowNumber(2)), None)
        self.end(2)
        self.assertEqual(self.told, [None])

    def test_askedOff(self) -> None:
        """Without anybody who finds processes, nothing is looked up for those who look."""
        self.programs.ask(flowNumber(1), None)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_others(self) -> None:
        """Another machine's flow has no process here."""
        self.gateway.strangers.add("198.18.0.2")
        self.programs.use(self.owners)
        self.programs.look(flowNumber(1), RULED)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_heldEnd(self) -> None:
        """The end of a flow whose process is still being looked up is told when that is found."""
        owners = SlowOwners()
        self.programs.use(owners)
        self.programs.look(flowNumber(1), RULED)
        self.programs.look(flowNumber(2), RULED)
        self.end(1)
        self.clock.advance(0)
        self.assertEqual(self.told, [])
        owners.waiting[0].callback(CURL)
        owners.waiting[1].callback(None)
        self.assertEqual(self.told, [CURL])
        self.end(2)
        self.assertEqual(self.told, [CURL, None])

    def test_stopped(self) -> None:
        """When nobody records any more, what waits is told without a process."""
        owners = SlowOwners()
        self.programs.use(owners)
        for number in (1, 2, 3):
            self.programs.look(flowNumber(number), RULED)
        self.clock.advance(0)
        self.programs.look(flowNumber(4), RULED)
        self.end(1)
        self.end(4)
        self.programs.use(None)
        self.assertEqual(self.told, [None, None])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual([each.called for each in owners.waiting], [True] * 3)

    def test_slices(self) -> None:
        """Lookups that take long leave turns to others, and a flood is cut off."""
        self.programs.use(self.owners)
        original = self.owners.ownerOf

        def slowly(flow: Flow) -> Owner | None:
            self.spent += programs.TURN
            return original(flow)

        self.patch(self.owners, "ownerOf", slowly)
        for number in range(QUEUE_LIMIT + 10):
            self.programs.look(flowNumber(number), RULED)
        self.clock.advance(0)
        self.assertEqual(len(self.owners.asked), 1)
        self.clock.pump([programs.PAUSE] * (QUEUE_LIMIT + 10))
        self.assertEqual(len(self.owners.asked), QUEUE_LIMIT)
        self.end(QUEUE_LIMIT + 5)
        self.assertEqual(self.told, [None])

    def test_bounded(self) -> None:
        """Of datagrams whose end nobody tells, and of all others, only so many are kept."""
        limits = {Protocol.TCP: 3, Protocol.UDP: 2}
        self.patch(programs, "KEPT", limits)
        self.programs = FlowPrograms(self.clock, self.gateway.isLocal, lambda: self.spent)
        self.owners.known.update((number, CURL) for number in range(10))
        self.programs.use(self.owners)
        for protocol, limit in limits.items():
            for number in range(10):
                self.programs.look(flowNumber(number, protocol), RULED)
            self.clock.advance(0)
            found = [self.programs.of(flowNumber(number, protocol)) for number in range(10)]
            self.assertEqual(found, [None] * (10 - limit) + [CURL] * limit)

    def test_bug(self) -> None:
        """A bug in a lookup is in the log, and the flow's end is told all the same."""
        self.patch(FlowPrograms, "_log", Logger(observer=self.logged.append, namespace="test"))  # type: ignore[arg-type]
        owners = SlowOwners()
        self.programs.use(owners)
        self.programs.look(flowNumber(1), RULED)
        self.clock.advance(0)
        self.end(1)
        owners.waiting[0].errback(ValueError("a bug"))
        self.assertEqual(len(self.lines("critical")), 1)
        self.assertEqual(self.told, [None])


class RecordedTests(RouterCase):
    """What an observer of ends hears of programs."""

    def setUp(self) -> None:
        """Somebody records."""
        super().setUp()
        self.owners = FakeOwners()
        self.owners.known[40000] = CURL
        self.heard = Heard()
        self.router.ends.follow(self.heard)
        self.router.programs.use(self.owners)

    def owner(self) -> Owner | None:
        """The process that the last end was told with."""
        note = self.heard.ends[-1][1]
        assert note is not None
        return note.owner

    def test_joined(self) -> None:
        """The process of a TCP flow is looked up when that is joined, and told with its end."""
        request = self.engine.request(PLACE)
        self.clock.advance(0)
        self.assertEqual(self.owners.asked, [])
        self.addCleanup(self.upstream.answer().close)
        self.clock.advance(0)
        self.engine.end(request.flow.id)
        self.assertEqual(self.owner(), CURL)

    def test_datagrams(self) -> None:
        """So is that of datagrams."""
        request = self.engine.requestDatagrams(PLACE)
        self.upstream.answerDatagrams()
        self.clock.advance(0)
        self.engine.endDatagrams(request.flow.id)
        self.assertEqual(self.owner(), CURL)

    def test_atOnce(self) -> None:
        """The end of a flow that ends at once is told after the lookup, with the process."""
        request = self.engine.request(PLACE)
        self.addCleanup(self.upstream.answer().close)
        self.engine.end(request.flow.id)
        self.assertEqual(self.heard.ends, [])
        self.clock.advance(0)
        self.assertEqual(self.owner(), CURL)

    def test_stop(self) -> None:
        """A stop tells what is held back."""
        request = self.engine.request(PLACE)
        self.addCleanup(self.upstream.answer().close)
        self.engine.end(request.flow.id)
        self.router.stop()
        self.assertIs(self.owner(), None)


class StandingProgramsTests(PlannedCase):
    """Standing decisions while somebody records."""

    def test_standing(self) -> None:
        """Nothing stands, because the engine does not tell of the flows it joins then."""
        self.upstream.standing = True
        self.judge.standing[PLACE.host] = 60.0
        self.router.programs.use(FakeOwners())
        for _ in range(3):
            self.engine.request(PLACE)
        self.assertEqual(self.engine.standing, {})
        self.router.programs.use(None)
        for _ in range(2):
            self.engine.request(PLACE)
        self.assertEqual(len(self.engine.standing), 1)
