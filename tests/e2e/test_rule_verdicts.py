"""
Rules that send flows elsewhere than to a proxy, rules for UDP, and lists that change.
"""

from __future__ import annotations

import errno
import signal
from functools import partial

from tests.e2e.case import engines
from tests.e2e.lab import cell, nameserver, udp
from tests.e2e.lab.cell import Running
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6, Family
from tests.e2e.rules_case import HTTP, NOBODY, OFFICE, USUAL, RulesCase, addressOf
from tests.e2e.test_flow_rules import OUTSIDE

CORP, OTHER = OFFICE[1], USUAL[0]

KINDS = {IPV4: "A", IPV6: "AAAA"}

AT_ONCE = 1.5
"""Seconds for an answer that nobody waits for; see L{tests.e2e.test_truthful.PROMPT_SECONDS}."""

APP = [family.app for family in FAMILIES]


class VerdictChecks(RulesCase):
    """Flows to the names of a rule, and flows to others."""

    def lookUp(self, name: str, family: Family) -> str:
        """The address that the relay gives out for a name."""
        (address,) = nameserver.ask(self.lab.app, IPV4.gateway, name, KINDS[family]).data
        return address

    def peerOf(self, name: str, family: Family) -> str:
        """Whom the web server sees if it is fetched from by a name."""
        return self.fetch(name, family, scheme="http")

    def errorOf(
        self, name: str, family: Family, port: int = HTTP, timeout: float = PATIENCE
    ) -> int:
        """The errno of a connection that must fail."""
        address = self.lookUp(name, family)
        try:
            self.lab.app.connect((address, port), timeout).close()
        except TimeoutError:
            return errno.ETIMEDOUT
        except OSError as error:
            return error.errno or 0
        self.fail(f"{name} was connected to")

    def assertRefused(self, name: str, family: Family) -> None:
        """A connection is refused."""
        self.assertIn(self.errorOf(name, family), (errno.EHOSTUNREACH, errno.EACCES))

    def test_direct(self) -> None:
        """
        C{to: direct} reaches a name from this machine itself, whether its address is a fake one
        or its own; other names do not.
        """
        for mode in ("fake-ip", "normal"):
            daemon = self.ruled({"to": "direct", "domains": "corp.example"}, dnsMode=mode)
            for family in FAMILIES:
                with self.carried():
                    self.assertIn(self.peerOf(CORP, family), APP, mode)
                with self.carried(usual=1):
                    self.assertIn(self.peerOf(OTHER, family), OUTSIDE, mode)
                server = self.udpServer(udp.mirror, family, addressOf(CORP, family), NOBODY)
                app = self.datagrams(NOBODY, self.lookUp(CORP, family))
                app.send(b"who am I?")
                self.assertEqual(app.recv(100).split()[0].decode(), family.app)
                server.stop()
            self.assertEndsWell(daemon)

    def test_reject(self) -> None:
        """C{to: reject} is heard at once, over TCP and UDP, and nothing leaves for it."""
        witness = self.witness()
        daemon = self.ruled({"to": "reject", "domains": "corp.example"}, dnsMode="fake-ip")
        for family in FAMILIES:
            with self.carried():
                self.assertQuick(partial(self.assertRefused, CORP, family), AT_ONCE, family.name)
                app = self.datagrams(NOBODY, self.lookUp(CORP, family))
                app.send(b"anybody?")
                with self.assertRaises(OSError) as raised:
                    app.recv(100)
                self.assertIn(raised.exception.errno, (errno.EHOSTUNREACH, errno.EACCES))
            with self.carried(usual=1):
                self.assertIn(self.peerOf(OTHER, family), OUTSIDE)
        self.assertEqual((self.asked(self.usual), witness.destinations()), (0, {}))
        self.assertEndsWell(daemon)

    def test_drop(self) -> None:
        """C{to: drop} is silence, and nothing leaves for it."""
        witness = self.witness()
        daemon = self.ruled({"to": "drop", "domains": "corp.example"}, dnsMode="fake-ip")
        for family in FAMILIES:
            with self.carried():
                self.assertEqual(self.errorOf(CORP, family, timeout=2), errno.ETIMEDOUT)
                app = self.datagrams(NOBODY, self.lookUp(CORP, family), timeout=1)
                app.send(b"anybody?")
                with self.assertRaises(TimeoutError):
                    app.recv(100)
        self.assertEqual((self.asked(self.usual), witness.destinations()), (0, {}))
        self.assertEndsWell(daemon)

    def test_include(self) -> None:
        """With C{default: direct} only what rules name goes through the proxy."""
        for settings in ({"dnsMode": "fake-ip"}, {"dnsMode": "normal"}, {"sniff": True}):
            daemon = self.ruled(
                {"to": "proxy", "domains": "corp.example"},
                default="direct",
                lan="direct",
                **settings,
            )
            for family in FAMILIES:
                hidden = "sniff" in settings
                for name, usual, seen in ((CORP, 1, OUTSIDE), (OTHER, 0, APP)):
                    options = self.hidden(name, family, HTTP) if hidden else ()
                    with self.carried(usual=usual):
                        self.assertIn(self.fetch(name, family, *options, scheme="http"), seen)
            self.assertEndsWell(daemon)

    def test_datagrams(self) -> None:
        """Datagrams take the way of their rule, by the name of a fake address or of the relay."""
        witness = self.witness()
        for mode in ("fake-ip", "normal"):
            daemon = self.ruled(dnsMode=mode)
            for family in FAMILIES:
                for name, proxy, other in (
                    (CORP, self.office, self.usual),
                    (OTHER, self.usual, self.office),
                ):
                    before = self.asked(proxy), self.asked(other)
                    servers = [
                        self.udpServer(udp.echo, each, addressOf(name, each), NOBODY)
                        for each in FAMILIES
                    ]
                    self.assertEchoes(self.datagrams(NOBODY, self.lookUp(name, family)))
                    self.assertGreater(self.asked(proxy), before[0], f"{mode} {name}")
                    self.assertEqual(self.asked(other), before[1], f"{mode} {name}")
                    for server in servers:
                        server.stop()
            self.assertEndsWell(daemon)
        self.assertEqual(witness.destinations(), {})

    def reload(self, daemon: Daemon, sentence: str) -> None:
        """Have the configuration read again, and wait for what the log says then."""
        before = daemon.log().count(sentence)
        daemon.send(signal.SIGHUP)
        waitUntil(lambda: daemon.log().count(sentence) > before, PATIENCE, sentence)

    def test_list(self) -> None:
        """
        A name that was added to a list counts after SIGHUP, for new flows; a broken list changes
        nothing.
        """
        daemon = self.ruled()
        for family in FAMILIES:
            with self.carried(usual=1):
                self.peerOf(OTHER, family)
        self.list.write_text(f"||{OTHER}^\n")
        for family in FAMILIES:
            with self.carried(usual=1):
                self.peerOf(OTHER, family)
        self.reload(daemon, "changed: rules;")
        self.list.write_text("<!DOCTYPE html>\n<html>404</html>\n")
        for _ in range(2):
            for family in FAMILIES:
                with self.carried(office=1):
                    self.assertIn(self.peerOf(OTHER, family), OUTSIDE)
                # It was in the list before.
                with self.carried(usual=1):
                    self.peerOf("hosts.listed.example", family)
            self.reload(daemon, f"{self.list} is no list of names")
        self.assertEndsWell(daemon)


engines(globals(), VerdictChecks)
# Otherwise trial would run the base class, too.
del VerdictChecks


class CommandRulesTests(RulesCase):
    """Rules of C{nanotun run}."""

    def call(self, rule: str, name: str) -> cell.Done:
        """Fetch from a name by a command that has one rule."""
        argv = [cell.nanotun(), "run", "--proxy", self.usual.url(), "--rule", rule, "--"]
        argv += ["curl", "-qsS", "-m", "60", f"http://{name}/peer"]
        running = Running(self.lab.app, argv, self.directory)
        self.addCleanup(running.kill)
        return running.done("")

    def test_reject(self) -> None:
        """A rule of the command line refuses the names that it is about, and no others."""
        witness = self.witness()
        rule = "{to: reject, domains: [corp.example]}"
        with self.carried():
            done = self.call(rule, CORP)
            self.assertEqual((done.status, done.out), (7, ""), done.err)
        with self.carried(usual=1):
            done = self.call(rule, OTHER)
            self.assertEqual((done.status, done.err), (0, ""))
            self.assertIn(done.out, OUTSIDE)
        self.assertEqual(witness.destinations(), {})

    def test_direct(self) -> None:
        """A rule past the proxy is refused unless the command line allows that."""
        with self.carried():
            done = self.call("{to: direct, domains: [corp.example]}", CORP)
        self.assertNotEqual(done.status, 0)
        self.assertIn("--allow-direct", done.err)
