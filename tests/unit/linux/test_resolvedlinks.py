"""Tests of L{nanotun.linux.resolvedlinks}, with what busctl 252 prints."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Endpoint
from nanotun.linux.resolvedlinks import LinkServers, linkPath, resolvedServers

#: Servers of resolved.conf, of two interfaces, and of one that has gone since.
SERVERS = (
    '{"type":"v","data":[{"type":"a(iiayqs)","data":['
    '[0,2,[9,9,9,9],853,"dns.quad9.net"],[2,2,[192,168,1,1],0,""],'
    '[12,10,[254,128,0,0,0,0,0,0,0,0,0,0,0,0,0,1],0,""],[2,2,[192,168,1,1],0,""],'
    '[2,10,[32,1,13,184,0,0,0,0,0,0,0,0,0,0,0,83],5353,""],[7,2,[10,0,0,1],0,""]]}]}\n'
)
OLD_SERVERS = '{"type":"v","data":[{"type":"a(iiay)","data":[[2,2,[192,168,1,1]]]}]}\n'
DOMAINS = (
    '{"type":"v","data":[{"type":"a(isb)","data":['
    '[2,"Lan",false],[12,"corp.example",true],[12,"168.192.in-addr.arpa.",true]]}]}\n'
)
YES, NO = (f'{{"type":"v","data":[{{"type":"b","data":{each}}}]}}\n' for each in ("true", "false"))

FIRST = "/org/freedesktop/resolve1/link/_32"
TWELFTH = "/org/freedesktop/resolve1/link/_312"


class ResolvedServersTests(SynchronousTestCase):
    """L{resolvedServers}."""

    def setUp(self) -> None:
        """A bus on which everything is answered."""
        self.answers = {
            "DNSEx": SERVERS,
            "DNS": OLD_SERVERS,
            "Domains": DOMAINS,
            f"{FIRST} DefaultRoute": YES,
            f"{TWELFTH} DefaultRoute": NO,
        }
        self.commands: list[list[str]] = []

    def run_(self, arguments: Sequence[str]) -> str | None:
        """Stand in for busctl."""
        self.commands.append([*arguments])
        path, name = arguments[6], arguments[-1]
        return self.answers.get(f"{path} {name}" if "/link/" in path else name)

    def nameOf(self, index: int) -> str:
        """Two interfaces."""
        if index not in (2, 12):
            raise OSError("no such interface")
        return {2: "eth0", 12: "tun7"}[index]

    def found(self) -> tuple[LinkServers, ...] | None:
        """What is found."""
        return resolvedServers(self.run_, self.nameOf)

    def test_linkPath(self) -> None:
        """A link has the D-Bus path that systemd gives it."""
        self.assertEqual(linkPath(3), "/org/freedesktop/resolve1/link/_33")
        self.assertEqual(linkPath(12), "/org/freedesktop/resolve1/link/_312")

    def test_links(self) -> None:
        """Each interface has its servers, each once, with its domains, but none that is gone."""
        first = (Endpoint("192.168.1.1", 53), Endpoint("2001:db8::53", 5353))
        self.assertEqual(
            self.found(),
            (
                LinkServers(0, "", (Endpoint("9.9.9.9", 853),)),
                LinkServers(2, "eth0", first, ("lan",)),
                LinkServers(
                    12,
                    "tun7",
                    (Endpoint("fe80::1%tun7", 53),),
                    ("corp.example", "168.192.in-addr.arpa"),
                    False,
                ),
            ),
        )

    def test_commands(self) -> None:
        """Nothing is started by asking, and no question waits for more than a second."""
        self.found()
        self.assertEqual(len(self.commands), 4)
        for command in self.commands:
            self.assertEqual(
                command[:6],
                [
                    "--system",
                    "--auto-start=no",
                    "--timeout=1",
                    "--json=short",
                    "call",
                    "org.freedesktop.resolve1",
                ],
            )
            self.assertEqual(command[7:10], ["org.freedesktop.DBus.Properties", "Get", "ss"])
        self.assertEqual(self.commands[0][10:], ["org.freedesktop.resolve1.Manager", "DNSEx"])
        self.assertEqual(self.commands[-1][10:], ["org.freedesktop.resolve1.Link", "DefaultRoute"])

    def test_old(self) -> None:
        """Before systemd 247 there are no ports, and before 240 no property for the default."""
        for name in ("DNSEx", f"{FIRST} DefaultRoute"):
            del self.answers[name]
        servers = (Endpoint("192.168.1.1", 53),)
        self.assertEqual(self.found(), (LinkServers(2, "eth0", servers, ("lan",)),))
        self.answers["Domains"] = DOMAINS.replace("false", "true")
        self.assertEqual(self.found(), (LinkServers(2, "eth0", servers, ("lan",), False),))

    def test_root(self) -> None:
        """The root among an interface's domains makes it one for all names."""
        self.answers["DNSEx"] = OLD_SERVERS
        self.answers["Domains"] = DOMAINS.replace('"Lan",false', '".",true')
        self.answers[f"{FIRST} DefaultRoute"] = NO
        servers = (Endpoint("192.168.1.1", 53),)
        self.assertEqual(self.found(), (LinkServers(2, "eth0", servers, ("",)),))

    def test_none(self) -> None:
        """An interface without servers is left out."""
        self.answers["DNSEx"] = '{"type":"v","data":[{"type":"a(iiayqs)","data":[]}]}\n'
        self.assertEqual(self.found(), ())

    def test_silent(self) -> None:
        """Without an answer there is nothing, and nothing more is asked than for both forms."""
        self.answers.clear()
        self.assertIsNone(self.found())
        self.assertEqual([command[-1] for command in self.commands], ["DNSEx", "DNS"])

    def test_unknown(self) -> None:
        """An answer in any other form counts as none."""
        for text in (
            "",
            "no JSON",
            "[]",
            '{"data":[]}',
            '{"data":[{"data":7}]}',
            '{"data":[{"data":[[2]]}]}',
            '{"data":[{"data":[[2,2,[1,2,3],0,""]]}]}',
            '{"data":[{"data":[[2,2,[999,2,3,4],0,""]]}]}',
        ):
            self.answers["DNSEx"] = text
            self.assertIsNone(self.found(), text)
