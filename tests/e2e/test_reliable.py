"""
Lossy links, slow readers, unusual MTUs.
"""

from __future__ import annotations

import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab import curl
from tests.e2e.lab.topology import FAMILIES

MEBIBYTE = 1024 * 1024

LOSS_PERCENT = 3
LOSSY_TRANSFERS = 64
LOSSY_AT_ONCE = 16
LOSSY_LARGEST = 64 * MEBIBYTE
LOSSY_BUDGET = 256 * MEBIBYTE
"""Bytes in total: what a link with that loss can carry in the test's time."""

READERS = 50
READERS_SECONDS = 8.0
READERS_MEMORY = 50 * MEBIBYTE
"""Bytes of resident memory that 50 flows whose app does not read may cost together."""


def lengths(count: int, largest: int, budget: int) -> list[int]:
    """
    Lengths from 1 byte to C{largest}, with as many small as large ones, that add up to at
    most C{budget}; the same in every run.
    """
    source = random.Random(3)
    made = [1, largest]
    left = budget - sum(made)
    while len(made) < count:
        length = min(int(2 ** source.uniform(0, largest.bit_length() - 1)), max(1, left))
        left -= length
        made.append(length)
    return made


class LossChecks(TunnelCase):
    """An uplink that loses packets."""

    seconds = 150

    def test_everyHashIsRight(self) -> None:
        """With 3 % loss on the uplink, 64 bodies of 1 B to 64 MiB arrive whole, up and down."""
        web = self.webServer()
        self.tunnel(connectTimeout="20s")
        self.lab.loseOnUplink(LOSS_PERCENT)

        def transfer(job: tuple[int, int]) -> str:
            number, length = job
            family = FAMILIES[number % 2]
            if number % 4 < 2:
                url = family.url(web.port, f"/bytes/{length}")
                done = curl.download(self.lab.app, url, length, timeout=120)
            else:
                url = family.url(web.port, "/upload")
                done = curl.upload(self.lab.app, url, length, timeout=120)
            return "" if done.whole else f"{family.name} {length} bytes: {done.error}"

        jobs = list(enumerate(lengths(LOSSY_TRANSFERS, LOSSY_LARGEST, LOSSY_BUDGET)))
        with ThreadPoolExecutor(LOSSY_AT_ONCE) as pool:
            self.assertEqual([bad for bad in pool.map(transfer, jobs) if bad], [])
        self.assertGreater(self.lab.lost(), LOSSY_TRANSFERS)


class SlowReaderChecks(TunnelCase):
    """Apps that ask for much and read nothing."""

    def test_memoryIsBounded(self) -> None:
        """50 readers that do not read cost less than 50 MiB, and a fast one gets through."""
        web = self.webServer()
        daemon = self.tunnel()
        self._ask(web.port).close()
        before = daemon.rss()
        readers = [self._ask(web.port) for _ in range(READERS)]
        worst = 0
        end = time.monotonic() + READERS_SECONDS
        while time.monotonic() < end:
            worst = max(worst, daemon.rss() - before)
            readers[int(time.monotonic() * 10) % READERS].recv(4096)
            time.sleep(0.1)
        length = 16 * MEBIBYTE
        fast = curl.download(self.lab.app, self.family.url(web.port, f"/bytes/{length}"), length)
        self.assertEqual((fast.whole, fast.error), (True, ""))
        for reader in readers:
            reader.close()
        self.assertLess(worst, READERS_MEMORY)

    def _ask(self, port: int) -> socket.socket:
        sock = self.connect(port)
        sock.sendall(f"GET /bytes/{1024 * MEBIBYTE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return sock


class MTUChecks(TunnelCase):
    """The MTU of the TUN."""

    def _transfers(self, mtu: int, offload: str) -> None:
        web = self.webServer()
        self.tunnel(mtu=mtu, offload=offload)
        shown = self.lab.app.run(["ip", "link", "show", "nano0"]).stdout
        self.assertIn(f"mtu {mtu} ", shown)
        length = 24 * MEBIBYTE + 5
        for family in FAMILIES:
            down = curl.download(self.lab.app, family.url(web.port, f"/bytes/{length}"), length)
            self.assertEqual((down.whole, down.error), (True, ""), family.name)
            up = curl.upload(self.lab.app, family.url(web.port, "/upload"), length)
            self.assertEqual((up.whole, up.error), (True, ""), family.name)

    def test_1280(self) -> None:
        """The smallest MTU that IPv6 allows carries whole bodies."""
        self._transfers(1280, "auto")

    def test_9000(self) -> None:
        """The MTU of jumbo frames carries whole bodies."""
        self._transfers(9000, "auto")

    def test_65535(self) -> None:
        """The largest MTU carries whole bodies with offload."""
        self._transfers(65535, "auto")

    def test_65535Plain(self) -> None:
        """The largest MTU carries whole bodies without offload."""
        self._transfers(65535, "off")


engines(globals(), LossChecks)
engines(globals(), SlowReaderChecks)
engines(globals(), MTUChecks)
# Otherwise trial would run the base classes, too.
del LossChecks, SlowReaderChecks, MTUChecks
