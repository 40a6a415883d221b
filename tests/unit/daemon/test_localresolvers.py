"""Tests of L{nanotun.daemon.localresolvers}."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.daemon.localresolvers import NSCD_SOCKETS, RESOLVED, LocalResolvers
from nanotun.errors import ConfigError
from nanotun.flow import Endpoint, Protocol
from nanotun.linux.resolvconf import RESOLV_CONF
from nanotun.testing.owners import FakeSockets

#: The group of the sockets that the tests open.
GROUPS = {7: "/system.slice/dnsmasq.service", 8: "/system.slice/other.service"}


class ResolversTests(SynchronousTestCase):
    """L{LocalResolvers}."""

    def setUp(self) -> None:
        """A machine without any."""
        self.root = os.path.realpath(self.mktemp())
        self.sockets = FakeSockets()
        self.busctl = True

    def put(self, path: str, text: str = "") -> None:
        """Write a file of the machine."""
        os.makedirs(os.path.dirname(self.root + path), exist_ok=True)
        with open(self.root + path, "w") as file:
            file.write(text)

    def serve(self, host: str, uid: int = 53, cgroup: int = 8) -> None:
        """A name server of this machine, which resolv.conf names."""
        self.put(RESOLV_CONF, f"# Made by hand.\nsearch lab\nnameserver {host}\n")
        endpoint = Endpoint(host, 53)
        self.sockets.add(Protocol.TCP, endpoint, uid=uid, cgroup=cgroup, listens=True)

    def said(self, only: str = "uid:5", **values: str) -> tuple[str, ...]:
        """The sentences."""
        given = {"proxy": "direct://", "autoDefaultRoute": "true", "onlyProcesses": only, **values}
        flags = {name: flagValue(KEYS[name], each) for name, each in given.items()}
        return LocalResolvers(
            makeSettings({}, flags, ""),
            self.sockets,
            lambda number: GROUPS.get(number, ""),
            lambda host: host.startswith(("127.", "10.1.", "::1")),
            lambda: self.busctl,
            self.root,
        ).namesLeft()

    def assertSaid(self, word: str, said: tuple[str, ...]) -> None:
        """There is one sentence, with its cure."""
        (sentence,) = said
        self.assertIn(word, sentence)
        self.assertIn("; ", sentence)

    def test_none(self) -> None:
        """There is nothing to say on a machine without resolvers, or with the relay as its own."""
        self.assertEqual(self.said(), ())
        for host in ("9.9.9.9", "198.18.0.1", "127.0.0.53", "not-an-address"):
            self.put(RESOLV_CONF, f"nameserver {host}\nnameserver\n")
            self.assertEqual(self.said(), ())

    def test_everybody(self) -> None:
        """Nor without onlyProcesses, or without its routes."""
        self.serve("127.0.0.1")
        self.sockets.paths[NSCD_SOCKETS[0]] = [1]
        self.assertEqual(self.said(""), ())
        self.assertEqual(self.said(autoDefaultRoute="false"), ())
        self.assertEqual(len(self.said()), 2)

    def test_nscd(self) -> None:
        """Who listens at nscd's socket asks in the clear, unless nscd is chosen."""
        for path in NSCD_SOCKETS:
            self.sockets.paths = {path: [1]}
            self.assertSaid("nscd looks names up for all programs", self.said())
            self.assertEqual(self.said("uid:5, unit:nscd.service"), ())
            self.assertEqual(self.said("unit:unscd.service"), ())

    def test_server(self) -> None:
        """A name server here asks in the clear, unless its user, group or unit is chosen."""
        for host in ("127.0.0.1", "10.1.2.3", "::1"):
            self.sockets = FakeSockets()
            self.serve(host, cgroup=7)
            self.assertSaid(f"{RESOLV_CONF} names {host}, a DNS", self.said())
            for only in ("uid:53", "unit:dnsmasq.service", "cgroup:/system.slice"):
                self.assertEqual(self.said(only), ())
            self.assertTrue(self.sockets.closed)
        self.sockets.open.clear()
        self.assertSaid("names ::1", self.said("uid:53"))

    def test_noUser(self) -> None:
        """An unknown user is an error of the setting that names it."""
        error = self.assertRaises(ConfigError, self.said, "uid:roott")
        self.assertIn("onlyProcesses names uid:roott, but", str(error))

    def test_unknown(self) -> None:
        """A kernel that does not tell of its sockets stops no start."""
        self.serve("127.0.0.1")
        self.sockets.failure = OSError(1, "no")
        self.assertEqual(self.said(), ())

    def test_resolved(self) -> None:
        """systemd-resolved is told to ask the relay with busctl, and must be chosen without it."""
        self.put(RESOLVED)
        self.assertEqual(self.said(), ())
        self.busctl = False
        self.assertSaid("busctl is missing", self.said())
        self.assertEqual(self.said("unit:systemd-resolved.service"), ())

    def test_fakeNames(self) -> None:
        """With fake-ip, systemd-resolved leads others' connections into the tunnel."""
        self.assertEqual(self.said(dnsMode="fake-ip"), ())
        self.put(RESOLVED)
        self.assertSaid("With dnsMode: fake-ip, systemd-resolved", self.said(dnsMode="fake-ip"))
