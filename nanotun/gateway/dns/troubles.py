"""
What is said about a DNS server that cannot be asked on a connection, and who is to blame.
"""

from __future__ import annotations

from collections.abc import Callable

from nanotun.config.askedservers import through
from nanotun.errors import ProxyError, UpstreamError, UpstreamProhibited
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.interfaces import DnsServer
from nanotun.interfaces.nameserver import ENCRYPTED


class Troubles:
    """
    The sentences about one server.

    @param server: its C{via} is the name of the upstream that it is asked through, or
        C{direct}.
    @param ownVia: whether the server has a C{via} of its own, and C{dnsVia} is another.
    @param mayFake: whether C{dnsMode: fake-ip} would help; see
        L{nanotun.gateway.dns.proxied.couldFake}.
    @param report: is given each sentence.
    @param tally: keeps the latest one, until the server answers.
    """

    def __init__(
        self,
        server: DnsServer,
        ownVia: bool,
        mayFake: bool,
        report: Callable[[str], None],
        tally: ServerTally,
    ) -> None:
        self._server = server
        self._ownVia = ownVia
        self._mayFake = mayFake
        self._report = report
        self._tally = tally

    @property
    def where(self) -> str:
        """What a sentence adds to the server: empty, or such as C{' through the proxy'}."""
        return "" if self._server.via == "direct" else f" {through(self._server.via)}"

    def complain(self, trouble: str) -> OSError:
        """
        Say what the server does wrong.

        @param trouble: as in L{TalkError<nanotun.gateway.dns.talks.TalkError>}.
        @return: the error that queries fail with because of it.
        """
        asked = f", asked{self.where}," if self.where else ""
        return OSError(self._said(f"The DNS server {self._server}{asked} {trouble}."))

    def notReached(self, error: UpstreamError) -> OSError | UpstreamError:
        """
        Say that no connection to the server could be opened.

        @param error: the upstream's.
        @return: the error that queries fail with because of it: an L{UpstreamError} if the server
            is not to blame.
        """
        sentence = self._said(self._sentence(error))
        # A proxy that carries no UDP may let no DNS out by TCP either.
        isOther = isinstance(error, UpstreamProhibited | ProxyError) or (
            self._server.scheme == "udp" and bool(self.where)
        )
        if isOther or type(error) is UpstreamError:
            return UpstreamError(sentence)
        return OSError(sentence)

    def _said(self, sentence: str) -> str:
        self._report(sentence)
        self._tally.trouble = sentence
        return sentence

    def _sentence(self, error: UpstreamError) -> str:
        reason = str(error).removesuffix(".")
        server, where = self._server, self.where
        if type(error) is UpstreamError:
            return f"A DNS query cannot be sent: {reason}."
        if not where:
            # The reason names the destination again.
            _, _, last = reason.rpartition("cannot be reached: ")
            return f"The DNS server {server} cannot be reached: {last}; check its address and port."
        if isinstance(error, UpstreamProhibited):
            what = "dnsVia sends the DNS queries"
            if self._ownVia:
                what = f"via sends the queries for the DNS server {server}"
            return f"{reason}, and {what} through it; {self._cure()}."
        if isinstance(error, ProxyError):
            what = "DNS queries cannot be sent, because dnsVia sends them"
            if self._ownVia:
                what = f"The DNS server {server} cannot be asked, because its via leads"
            return f"{what}{where}: {reason}."
        kind = " over TCP" if server.scheme == "udp" else ""
        return (
            f"The DNS server {server} cannot be asked{kind}{where}: {reason}; if the proxy lets "
            f"no DNS out, {self._cure()}."
        )

    def _cure(self) -> str:
        cures = ["allow it there"]
        if self._mayFake:
            cures.append(
                "set dnsMode: fake-ip (--dns-mode fake-ip), so that the proxy looks names up"
            )
        change = "set dnsVia: direct (--dns-via direct)"
        if self._ownVia:
            change = "give that server via: direct"
        clear = "" if self._server.scheme in ENCRYPTED else ", in the clear"
        cures.append(f"{change}, which sends the queries past the proxy{clear}")
        *first, last = cures
        return f"{', '.join(first)}{',' if len(first) > 1 else ''} or {last}"
