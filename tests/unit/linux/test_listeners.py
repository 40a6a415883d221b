"""Tests of L{nanotun.linux.listeners}, with the kernel."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.linux.listeners import isListening, openAsking


class ListenersTests(SynchronousTestCase):
    """L{isListening}."""

    def setUp(self) -> None:
        """Open the socket that asks."""
        self.asking = openAsking()
        self.addCleanup(self.asking.close)

    def bound(self, host: str, isDual: bool = False) -> tuple[socket.socket, int]:
        """A socket that does not listen, and its port."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            made = socket.socket(family)
            self.addCleanup(made.close)
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not isDual)
            with socket.socket(family) as other:
                other.bind((host, 0))
                port = other.getsockname()[1]
            # One that the kernel chooses is not kept.
            made.bind((host, port))
        except OSError as error:
            raise SkipTest(f"there is no {host} here") from error
        return made, port

    def found(self, port: int) -> list[str]:
        """Where a connection to the port would be accepted."""
        return [host for host in ("127.0.0.1", "::1") if isListening(self.asking, host, port)]

    def test_ends(self) -> None:
        """It follows what the socket does."""
        made, port = self.bound("127.0.0.1")
        self.assertEqual(self.found(port), [])
        made.listen()
        self.assertEqual(self.found(port), ["127.0.0.1"])
        made.shutdown(socket.SHUT_RD)
        self.assertEqual(self.found(port), [])
        made.listen()
        self.assertEqual(self.found(port), ["127.0.0.1"])
        # A connection to it is none that could be asked for.
        with socket.create_connection(("127.0.0.1", port)):
            self.assertEqual(self.found(port), ["127.0.0.1"])
        made.close()
        self.assertEqual(self.found(port), [])

    def test_any(self) -> None:
        """One that listens at every address of its family counts."""
        made, port = self.bound("0.0.0.0")
        made.listen()
        self.assertEqual(self.found(port), ["127.0.0.1"])

    def test_families(self) -> None:
        """Of IPv6 it counts for IPv4 only if it takes both."""
        for isDual, places in ((False, ["::1"]), (True, ["127.0.0.1", "::1"])):
            made, port = self.bound("::", isDual)
            made.listen()
            self.assertEqual(self.found(port), places)
