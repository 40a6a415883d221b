"""
Checks that ask each DNS server.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from zope.interface import implementer

from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.doctor.question import DnsQuestion
from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint
from nanotun.gateway.dns.interfaces import INameServer
from nanotun.gateway.dns.message import NOERROR, NXDOMAIN, RCODE, SERVFAIL, readQuery
from nanotun.gateway.dns.nameservers import NameServers
from nanotun.interfaces import DnsServer
from nanotun.timer import Timer
from nanotun.upstream.datagramtrial import RETRY, TRIES, DatagramTrial, isDnsAnswer

#: Response codes that are no answer to the question, by the names that tools such as dig show
#: (RFC 1035, section 4.1.1).
ERRORS = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED", 9: "NOTAUTH"}


def judged(
    server: Endpoint | DnsServer, question: DnsQuestion, answer: bytes, way: str = ""
) -> Finding:
    """
    What an answer's response code says of the server.

    @param way: added to what the server does; empty, or C{" through the proxy"}.
    """
    name, rcode = "DNS", answer[3] & RCODE
    if rcode in (NOERROR, NXDOMAIN):
        return Finding(name, Level.OK, f"The server {server} answers{way}.")
    code = ERRORS.get(rcode, f"response code {rcode}")
    if rcode == SERVFAIL:
        return Finding(
            name,
            Level.WARN,
            f"The server {server} answers{way}, but cannot look up {question.name} ({code}).",
            "Look at that server, or set dns to another one.",
        )
    return Finding(
        name,
        Level.FAIL,
        f"The server {server} refuses queries{way or ' from this machine'} ({code}).",
        "Set dns to a server that looks names up for whoever asks from there.",
    )


@implementer(ICheck)
class ProxiedDnsCheck:
    """
    Whether a server of C{dns} answers through the proxy, as the DNS relay asks it.

    @param question: what it is asked.
    @param makeServers: makes what asks it, given what takes a sentence about why it cannot.
    """

    name = "DNS"

    def __init__(
        self,
        server: DnsServer,
        question: DnsQuestion,
        makeServers: Callable[[Callable[[str], None]], NameServers],
        reactor: Any,
    ) -> None:
        self._server = server
        self._question = question
        self._makeServers = makeServers
        self._reactor = reactor

    @inlineCallbacks
    def run(self) -> Any:
        """See L{ICheck.run}."""
        sentences: list[str] = []
        servers = self._makeServers(sentences.append)
        asked = servers.at(self._server)
        timer = Timer(self._reactor, lambda: self._askOnce(asked, sentences, done, timer))
        done: Deferred[bytes] = Deferred()
        self._left = TRIES
        self._askOnce(asked, sentences, done, timer)
        try:
            answer = yield done
        finally:
            timer.close()
            servers.stop()
        if answer:
            return [judged(self._server, self._question, answer, asked.where)]
        if sentences:
            return [Finding(self.name, Level.FAIL, sentences[0])]
        return [
            Finding(
                self.name,
                Level.FAIL,
                f"The server {self._server} does not answer{asked.where}.",
                "Set dns to a server that the proxy reaches, allow DNS there, or set dnsMode: "
                "fake-ip or dnsVia: direct.",
            )
        ]

    def _askOnce(
        self, asked: INameServer, sentences: list[str], done: Deferred[bytes], timer: Timer
    ) -> None:
        def end(answer: bytes) -> None:
            if not done.called:
                done.callback(answer)

        def failed() -> None:
            if sentences:
                end(b"")

        if not self._left:
            end(b"")
            return
        self._left -= 1
        timer.start(RETRY)
        wire = self._question.query(0)
        try:
            asked.ask(wire, readQuery(wire), False, end, failed)
        except (OSError, UpstreamError):
            failed()


@implementer(ICheck)
class DnsCheck:
    """
    Whether a server of C{dns} answers this machine past the proxy, as the DNS relay asks it.

    @param question: what it is asked.
    @param makeDatagram: makes a socket like the DNS relay's, given C{AF_INET} or C{AF_INET6}.
    @param makeIdent: returns a 16-bit ID for the query.
    """

    name = "DNS"

    def __init__(
        self,
        server: Endpoint,
        question: DnsQuestion,
        reactor: Any,
        makeDatagram: Callable[[int], socket.socket],
        makeIdent: Callable[[], int] = lambda: int.from_bytes(os.urandom(2), "big"),
    ) -> None:
        self._server = server
        self._question = question
        self._reactor = reactor
        self._makeDatagram = makeDatagram
        self._makeIdent = makeIdent

    @inlineCallbacks
    def run(self) -> Any:
        """See L{ICheck.run}."""
        ident = self._makeIdent()
        six = ":" in self._server.host
        try:
            sock = self._makeDatagram(socket.AF_INET6 if six else socket.AF_INET)
            try:
                sock.connect(self._server)
            except OSError:
                sock.close()
                raise
            query = self._question.query(ident)
            answer = yield DatagramTrial(self._reactor, sock, query, isDnsAnswer(ident)).start()
        except UpstreamError as error:
            return [Finding(self.name, Level.FAIL, str(error))]
        except OSError as error:
            return [self._unanswered(f"cannot be reached ({error.strerror})")]
        except Exception:
            return [self._unanswered("does not answer")]
        return [judged(self._server, self._question, answer)]

    def _unanswered(self, what: str) -> Finding:
        return Finding(
            self.name,
            Level.FAIL,
            f"The server {self._server} {what}, and the relay asks it past the proxy.",
            "Set dns to a server that this machine reaches, such as the router's or the "
            "provider's; or try dnsMode: fake-ip or dnsVia: proxy.",
        )


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
