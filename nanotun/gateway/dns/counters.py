"""
What the relay counts, for the status page.
"""

from __future__ import annotations

from typing import NamedTuple


class Counters:
    """
    Counters since the start.

    @ivar queries: that came, by UDP and TCP.
    @ivar hits: answered from the cache.
    @ivar faked: answered by C{dnsMode: fake-ip} itself.
    @ivar joined: waited for a query of the same bytes that was under way, or
        repeated it.
    @ivar upstream: sent to servers by UDP.
    @ivar upstreamStreams: sent to servers by TCP.
    @ivar timeouts: attempts that a server did not answer in time.
    @ivar failures: attempts that could not be sent or met a refusal.
    @ivar servfail: queries that no server answered.
    @ivar ignored: datagrams and messages from servers that answer nothing asked:
        forged, late or broken.
    @ivar limited: turned away, too many were under way.
    @ivar malformed: queries that are none.
    @ivar truncated: answers too large for their asker.
    @ivar outside: queries and connections from other hosts.
    @ivar streams: TCP connections served.
    @ivar streamsLimited: TCP connections turned away, too many were open.
    @ivar unserved: datagrams to a port that nothing serves.
    """

    def __init__(self) -> None:
        self.queries = 0
        self.hits = 0
        self.faked = 0
        self.joined = 0
        self.upstream = 0
        self.upstreamStreams = 0
        self.timeouts = 0
        self.failures = 0
        self.servfail = 0
        self.ignored = 0
        self.limited = 0
        self.malformed = 0
        self.truncated = 0
        self.outside = 0
        self.streams = 0
        self.streamsLimited = 0
        self.unserved = 0


class GatewayStats(NamedTuple):
    """
    See L{Counters}.

    @ivar inFlight: gauge: queries that wait for a server.
    @ivar openStreams: gauge: TCP connections of apps.
    @ivar cached: gauge: answers in the cache.
    @ivar cachedBytes: gauge: what they take, about.
    """

    queries: int
    hits: int
    faked: int
    joined: int
    upstream: int
    upstreamStreams: int
    timeouts: int
    failures: int
    servfail: int
    ignored: int
    limited: int
    malformed: int
    truncated: int
    outside: int
    streams: int
    streamsLimited: int
    unserved: int
    inFlight: int
    openStreams: int
    cached: int
    cachedBytes: int
