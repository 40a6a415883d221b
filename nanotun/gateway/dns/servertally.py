"""
What has come of the queries to one DNS server, for C{nanotun status} and C{nanotun dns}.
"""

from __future__ import annotations

from nanotun.interfaces import DnsServer

#: How much of the mean a new latency makes.
WEIGHT = 1 / 8

#: RCODEs that say more of the server than of the name (RFC 1035, section 4.1.1).
_FAULTS = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED"}


class ServerTally:
    """
    See the module.  It outlives what asks the server, if a reload keeps the server.

    @ivar server: its C{via} names the upstream that it is asked through.
    @ivar queries: attempts.
    @ivar answers: attempts that it has answered, with an error or not.
    @ivar errors: attempts that it has not answered in time, or that could not be sent, and
        answers that say that it has trouble: SERVFAIL, REFUSED, FORMERR and NOTIMP.
    @ivar hits: answers of its that were given from the cache.
    @ivar seconds: that all of its answers took.
    @ivar latency: seconds that its answers take, as an exponential mean; L{None} before the
        first.
    @ivar heard: whether it has answered since the machine is in this network.
    @ivar trouble: what is wrong, as a sentence; empty if its latest answer was a good one.
    """

    __slots__ = (
        "answers",
        "errors",
        "heard",
        "hits",
        "latency",
        "queries",
        "seconds",
        "server",
        "trouble",
    )

    def __init__(self, server: DnsServer) -> None:
        self.server = server
        self.queries = 0
        self.answers = 0
        self.errors = 0
        self.hits = 0
        self.seconds = 0.0
        self.latency: float | None = None
        self.heard = False
        self.trouble = ""

    def report(self) -> dict[str, object]:
        """
        The numbers: C{server}, C{via}, C{queries}, C{answers}, C{errors}, C{hits}, C{seconds}
        that all answers took together, and C{latency} in seconds or L{None}.
        """
        return {
            "server": str(self.server),
            "via": self.server.via,
            "queries": self.queries,
            "answers": self.answers,
            "errors": self.errors,
            "hits": self.hits,
            "seconds": self.seconds,
            "latency": self.latency,
        }

    def answered(self, answer: bytes, seconds: float) -> None:
        """
        The server has answered an attempt.

        @param answer: has a header at least.
        @param seconds: since it was asked.
        """
        self.answers += 1
        self.seconds += seconds
        self.heard = True
        latency = self.latency
        self.latency = seconds if latency is None else latency + WEIGHT * (seconds - latency)
        fault = _FAULTS.get(answer[3] & 15)
        if fault is None:
            self.trouble = ""
        else:
            self.errors += 1
            self.trouble = f"The DNS server {self.server} answers {fault}."

    def failed(self, trouble: str) -> None:
        """
        The server has not answered an attempt.

        @param trouble: why, as a sentence; empty if nothing is known but that.  What was said
            before is then more than that.
        """
        self.errors += 1
        if trouble or not self.trouble:
            self.trouble = trouble or f"The DNS server {self.server} does not answer."

    def renew(self) -> None:
        """Forget what is said of the previous network."""
        self.heard = False
        self.trouble = ""
