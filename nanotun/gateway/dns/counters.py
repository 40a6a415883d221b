"""
The relay's counters, for C{nanotun status}.
"""

from __future__ import annotations

from typing import NamedTuple


class Counters:
    """
    Counters since the start.

    @ivar queries: queries of clients, by UDP and TCP.
    @ivar hits: queries answered from the cache.
    @ivar misses: queries that the cache had no answer to, and a server is asked.
    @ivar faked: queries answered by C{dnsMode: fake-ip} itself.
    @ivar fakesRefused: queries that C{dnsMode: fake-ip} answered by SERVFAIL, because too many
        fake addresses were in use.
    @ivar absent: queries for names that C{dnsMode: fake-ip} found out not to exist.
    @ivar hosts: queries answered by C{/etc/hosts}.
    @ivar ruled: queries answered by C{dnsRules} itself.
    @ivar rejected: queries answered as C{dnsRejected} says, because a rule rejects the name.
    @ivar private: queries for names behind private addresses, answered here.
    @ivar stale: queries that got an answer after its time, because no server responded.
    @ivar rebound: queries whose answer was dropped, because it leads into local networks.
    @ivar scripted: queries that the user's script has decided about.
    @ivar joined: queries that shared the answer to an identical one under way, or
        repeated it.
    @ivar upstream: queries sent to servers by UDP.
    @ivar upstreamStreams: queries sent to servers by TCP.
    @ivar timeouts: attempts that a server did not answer in time.
    @ivar failures: attempts that could not be sent or were refused.
    @ivar servfail: queries that no server answered.
    @ivar ignored: messages from servers that answer no query: forged, late or malformed.
    @ivar limited: queries turned away because too many were under way.
    @ivar malformed: messages of clients that are no queries.
    @ivar notQueries: messages other than queries, such as updates, refused.
    @ivar passed: TCP connections passed on to the server that was asked.
    @ivar truncated: answers that were too large for their client.
    @ivar outside: queries and connections from other hosts.
    @ivar streams: TCP connections served.
    @ivar streamsLimited: TCP connections turned away because too many were open.
    @ivar unserved: datagrams to a port that nothing serves.
    """

    def __init__(self) -> None:
        self.queries = 0
        self.hits = 0
        self.misses = 0
        self.faked = 0
        self.fakesRefused = 0
        self.absent = 0
        self.hosts = 0
        self.ruled = 0
        self.rejected = 0
        self.private = 0
        self.stale = 0
        self.rebound = 0
        self.scripted = 0
        self.joined = 0
        self.upstream = 0
        self.upstreamStreams = 0
        self.timeouts = 0
        self.failures = 0
        self.servfail = 0
        self.ignored = 0
        self.limited = 0
        self.malformed = 0
        self.notQueries = 0
        self.passed = 0
        self.truncated = 0
        self.outside = 0
        self.streams = 0
        self.streamsLimited = 0
        self.unserved = 0


class GatewayStats(NamedTuple):
    """
    The L{Counters}, and gauges beside them.

    @ivar inFlight: gauge: queries that wait for a server.
    @ivar openStreams: gauge: TCP connections of apps.
    @ivar cached: gauge: answers in the cache.
    @ivar cachedBytes: gauge: bytes that these answers take, about.
    @ivar fakes: gauge: fake addresses in use, about.
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
    fakes: int
    fakesRefused: int
    scripted: int
    notQueries: int
    passed: int
    absent: int
    private: int
    hosts: int
    ruled: int
    rejected: int
    stale: int
    rebound: int
    misses: int
