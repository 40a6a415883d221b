"""Tests of L{nanotun.policy.conditions}."""

from __future__ import annotations

from ipaddress import ip_network
from itertools import product
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Owner
from nanotun.policy.conditions import both, either, negated
from nanotun.policy.lists import Lists
from nanotun.policy.networktable import NetworkTable
from nanotun.policy.ruletable import AskedRule
from nanotun.policy.subject import NAME, OWNER, UNKNOWABLE, Subject
from tests.unit.policy.deciding import NEIGHBOUR, ruleTable, subject

CURL = Owner(77, 1000, "curl", selected=frozenset(("curl", "uid:ann")))
LISTS = Lists(
    networks={"/lists/nets": NetworkTable.of([ip_network("9.9.0.0/16"), ip_network("2620::/16")])},
    countryOf={"1.1.1.1": "DE", "2606:4700::1": "AT"}.get,  # type: ignore[arg-type]
)
#: Addresses that stand for names.
FAKE4, FAKE6 = "198.19.0.7", "fdfe:dcba:9876:1::7"


class LogicTests(SynchronousTestCase):
    """Three values: 1, 0, and minus what is lacking."""

    def test_kleene(self) -> None:
        """What is unknown matters only where the known values do not decide."""
        for one, two, all_, any_ in (
            (1, 1, 1, 1),
            (1, 0, 0, 1),
            (0, 0, 0, 0),
            (1, -NAME, -NAME, 1),
            (0, -NAME, 0, -NAME),
            (-NAME, -OWNER, -(NAME | OWNER), -(NAME | OWNER)),
        ):
            for values in ((one, two), (two, one)):
                self.assertEqual((both(values), either(values)), (all_, any_), values)
        self.assertEqual((both(()), either(())), (1, 0))
        self.assertEqual([negated(value) for value in (1, 0, -NAME)], [0, 1, -NAME])

    def test_unknowable(self) -> None:
        """What cannot be found out is lacking where it keeps a condition from ever holding."""
        self.assertEqual(both((-NAME, -UNKNOWABLE)), -(NAME | UNKNOWABLE))
        self.assertEqual(either((-NAME, -UNKNOWABLE)), -NAME)
        self.assertEqual(either((0, -UNKNOWABLE)), -UNKNOWABLE)
        # That the name is another one would be enough.
        self.assertEqual(negated(both((-NAME, -UNKNOWABLE))), -NAME)
        self.assertEqual(negated(-UNKNOWABLE), -UNKNOWABLE)

    def test_deMorgan(self) -> None:
        """Not all of them is the same as any of their negations."""
        for values in product((1, 0, -NAME, -OWNER), repeat=3):
            self.assertEqual(negated(both(values)), either(map(negated, values)), values)


class ConditionTests(SynchronousTestCase):
    """Each condition's value and reason."""

    def step(self, wants: dict[str, Any], asked: Subject) -> AskedRule:
        """What one rule says of a flow."""
        (step,) = ruleTable({"to": "office", "lan": True, **wants}, lists=LISTS).trace(asked)
        return step

    def assertSays(self, wants: dict[str, Any], asked: Subject, value: int, why: str) -> None:
        """A rule has a value, for a reason."""
        step = self.step(wants, asked)
        self.assertEqual((step.value, step.why), (value, why), wants)

    def test_domains(self) -> None:
        """A name, what is below it, wildcards and expressions; unknown without a name."""
        for domains, name, value, why in (
            ("a.example", "a.example", 1, "the name is a.example"),
            ("a.example", "b.a.example", 1, "b.a.example is below a.example"),
            ("a.example", "ba.example", 0, "ba.example is none of its domains"),
            ("=a.example", "a.example", 1, "the name is a.example"),
            ("=a.example", "b.a.example", 0, "b.a.example is none of its domains"),
            ("*.example", "a.example", 1, "a.example matches *.example"),
            ("~^a[0-9]", "a7.example", 1, "a7.example matches ~^a[0-9]"),
            ("~^a[0-9]", "b7.example", 0, "b7.example is none of its domains"),
        ):
            self.assertSays({"domains": domains}, subject("tcp 1.1.1.1:1", name), value, why)
        nameless = subject("tcp 1.1.1.1:1")
        self.assertSays({"domains": "a.example"}, nameless, -NAME, "no name is known")

    def test_networks(self) -> None:
        """Addresses in both families, of the rule and of a file; a fake one is no address."""
        wants = {"networks": ["1.0.0.0/8", "2001:db8::/32", "file:/lists/nets"]}
        for host, value, why in (
            ("1.2.3.4", 1, "1.2.3.4 is in its networks (1.0.0.0 to 1.255.255.255)"),
            ("9.9.9.9", 1, "9.9.9.9 is in its networks (9.9.0.0 to 9.9.255.255)"),
            ("2.2.2.2", 0, "2.2.2.2 is in none of its networks"),
            ("2606:4700::1", 0, "2606:4700::1 is in none of its networks"),
            (FAKE4, -UNKNOWABLE, "no address is known"),
            (FAKE6, -UNKNOWABLE, "no address is known"),
        ):
            self.assertSays(wants, subject(f"tcp {host}:1"), value, why)
        for host in ("2001:db8::1", "2620:fe::fe"):
            self.assertEqual(self.step(wants, subject(f"tcp {host}:1")).value, 1)

    def test_countries(self) -> None:
        """The country of the address; unknown if the file has none, or if it is a fake one."""
        for host, value, why in (
            ("1.1.1.1", 1, "1.1.1.1 is in DE"),
            ("2606:4700::1", 0, "2606:4700::1 is in AT"),
            ("2.2.2.2", -UNKNOWABLE, "the address's country is not known"),
            (FAKE4, -UNKNOWABLE, "no address is known"),
        ):
            lists = LISTS._replace(countryOf=lambda host: LISTS.countryOf(host) or "")
            table = ruleTable({"to": "office", "countries": "DE"}, lists=lists)
            (step,) = table.trace(subject(f"tcp {host}:1"))
            self.assertEqual((step.value, step.why), (value, why))
        # What both lack is said once.
        table = ruleTable({"to": "office", "countries": "DE", "networks": "1.0.0.0/8"})
        (step,) = table.trace(subject(f"tcp {FAKE4}:1"))
        self.assertEqual((step.value, step.why), (-UNKNOWABLE, "no address is known"))

    def test_destination(self) -> None:
        """Names, networks and countries are one condition: any of them will do."""
        wants = {"domains": "a.example", "networks": "1.0.0.0/8"}
        for host, name, value, why in (
            ("1.2.3.4", "", 1, "1.2.3.4 is in its networks (1.0.0.0 to 1.255.255.255)"),
            ("2.2.2.2", "a.example", 1, "the name is a.example"),
            ("2.2.2.2", "", -NAME, "no name is known"),
            (FAKE4, "", -NAME, "no name is known, and no address is known"),
            (FAKE4, "b.example", -UNKNOWABLE, "no address is known"),
            (
                "2.2.2.2",
                "b.example",
                0,
                "b.example is none of its domains, and 2.2.2.2 is in none of its networks",
            ),
        ):
            asked = subject(f"tcp {host}:1", *filter(None, [name]))
            self.assertSays(wants, asked, value, why)

    def test_processes(self) -> None:
        """
        What the owner was selected by; unknown without an owner, or where more may match, and for
        ever for other machines.
        """
        asked = subject("tcp 1.1.1.1:1", owner=CURL)
        for processes, value, why in (
            ("curl", 1, "the process is curl"),
            ("wget, uid:ann", 1, "curl (pid 77) is uid:ann"),
            ("wget", 0, "curl (pid 77) is none of its processes"),
        ):
            self.assertSays({"processes": processes}, asked, value, why)
        byPath = CURL._replace(path="/bin/curl", selected=frozenset(("/bin/curl",)))
        said = "the process is /bin/curl"
        self.assertSays({"processes": "/bin/curl"}, subject("tcp 1.1.1.1:1", owner=byPath), 1, said)
        partly = subject("tcp 1.1.1.1:1", owner=CURL._replace(whole=False))
        self.assertSays({"processes": "curl"}, partly, 1, "the process is curl")
        self.assertSays({"processes": "wget"}, partly, -UNKNOWABLE, "its process is not known")
        unknown = subject("tcp 1.1.1.1:1")
        self.assertSays({"processes": "curl"}, unknown, -OWNER, "its process is not known")
        other = subject("tcp 1.1.1.1:1", source=NEIGHBOUR)
        self.assertSays(
            {"processes": "curl"}, other, -UNKNOWABLE, "another machine's process is not known"
        )

    def test_ports(self) -> None:
        """Ports of one protocol or of both, alone or in a row."""
        wants = {"ports": ["tcp:443", "8000-8999", "udp:53"]}
        for destination, value, why in (
            ("tcp 1.1.1.1:443", 1, "the port is TCP 443"),
            ("udp 1.1.1.1:443", 0, "UDP 443 is none of its ports"),
            ("udp 1.1.1.1:8000", 1, "the port is UDP 8000"),
            ("tcp 1.1.1.1:8999", 1, "the port is TCP 8999"),
            ("tcp 1.1.1.1:9000", 0, "TCP 9000 is none of its ports"),
            ("tcp 1.1.1.1:53", 0, "TCP 53 is none of its ports"),
        ):
            self.assertSays(wants, subject(destination), value, why)

    def test_sources(self) -> None:
        """Other machines' addresses; a flow of this machine comes from none of them."""
        wants = {"sources": ["192.168.1.0/24", "file:/lists/nets"]}
        for source, value, why in (
            (NEIGHBOUR, 1, f"{NEIGHBOUR} is one of its sources"),
            ("2620::7", 1, "2620::7 is one of its sources"),
            ("192.168.2.1", 0, "192.168.2.1 is none of its sources"),
        ):
            self.assertSays(wants, subject("tcp 1.1.1.1:1", source=source), value, why)
        everything = {"sources": "0.0.0.0/0"}
        self.assertSays(
            everything, subject("tcp 1.1.1.1:1"), 0, "it is a flow of this machine itself"
        )

    def test_times(self) -> None:
        """The local time when the flow begins."""
        asked = subject("tcp 1.1.1.1:1")
        self.assertSays({"times": "Mo-Fr 12:00-13:00"}, asked, 1, "it is We 12:00")
        self.assertSays({"times": "Sa-Su"}, asked, 0, "it is We 12:00, which is none of its times")

    def test_not(self) -> None:
        """Not all of them hold; that is as unknown as they are."""
        for never, names, value, why in (
            ({"ports": "443"}, (), 0, "its not applies (the port is TCP 443)"),
            ({"ports": "80"}, (), 1, "its not does not apply (TCP 443 is none of its ports)"),
            ({"domains": "a.example"}, (), -NAME, "no name is known"),
            (
                {"domains": "a.example"},
                ("a.example",),
                0,
                "its not applies (the name is a.example)",
            ),
            (
                {"domains": "a.example", "ports": "443"},
                ("a.example",),
                0,
                "its not applies (the port is TCP 443, and the name is a.example)",
            ),
            (
                {"domains": "a.example", "ports": "80"},
                (),
                1,
                "its not does not apply (TCP 443 is none of its ports)",
            ),
        ):
            self.assertSays({"not": never}, subject("tcp 1.1.1.1:443", *names), value, why)

    def test_together(self) -> None:
        """All conditions have to hold, and the reason names each of them."""
        wants = {"domains": "a.example", "processes": "curl", "ports": "443"}
        asked = subject("tcp 1.1.1.1:443", "a.example", owner=CURL)
        self.assertSays(
            wants,
            asked,
            1,
            "the name is a.example, the port is TCP 443, and the process is curl",
        )
        self.assertSays(wants, subject("tcp 1.1.1.1:80"), 0, "TCP 80 is none of its ports")
        self.assertSays(
            wants,
            subject("tcp 1.1.1.1:443"),
            -(NAME | OWNER),
            "no name is known, and its process is not known",
        )
        self.assertSays({}, asked, 1, "it has no conditions")
