"""
DNS servers over TLS, HTTPS and TCP that misbehave, each in its own manner: what the log says,
who answers, and that no server is hammered.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import NamedTuple

from tests.e2e.dns_case import EncryptedCase
from tests.e2e.lab import baddns, nameserver, toydns
from tests.e2e.lab.baddns import Counted, Manner
from tests.e2e.lab.process import PATIENCE, LabError, waitUntil
from tests.e2e.lab.topology import IPV4

GOOD = "10.9.9.9"
"""What the good server says of every name below any.lab; a bad one says L{toydns.RIGHT}."""

NEXT_SECONDS = 2.0
"""Seconds within which the next server must have answered."""

QUERIES = 4
"""One more than have to fail before a server is asked last."""

LAST = "it is asked last for a while"

RATE = 20
LOAD_SECONDS = 3.0

CONNECTIONS_LIMIT = 3
"""New connections to a bad server within L{LOAD_SECONDS}: it is left alone for a second, then
two, then four, more or less a quarter."""

AT_ONCE = 0.3
"""Seconds that a refusal may take, on average over the load."""

SAID_SECONDS = 8.0
"""Seconds until a server that hangs must have been reported; it has five for the handshake."""

SPARE_FDS = 4
SPARE_BYTES = 16 << 20
"""What a daemon may keep after all of that."""


class Bad(NamedTuple):
    """A bad server that runs: its entry in C{dns}, where the log names it, and its connections."""

    manner: Manner
    entry: object
    place: str
    handler: Counted


class BadServerTests(EncryptedCase):
    """One daemon, and one bad server after the other.  It makes no difference which engine runs."""

    seconds = 120

    def setUp(self) -> None:
        """Start a good server, and a daemon that asks it."""
        super().setUp()
        self.nameServer(IPV4.world)
        self.made = baddns.certificates(self.directory)
        self.ca = self.made.ca
        self.running = self.asking(IPV4.world)

    def servers(self, *schemes: str) -> Iterator[Bad]:
        """Start the servers of these schemes, one after the other."""
        for manner in baddns.manners(self.made):
            if manner.scheme not in schemes:
                continue
            handler = Counted(manner.handler)
            port = self.peer(handler, timeout=60).port
            place = f"{IPV4.world}:{port}"
            plain = manner.scheme == "tcp"
            entry = f"tcp://{place}" if plain else self.entry(manner.scheme, port=port)
            yield Bad(manner, entry, place, handler)

    def lines(self, *words: str) -> set[str]:
        """The lines of the log with all of these words; each is in two places."""
        return {
            line for line in self.running.log().splitlines() if all(word in line for word in words)
        }

    def findings(self, place: str, words: str, expected: str, isLast: bool) -> list[str]:
        """What is wrong about four queries to the server at a place, then to the good one."""
        wrong = []
        for number in range(QUERIES):
            began = time.monotonic()
            got = self.ask(f"n{number}.any.lab", "A", wait=10)
            seconds = time.monotonic() - began
            if got.data != [expected] or seconds > NEXT_SECONDS:
                wrong.append(f"query {number}: {got.status} {got.data} after {seconds:.1f} s")
        try:
            waitUntil(lambda: not words or self.lines(place, words), SAID_SECONDS, words)
        except LabError:
            wrong.append(f"the log says only {self.lines(place)}")
        if words and len(self.lines(place, words)) > 1:
            wrong.append(f"said more than once: {self.lines(place, words)}")
        if len(self.lines(place, LAST)) != isLast:
            wrong.append(f"asked last: {self.lines(place, LAST)}")
        return wrong

    def test_next(self) -> None:
        """
        The next server answers in time; one sentence says what is wrong, and one that the bad
        server is asked last.
        """
        wrong = []
        for bad in self.servers("tcp", "tls", "https"):
            name, answers = bad.manner.name, bad.manner.answers
            self.asking(bad.entry, IPV4.world)
            found = self.findings(
                bad.place, bad.manner.words, toydns.RIGHT if answers else GOOD, not answers
            )
            wrong += [f"{name}: {each}" for each in found]
            self.assertGreater(bad.handler.opened, 0, name)
        self.assertEqual(wrong, [])

    def test_nobody(self) -> None:
        """A server where nothing listens is told from one that says something wrong."""
        for scheme in ("tcp", "tls", "https"):
            entry = f"tcp://{IPV4.world}:9" if scheme == "tcp" else self.entry(scheme, port=9)
            self.asking(entry, IPV4.world)
            words = f"{scheme}://{IPV4.world}:9"
            self.assertEqual(self.findings(words, "cannot be reached", GOOD, True), [])

    def loaded(self, bad: Bad) -> list[str]:
        """What is wrong about queries to a bad server without any other."""
        got = nameserver.dnsperf(
            self.lab.app, IPV4.gateway, self.queries, LOAD_SECONDS, "-Q", str(RATE), "-t", "10"
        )
        wrong = []
        if not re.search(r"Response codes:\s+SERVFAIL \d+ \(100\.00%\)", got.output) or got.loss:
            wrong.append(got.output)
        latency = re.search(r"Average Latency \(s\):\s+([\d.]+)", got.output)
        if not bad.manner.hangs and (latency is None or float(latency[1]) > AT_ONCE):
            wrong.append(f"a latency of {latency and latency[1]} s")
        if not 0 < bad.handler.opened <= CONNECTIONS_LIMIT:
            wrong.append(f"{bad.handler.opened} connections")
        return wrong

    def loadAll(self, *schemes: str) -> None:
        """Ask each of these servers many times, with no other to turn to."""
        self.queries = nameserver.writeQueries(self.directory / "queries", 1000)
        daemon = self.running
        fds, memory = daemon.fds(), daemon.rss()
        wrong = []
        for bad in self.servers(*schemes):
            if not bad.manner.answers:
                self.asking(bad.entry)
                wrong += [f"{bad.manner.name}: {each}" for each in self.loaded(bad)]
        self.assertEqual(wrong, [])
        self.asking(IPV4.world)
        self.assertFinds()
        waitUntil(lambda: daemon.fds() <= fds + SPARE_FDS, PATIENCE, "the descriptors are closed")
        self.assertLess(daemon.rss(), memory + SPARE_BYTES)
        self.assertEndsWell(daemon)

    def test_tlsAlone(self) -> None:
        """A bad server over TLS or TCP is left alone, also if it is the only one."""
        self.loadAll("tcp", "tls")

    def test_httpsAlone(self) -> None:
        """The same over HTTPS."""
        self.loadAll("https")
