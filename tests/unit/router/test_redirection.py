"""
Tests for L{nanotun.router.udp.redirection}, by way of the router.
"""

from __future__ import annotations

from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import DatagramsUnsupported, NamesUnsupported, ProxyError, UpstreamError
from nanotun.flow import Endpoint, Refusal
from nanotun.log.trouble import TroubleLog
from nanotun.router.router import FlowRouter
from nanotun.router.udp import associations, redirection
from nanotun.router.udp.association import SHARED_GRACE, SHARED_TIME
from nanotun.testing import (
    FakeGateway,
    FakeJudge,
    FakeNames,
    FakeUpstream,
    FakeUpstreams,
    MemoryEngine,
    MemoryRequest,
    MemoryTunOpener,
    NamedFakeUpstream,
)
from tests.unit.router.association_cases import losingShared

FAKE = Endpoint("198.19.0.1", 443)


class RedirectionCase(SynchronousTestCase):
    """A router between a memory engine and a fake upstream."""

    makeUpstream = FakeUpstream

    def setUp(self) -> None:
        """A router that knows two names."""
        self.clock = Clock()
        self.upstream, self.engine, self.names = self.makeUpstream(), MemoryEngine(), FakeNames()
        self.names.known = {
            "198.19.0.1": "a.example",
            "fdfe:dcba:9876:1::1": "a.example",
            "198.19.0.2": "b.example",
        }
        self.logged: list[LogEvent] = []
        log = Logger(observer=self.logged.append, namespace="test")  # type: ignore[arg-type]
        self.patch(FlowRouter, "_log", log)
        self.router = FlowRouter(
            FakeJudge(),
            FakeUpstreams(self.upstream, FakeUpstream("direct://")),
            self.engine,
            FakeGateway(),
            self.clock,
            False,
            self.names,
            TroubleLog(self.clock, log),
        )
        self.engine.start(MemoryTunOpener().open("nano0", 1500, "off"), self.router)
        self.addCleanup(self.engine.stop)
        self.addCleanup(self.router.stop)

    def ask(self, destination: Endpoint = FAKE, port: int = 40000) -> MemoryRequest:
        """An app on a port sends to a destination."""
        source = "fdfe:dcba:9876::2" if ":" in destination.host else "198.18.0.2"
        return self.engine.requestDatagrams(destination, Endpoint(source, port))


class RedirectionTests(RedirectionCase):
    """Tests for an upstream whose UDP relay takes no names."""

    def test_redirected(self) -> None:
        """An association is opened first, then the name is looked up, then the flow is attached."""
        request = self.ask()
        self.assertEqual(self.names.asked, [])
        self.upstream.answerDatagrams()
        self.assertEqual(self.names.asked, [("a.example", 4)])
        self.assertEqual(self.engine.attached, {})
        self.names.answer("192.0.2.7", "192.0.2.8")
        (association,) = self.engine.associations
        self.assertEqual(self.engine.attached, {request.flow.id: association})
        self.assertEqual(self.engine.redirected, {request.flow.id: Endpoint("192.0.2.7", 443)})

    def test_six(self) -> None:
        """The name is looked up in the app's family."""
        request = self.ask(Endpoint("fdfe:dcba:9876:1::1", 443))
        self.upstream.answerDatagrams()
        self.assertEqual(self.names.asked, [("a.example", 6)])
        self.names.answer("2001:db8::1")
        self.assertEqual(self.engine.redirected[request.flow.id].host, "2001:db8::1")

    def test_real(self) -> None:
        """A flow to a real address does not wait for a lookup on the same association."""
        self.ask()
        other = self.ask(Endpoint("192.0.2.9", 53))
        self.upstream.answerDatagrams()
        self.assertEqual(list(self.engine.attached), [other.flow.id])
        self.assertEqual(self.engine.redirected, {})

    def test_noUdp(self) -> None:
        """If the upstream carries no UDP the app is told so, and no name is looked up."""
        request = self.ask()
        self.upstream.failDatagrams(DatagramsUnsupported("none"))
        self.assertEqual(self.engine.refused, {request.flow.id: Refusal.PORT_UNREACHABLE})
        self.assertEqual(self.names.asked, [])

    def test_noAddress(self) -> None:
        """A name without an address is a host that cannot be reached."""
        request = self.ask()
        self.upstream.answerDatagrams()
        self.names.answer()
        self.assertEqual(self.engine.refused, {request.flow.id: Refusal.HOST_UNREACHABLE})

    def test_noServer(self) -> None:
        """A flow whose lookup fails is refused, and the error is logged."""
        request = self.ask()
        self.upstream.answerDatagrams()
        self.names.fail(UpstreamError("no DNS"))
        self.assertEqual(self.engine.refused, {request.flow.id: Refusal.PORT_UNREACHABLE})
        self.assertEqual([formatEvent(each) for each in self.logged], ["no DNS"])

    def test_forgotten(self) -> None:
        """An address without a name is refused with one line, and opens no association."""
        request = self.ask(Endpoint("198.19.0.9", 443))
        self.ask(Endpoint("198.19.0.9", 443), 40001)
        self.assertEqual(self.engine.refused[request.flow.id], Refusal.PORT_UNREACHABLE)
        (line,) = [formatEvent(each) for each in self.logged]
        self.assertIn("198.19.0.9", line)
        self.assertEqual(self.upstream.families, [])

    def test_associationEnded(self) -> None:
        """An association that ends during the lookup is replaced, without another lookup."""
        request = self.ask()
        self.upstream.answerDatagrams()
        (association,) = self.engine.associations
        self.engine.endAssociation(association)
        self.names.answer("192.0.2.7")
        self.assertEqual(self.engine.attached, {})
        self.upstream.answerDatagrams()
        self.assertEqual(self.engine.redirected, {request.flow.id: Endpoint("192.0.2.7", 443)})
        self.assertEqual(len(self.names.asked), 1)

    def test_shared(self) -> None:
        """A shared association takes such flows as well."""
        self.upstream.sharesLegs = True
        request = self.ask(Endpoint("198.19.0.1", 53))
        self.upstream.answerDatagrams()
        self.names.answer("192.0.2.7")
        self.assertEqual(self.engine.attached, {request.flow.id: next(iter(self.engine.shared))})

    def lookUpShared(self) -> MemoryRequest:
        """A query whose shared association is open, and its name is being looked up."""
        self.upstream.sharesLegs = True
        request = self.ask(Endpoint("198.19.0.1", 53))
        self.upstream.answerDatagrams()
        return request

    def assertOnFirst(self, request: MemoryRequest) -> None:
        """The name's answer puts the flow on the association that was there first."""
        first = min(self.engine.associations)
        self.names.answer("192.0.2.7")
        self.assertEqual(self.engine.attached[request.flow.id], first)
        self.assertEqual(self.engine.redirected, {request.flow.id: Endpoint("192.0.2.7", 53)})
        self.assertEqual(self.engine.refused, {})

    def test_sharedExpired(self) -> None:
        """A shared association that stops to take new flows still takes those it prepared."""
        request = self.lookUpShared()
        self.clock.advance(SHARED_TIME)
        self.assertOnFirst(request)
        self.assertEqual(self.upstream.families, [4])

    def test_sharedFull(self) -> None:
        """The same if it is full by then."""
        self.patch(associations, "SHARED_FLOWS", 1)
        request = self.lookUpShared()
        self.ask(Endpoint("192.0.2.53", 53), 40001)
        self.assertOnFirst(request)
        self.assertEqual(self.upstream.families, [4])

    def test_sharedCounts(self) -> None:
        """Such flows count: at their limit the association retires."""
        self.patch(associations, "SHARED_FLOWS", 1)
        self.assertOnFirst(self.lookUpShared())
        self.ask(Endpoint("192.0.2.53", 53), 40001)
        self.assertEqual(self.upstream.families, [4, 4])

    def test_sharedGone(self) -> None:
        """If it is gone by then, the flow is placed anew."""
        request = self.lookUpShared()
        self.clock.advance(SHARED_TIME)
        self.clock.advance(SHARED_GRACE)
        self.assertEqual(self.engine.associations, {})
        self.names.answer("192.0.2.7")
        self.assertEqual(self.engine.attached, {})
        self.upstream.answerDatagrams()
        (association,) = self.engine.associations
        self.assertEqual(self.engine.attached, {request.flow.id: association})

    def test_sharedLostWhileOpening(self) -> None:
        """
        A flow whose shared association is lost while it opens gets one of its own, and needs
        no shared one after its lookup.
        """
        self.upstream.sharesLegs = True
        request = self.ask(Endpoint("198.19.0.1", 53))
        self.patch(self.engine, "openAssociation", losingShared(self.engine))
        self.upstream.answerDatagrams()
        self.upstream.answerDatagrams()
        self.assertOnFirst(request)
        self.assertEqual(self.upstream.families, [4, 4])

    def test_atOnce(self) -> None:
        """
        A lookup that is answered at once may have its flow be the last one that a shared
        association takes.
        """
        self.patch(associations, "SHARED_FLOWS", 2)
        self.upstream.sharesLegs = True
        self.ask(Endpoint("192.0.2.53", 53))
        self.upstream.answerDatagrams()
        self.patch(self.names, "resolve", lambda name, family: succeed(["192.0.2.7"]))
        request = self.ask(Endpoint("198.19.0.1", 53), 40001)
        self.assertEqual(self.engine.redirected, {request.flow.id: Endpoint("192.0.2.7", 53)})
        self.ask(Endpoint("192.0.2.53", 53), 40002)
        self.assertEqual(self.upstream.families, [4, 4])

    def test_bounded(self) -> None:
        """Above a number of lookups flows are dropped."""
        self.patch(redirection, "WAITING_LIMIT", 2)
        requests = [self.ask(port=40000 + number) for number in range(3)]
        for _ in requests:
            self.upstream.answerDatagrams()
        self.assertEqual((self.names.pending, self.engine.dropped), (2, [requests[2].flow.id]))
        self.names.answer("192.0.2.7")
        self.assertEqual(list(self.engine.attached), [requests[0].flow.id])

    def test_held(self) -> None:
        """All names that an association is used for stay in use until its end."""
        for host in ("198.19.0.1", "198.19.0.2", "192.0.2.9"):
            self.ask(Endpoint(host, 443))
        self.upstream.answerDatagrams()
        self.names.answer("192.0.2.7")
        self.names.answer("192.0.2.8")
        self.assertEqual(self.names.open, ["198.19.0.1", "198.19.0.2"])
        self.router.stop()
        self.assertEqual(self.names.open, [])

    def test_stop(self) -> None:
        """The stop cancels lookups and drops their flows."""
        looking, waiting = self.ask(), self.ask(port=40001)
        self.upstream.answerDatagrams()
        self.router.stop()
        self.assertEqual(sorted(self.engine.dropped), [looking.flow.id, waiting.flow.id])
        self.assertEqual(self.names.pending, 0)

    def test_endOf(self) -> None:
        """
        A source that is to go elsewhere sends nothing more the old way, though a name of it was
        being looked up; other sources go on.
        """
        ended, other = self.ask(), self.ask(port=40001)
        for _ in range(2):
            self.upstream.answerDatagrams()
        self.assertEqual(len(self.names.asked), 2)
        self.assertTrue(self.router._redirection.endOf(ended.flow.source, self.upstream))
        self.assertEqual(self.engine.dropped, [ended.flow.id])
        self.names.answer("192.0.2.7")
        self.assertEqual(list(self.engine.attached), [other.flow.id])
        self.assertFalse(self.router._redirection.endOf(ended.flow.source, self.upstream))


class NamedTests(RedirectionCase):
    """Tests for an upstream whose UDP relay may take names."""

    makeUpstream = NamedFakeUpstream
    upstream: NamedFakeUpstream

    def numbers(self, *requests: MemoryRequest) -> list[int]:
        """The associations that carry these flows."""
        return [self.engine.attached[request.flow.id] for request in requests]

    def test_named(self) -> None:
        """The upstream is asked for a leg that takes names, and nothing is looked up."""
        for count, host in enumerate(("198.19.0.1", "fdfe:dcba:9876:1::1"), 1):
            request = self.ask(Endpoint(host, 443))
            self.upstream.answerDatagrams()
            (number,) = self.numbers(request)
            self.assertEqual(self.engine.named[number], "a.example")
            self.assertEqual(len(self.engine.named), count)
        self.assertEqual(self.upstream.namedFamilies, [4, 6])
        self.assertEqual((self.upstream.families, self.names.asked), ([], []))
        self.assertEqual(self.engine.redirected, {})

    def test_each(self) -> None:
        """Two names from one port have an association each, and two ports of one name have one;
        so have real addresses."""
        hosts = ("198.19.0.1", "198.19.0.2", "192.0.2.9")
        requests = [self.ask(Endpoint(host, 443)) for host in hosts]
        requests.append(self.ask(Endpoint("198.19.0.1", 444)))
        for _ in hosts:
            self.upstream.answerDatagrams()
        requests.append(self.ask(Endpoint("198.19.0.1", 445)))
        first, second, third, *same = self.numbers(*requests)
        self.assertEqual(len({first, second, third}), 3)
        self.assertEqual(same, [first, first])
        self.assertEqual(len(self.upstream.namedFamilies), 2)

    def test_neverShared(self) -> None:
        """Queries to a name do not share an association."""
        self.upstream.sharesLegs = True
        self.ask(Endpoint("198.19.0.1", 53))
        self.ask(Endpoint("198.19.0.1", 53), 40001)
        self.upstream.answerDatagrams()
        self.upstream.answerDatagrams()
        self.assertEqual(self.engine.shared, set())
        self.assertEqual(len(self.engine.named), 2)

    def test_unnamed(self) -> None:
        """If the UDP relay takes no names, all who wait are sent by address, as their names are
        looked up, and nothing is logged."""
        requests = [self.ask(), self.ask(Endpoint("198.19.0.1", 444))]
        self.upstream.failDatagrams(NamesUnsupported("none"))
        self.upstream.answerDatagrams()
        self.assertEqual(self.names.asked, [("a.example", 4)] * 2)
        self.names.answer("192.0.2.7")
        self.names.answer("192.0.2.7")
        self.assertEqual(
            [self.engine.redirected[each.flow.id] for each in requests],
            [Endpoint("192.0.2.7", 443), Endpoint("192.0.2.7", 444)],
        )
        self.assertEqual((self.engine.named, self.logged), ({}, []))

    def test_fault(self) -> None:
        """If the association fails for another cause the app is told, and nothing is looked
        up."""
        for error in (ProxyError("It is off."), DatagramsUnsupported("none")):
            request = self.ask()
            self.upstream.failDatagrams(error)
            self.assertEqual(self.engine.refused[request.flow.id], Refusal.PORT_UNREACHABLE)
        self.assertEqual((self.names.asked, self.upstream.families), ([], []))

    def test_ended(self) -> None:
        """After the end of an association the next datagram opens another one."""
        self.ask()
        self.upstream.answerDatagrams()
        self.engine.endAssociation(next(iter(self.engine.associations)))
        request = self.ask()
        self.upstream.answerDatagrams()
        self.assertEqual(self.engine.named[self.numbers(request)[0]], "a.example")

    def test_held(self) -> None:
        """A name stays in use until its association ends, once for all its flows."""
        self.ask()
        self.ask(Endpoint("198.19.0.1", 444))
        self.assertEqual(self.names.open, [])
        self.upstream.answerDatagrams()
        self.assertEqual(self.names.open, ["198.19.0.1"])
        self.engine.endAssociation(next(iter(self.engine.associations)))
        self.assertEqual(self.names.open, [])

    def test_stop(self) -> None:
        """The stop drops flows that wait, and every flow after it."""
        self.ask()
        self.router.stop()
        self.ask()
        self.assertEqual(len(self.engine.dropped), 2)
        self.assertEqual(self.upstream.cancelled, 1)
