"""
The contract of L{IPlanned} and L{IDialOutcomes}, for every upstream that has plans.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint, KnownEndpoint, LiteralEndpoint
from nanotun.interfaces import (
    Connection,
    DialEnd,
    DialEndKind,
    DialPlan,
    IDialOutcomes,
    IPlanned,
    IUpstream,
    Tail,
)
from tests.unit.upstream.upstream_cases import FakeReactor

#: In every URL with a password.
SECRET = "hunter2"

#: A plan for any of them is good, and so is none.
DESTINATIONS = (
    Endpoint("192.0.2.1", 443),
    Endpoint("192.0.2.1", 80),
    Endpoint("2001:db8::1", 443),
    Endpoint("fe80::1", 1),
    Endpoint("198.18.0.9", 443),
    Endpoint("www.example", 443),
    Endpoint("x" * 300, 443),
    Endpoint("no\r\nhost", 443),
    LiteralEndpoint("192.0.2.1", 443),
    KnownEndpoint("192.0.2.1", 443, "www.example"),
    KnownEndpoint("192.0.2.1", 443, "x" * 300),
)

#: What a proxy says after the handshake.
HELLO = b"220 hello"

#: Others than the good one, to the first message.
ANSWERS = (b"", b"\5", b"\5\xff", b"\xff" * 3, b"HTTP/1.1 403 No\r\n\r\n", b"\0" * 500)

_TAILS = {
    Tail.NONE: b"",
    Tail.SOCKS_ADDRESS: b"\1\x7f\0\0\1\0\x50",
    Tail.HTTP_HEAD: b"HTTP/1.1 200 OK\r\n\r\n",
}


def goodWay(plan: DialPlan) -> bytes:
    """All that a proxy sends on the good way of a plan."""
    sent = b""
    for step in plan.course.steps:
        value, tail = step.value, _TAILS[step.tail]
        if step.tail is Tail.SOCKS_ADDRESS:
            value = value[:-1]
        sent += tail if tail.startswith(value) and step.tail is Tail.HTTP_HEAD else value + tail
    return sent


# For mypy: the class that the contract is mixed into.
if TYPE_CHECKING:
    Base = SynchronousTestCase
else:
    Base = object


class DialPlanContract(Base):
    """
    The promises of L{IPlanned} and L{IDialOutcomes}.  Time stands still, and no socket becomes
    ready, so that a dial which goes on waits until it is cancelled.
    """

    def setUp(self) -> None:
        """Have a port on which nothing listens."""
        self.reactor = FakeReactor()
        probe = socket.socket()
        probe.bind(("127.0.0.1", 0))
        self.addCleanup(probe.close)
        self.destination = Endpoint(*probe.getsockname())
        self.port = self.destination.port

    def makers(self) -> dict[str, Callable[[], IUpstream]]:
        """
        The upstreams to test, by names for messages.  Each has plans for C{self.destination},
        and connects to nothing but that.
        """
        raise NotImplementedError

    def plans(self) -> Iterator[tuple[str, DialPlan]]:
        """A new plan of each upstream; what it opened must be closed before the next."""
        for name, make in self.makers().items():
            plan = IPlanned(make()).plan(self.destination)
            assert plan is not None, name
            before = len(os.listdir("/proc/self/fd"))
            yield name, plan
            self.assertEqual(len(os.listdir("/proc/self/fd")), before, name)
            self.assertEqual((self.reactor.readers, self.reactor.writers), ([], []), name)
            # Timers of the log may be under way.
            left = [call for call in self.reactor.getDelayedCalls() if "Trouble" not in str(call)]
            self.assertEqual(left, [], name)

    def end(
        self, kind: DialEndKind, plan: DialPlan, received: bytes = b"", step: int = 0
    ) -> DialEnd:
        """
        An end of a dial.

        @param received: at most of HANDED, LOST and EXPIRED.
        @param step: the step whose answer is not complete.
        """
        handed = kind is DialEndKind.HANDED
        fd = self.connection() if handed else -1
        connected = plan.course.steps and (received or handed or kind is DialEndKind.LOST)
        last = len(plan.course.addresses) - 1
        return DialEnd(kind, 111, step if connected else -1, last, fd, received, 0.5)

    def goodEnd(self, plan: DialPlan) -> DialEnd:
        """The good way to its end, and what the proxy says then, handed over."""
        received = goodWay(plan) + HELLO if plan.course.steps else b""
        return self.end(DialEndKind.HANDED, plan, received, len(plan.course.steps) - 1)

    def connection(self) -> int:
        """A connection, of which C{self.far} is the proxy's side."""
        near, self.far = socket.socketpair()
        self.addCleanup(self.far.close)
        near.setblocking(False)
        return near.detach()

    def settle(self, leg: Deferred[Connection], name: str) -> None:
        """It is a leg, a failure, or can be cancelled; nothing is left of it."""
        results: list[object] = []
        leg.addCallback(lambda connection: os.close(connection.fd))
        leg.addBoth(results.append)
        leg.cancel()
        self.assertEqual(len(results), 1, name)
        if results[0] is not None:
            results[0].trap(UpstreamError, CancelledError)  # type: ignore[attr-defined]

    def assertCarries(self, leg: Deferred[Connection], plan: DialPlan, name: str) -> None:
        """It leads to C{self.far}."""
        connection = self.successResultOf(leg)
        self.assertEqual(connection.leftover, HELLO if plan.course.steps else b"", name)
        self.assertFalse(os.get_blocking(connection.fd), name)
        os.write(connection.fd, b"x")
        self.far.settimeout(5)
        self.assertEqual(self.far.recv(10), b"x", name)
        os.close(connection.fd)
        self.far.close()

    def assertClosed(self, name: str) -> None:
        """The other side of C{self.far} is closed."""
        self.far.settimeout(5)
        try:
            self.assertEqual(self.far.recv(10), b"", name)
        except ConnectionResetError:
            pass
        self.far.close()

    def test_plan(self) -> None:
        """Whatever the destination is, there is a plan that the engine can use, or none."""
        for name, make in self.makers().items():
            upstream = make()
            verifyObject(IPlanned, upstream)
            for destination in (*DESTINATIONS, self.destination):
                plan = IPlanned(upstream).plan(destination)
                if plan is None:
                    self.assertNotEqual(destination, self.destination, name)
                    continue
                verifyObject(IDialOutcomes, plan.outcomes)
                course = plan.course
                self.assertIn(course, {course: 1}, name)
                self.assertTrue(course.addresses and all(course.addresses), name)
                self.assertTrue(0 <= course.patience < course.timeout, name)
                for step in course.steps:
                    self.assertEqual(len(step.mask), len(step.value), name)
                self.assertEqual((plan.fd, plan.first), (-1, 0), name)

    def test_secrets(self) -> None:
        """A password is in the course's steps if anywhere, and no text shows it."""
        for name, plan in self.plans():
            self.assertNotIn(SECRET.encode(), plan.request, name)
            for shown in (plan, plan.course, plan.course.steps, plan.outcomes):
                self.assertNotIn(SECRET, repr(shown), name)

    def test_opened(self) -> None:
        """It may be told of any number of dials, that connected to any of the addresses."""
        for _, plan in self.plans():
            for count in (1, 100000):
                for address in range(len(plan.course.addresses)):
                    plan.outcomes.opened(count, 0.01, address)

    def test_everyOrder(self) -> None:
        """A plan may be told of everything, for one flow after the other, in any order."""
        for order in itertools.permutations(("opened", "resume", "silent", "abandoned")):
            for name, plan in self.plans():
                legs = []
                for what in order:
                    if what == "opened":
                        plan.outcomes.opened(1, 0.01, 0)
                    elif what == "abandoned":
                        plan.outcomes.abandoned(100.0)
                    elif what == "silent":
                        legs.append(plan.outcomes.silent(Deferred(), 3.0))
                    else:
                        legs.append(plan.outcomes.resume(self.end(DialEndKind.GENERAL, plan)))
                for leg in legs:
                    self.settle(leg, name)

    def test_ends(self) -> None:
        """However a dial ends, the answer is a leg or an error, now or later."""
        talks = (DialEndKind.HANDED, DialEndKind.LOST, DialEndKind.EXPIRED)
        for kind in DialEndKind:
            for received in ANSWERS if kind in talks else (b"",):
                for name, plan in self.plans():
                    if not plan.course.steps and (received or kind is DialEndKind.LOST):
                        continue
                    leg = plan.outcomes.resume(self.end(kind, plan, received))
                    self.settle(leg, f"{name} {kind} {received!r}")
                    if kind is DialEndKind.HANDED:
                        self.assertClosed(name)

    def test_handed(self) -> None:
        """A good way that was handed over is a leg on that connection."""
        for name, plan in self.plans():
            self.assertCarries(plan.outcomes.resume(self.goodEnd(plan)), plan, name)

    def test_handedAfterSilence(self) -> None:
        """So is one after a silence."""
        for name, plan in self.plans():
            engine: Deferred[DialEnd] = Deferred()
            leg = plan.outcomes.silent(engine, 3.0)
            self.assertNoResult(leg)
            engine.callback(self.goodEnd(plan))
            self.assertCarries(leg, plan, name)

    def test_cancelled(self) -> None:
        """A connection that was handed over in the middle is closed by cancelling."""
        for name, plan in self.plans():
            leg = plan.outcomes.resume(self.end(DialEndKind.HANDED, plan))
            if plan.course.steps:
                self.assertNoResult(leg)
            self.settle(leg, name)
            self.assertClosed(name)

    def test_cancelledSilence(self) -> None:
        """Cancelling after a silence cancels the engine's dial."""
        for name, plan in self.plans():
            cancelled: list[object] = []
            leg = plan.outcomes.silent(Deferred(cancelled.append), 3.0)
            self.settle(leg, name)
            self.assertEqual(len(cancelled), 1, name)

    def test_several(self) -> None:
        """One plan may serve several flows at a time."""
        for name, plan in self.plans():
            outcomes = plan.outcomes
            engines: list[Deferred[DialEnd]] = [Deferred() for _ in range(2)]
            legs = [outcomes.silent(engine, 3.0) for engine in engines]
            legs.append(outcomes.resume(self.end(DialEndKind.GENERAL, plan)))
            engines[1].callback(self.goodEnd(plan))
            self.assertCarries(legs.pop(1), plan, name)
            self.assertNoResult(legs[0])
            for leg in legs:
                self.settle(leg, name)
