"""
Checks that ask each DNS server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks, maybeDeferred
from zope.interface import implementer

from nanotun.daemon.systemservers import SystemServers, shown
from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.doctor.question import DnsQuestion
from nanotun.errors import UpstreamError
from nanotun.gateway.dns.interfaces import IAttempt, INameServer
from nanotun.gateway.dns.message import NOERROR, NXDOMAIN, RCODE, SERVFAIL, readQuery
from nanotun.gateway.dns.nameservers import NameServers
from nanotun.gateway.dns.types import RCODES
from nanotun.interfaces import DnsServer
from nanotun.timer import Timer
from nanotun.upstream.datagramtrial import RETRY, TRIES

#: Seconds to wait for an answer on a connection: for the dial, the look-up of the server's name
#: and a handshake, which has five.  A check has one more.
WAITS = 11

#: How a cure begins that is another server, by whether only dnsRules name the present one.
ANOTHER = {False: "Set dns to a server", True: "In dnsRules, name a server"}

#: What to do where the sentence about a server does not say it.
LOOK = {
    False: "Look at that server, or set dns to another one.",
    True: "Look at that server, or name another one in dnsRules.",
}


def judged(
    server: DnsServer, question: DnsQuestion, answer: bytes, way: str = "", ruled: bool = False
) -> Finding:
    """
    What an answer's response code says of the server.

    @param way: added to what the server does; empty, or C{" through the proxy"}.
    @param ruled: whether only C{dnsRules} name it.
    """
    name, rcode = "DNS", answer[3] & RCODE
    if rcode in (NOERROR, NXDOMAIN):
        return Finding(name, Level.OK, f"The server {server} answers{way}.")
    code = RCODES.get(rcode, f"response code {rcode}")
    if rcode == SERVFAIL:
        return Finding(
            name,
            Level.WARN,
            f"The server {server} answers{way}, but cannot look up {question.name} ({code}).",
            LOOK[ruled],
        )
    return Finding(
        name,
        Level.FAIL,
        f"The server {server} refuses queries{way or ' from this machine'} ({code}).",
        f"{ANOTHER[ruled]} that looks names up for whoever asks from there.",
    )


@implementer(ICheck)
class ServerCheck:
    """
    Whether a server answers, asked by its own protocol and its own way, as the DNS relay asks it.

    @param server: C{udp}, C{tcp}, C{tls} or C{https}.
    @param question: what it is asked.
    @param makeServers: makes what asks it, or a Deferred that fires with that.
    @param ruled: whether only C{dnsRules} name it.
    """

    name = "DNS"

    def __init__(
        self,
        server: DnsServer,
        question: DnsQuestion,
        makeServers: Callable[[], NameServers | Deferred[NameServers]],
        reactor: Any,
        ruled: bool = False,
    ) -> None:
        self._server = server
        self._question = question
        self._makeServers = makeServers
        self._reactor = reactor
        self._byDatagram = server.scheme == "udp"
        self._ruled = ruled
        self._error = ""

    @inlineCallbacks
    def run(self) -> Any:
        """See L{ICheck.run}."""
        servers = yield maybeDeferred(self._makeServers)
        asked: INameServer = servers.at(self._server)
        done: Deferred[bytes] = Deferred()
        left = [TRIES if self._byDatagram else WAITS]
        attempts: list[IAttempt] = []

        def look() -> None:
            left[0] -= 1
            if not left[0]:
                end(b"")
                return
            timer.start(RETRY)
            # On a connection nothing gets lost.
            if self._byDatagram and (not attempts or attempts[-1].doubt()):
                ask()

        def ask() -> None:
            wire = self._question.query(0)
            try:
                attempts.append(asked.ask(wire, readQuery(wire), False, end, failed))
            except (OSError, UpstreamError) as error:
                self._error = self._sentence(error)
                end(b"")

        def failed() -> None:
            # A datagram may be answered all the same, or the next one.
            if asked.tally.trouble or not self._byDatagram:
                end(b"")

        def end(answer: bytes) -> None:
            if not done.called:
                done.callback(answer)

        timer = Timer(self._reactor, look)
        timer.start(RETRY)
        try:
            ask()
            answer = yield done
        finally:
            timer.close()
            for attempt in attempts:
                attempt.cancel()
            servers.stop()
        if answer:
            return [judged(self._server, self._question, answer, asked.where, self._ruled)]
        return [self._unanswered(asked)]

    def _sentence(self, error: OSError | UpstreamError) -> str:
        if isinstance(error, OSError) and error.strerror:
            return (
                f"The server {self._server} cannot be reached ({error.strerror}); name one "
                f"in {'dnsRules' if self._ruled else 'dns'} that this machine reaches."
            )
        return str(error)

    def _unanswered(self, asked: INameServer) -> Finding:
        text = asked.tally.trouble or self._error
        if text:
            # Most sentences have a cure of their own.
            cure = "" if ";" in text else LOOK[self._ruled]
            return Finding(self.name, Level.FAIL, text, cure)
        what = f"The server {self._server} does not answer"
        if asked.where:
            return Finding(
                self.name,
                Level.FAIL,
                f"{what}{asked.where}.",
                f"{ANOTHER[self._ruled]} that the proxy reaches, allow DNS there, or "
                f"{self._otherWay('direct')}.",
            )
        such = "" if self._ruled else ", such as the router's or the provider's"
        return Finding(
            self.name,
            Level.FAIL,
            f"{what}, and the relay asks it past the proxy.",
            f"{ANOTHER[self._ruled]} that this machine reaches{such}; or "
            f"{self._otherWay('proxy')}.",
        )

    def _otherWay(self, via: str) -> str:
        """How to do without the server's present way.  Names that have servers are not faked."""
        if self._ruled:
            return f"give it via: {via}"
        return f"try dnsMode: fake-ip or {'give it via' if self._server.via else 'dnsVia'}: {via}"


class SystemLook:
    """
    A look at the servers that this machine uses itself.

    @param make: makes what looks, given what calls a function in a thread.
    @param inThread: calls a function in a thread and returns a Deferred.
    """

    def __init__(
        self,
        make: Callable[[Callable[[Callable[[], Any]], Deferred[Any]]], SystemServers],
        inThread: Callable[..., Any],
    ) -> None:
        self._make = make
        self._inThread = inThread
        self._system: SystemServers | None = None
        self._threads = 0
        self._waiting: list[Deferred[tuple[DnsServer, ...]]] = []

    def servers(self) -> tuple[DnsServer, ...]:
        """What is known of them."""
        return () if self._system is None else self._system()

    def get(self) -> Deferred[tuple[DnsServer, ...]]:
        """Look at them, if that has not been done yet."""
        if self._system is None:
            self._system = self._make(self._look)
            self._system.start()
        found: Deferred[tuple[DnsServer, ...]] = Deferred()
        self._waiting.append(found)
        self._tell()
        return found

    def _look(self, function: Callable[[], Any]) -> Deferred[Any]:
        self._threads += 1
        looked: Deferred[Any] = Deferred()

        def done(result: Any) -> None:
            self._threads -= 1
            # Those who wait want to know what is made of it.
            looked.callback(result)
            self._tell()

        self._inThread(function).addBoth(done)
        return looked

    def _tell(self) -> None:
        if self._threads or self._system is None:
            return
        # One look is enough.
        self._system.stop()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self.servers())


@implementer(ICheck)
class SystemCheck:
    """
    What C{system} stands for, and whether those servers answer.

    @param look: knows them.
    @param check: makes the check of one of them.
    """

    name = "DNS"

    def __init__(self, look: SystemLook, check: Callable[[DnsServer], ICheck]) -> None:
        self._look = look
        self._check = check

    @inlineCallbacks
    def run(self) -> Any:
        """See L{ICheck.run}."""
        servers: tuple[DnsServer, ...] = yield self._look.get()
        if not servers:
            return [
                Finding(
                    self.name,
                    Level.FAIL,
                    "system stands for no server, because this machine names none that nanotun "
                    "could ask.",
                    "Add a server to dns, such as the router's address.",
                )
            ]
        found = [Finding(self.name, Level.INFO, f"system stands for {shown(servers)}.")]
        different = dict.fromkeys(each._replace(domains=()) for each in servers)
        runs = [maybeDeferred(self._check(each).run) for each in different]
        for each in (yield gatherResults(runs, consumeErrors=True)):
            found += each
        return found


@implementer(ICheck)
class ClearNamesCheck:
    """
    Says that names are looked up outside the proxy.  No fault: it is the default.

    @param notice: a sentence with its cure after a semicolon.
    """

    name = "DNS"

    def __init__(self, notice: str) -> None:
        self._notice = notice

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        return [Finding(self.name, Level.INFO, self._notice)]
