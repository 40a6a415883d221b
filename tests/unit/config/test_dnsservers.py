"""Tests of L{nanotun.config.dnsservers}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.dnsservers import SERVER_LIMIT, checked, server
from nanotun.config.file import parseFile
from nanotun.config.keys import KEYS
from nanotun.config.settings import Settings, flagValue, makeSettings, variableValues
from nanotun.errors import ConfigError
from nanotun.interfaces import DnsServer

SUCH = (
    "must be a DNS server, such as 8.8.8.8, '[2001:db8::1]:53', tls://1.1.1.1, "
    "https://dns.example/dns-query or system"
)

#: A server with everything, as it is written.
WHOLE = {
    "server": "tls://dns.example#other.example",
    "address": ["192.0.2.53", "2001:DB8::53"],
    "via": "office",
    "ca": "/etc/ssl/dns.pem",
}


def settingsFrom(text: str, **flags: str) -> Settings:
    """The settings that a file's text and flags give."""
    given = {name: flagValue(KEYS[name], value) for name, value in flags.items()}
    return makeSettings(parseFile(f"proxy: p\n{text}", "n.yaml", KEYS), given, "n.yaml")


class ServerTests(SynchronousTestCase):
    """L{server}, L{checked} and what a server is written as."""

    def fails(self, value: object) -> str:
        """The error for a value."""
        return str(self.assertRaises(ConfigError, checked, value))

    def test_schemes(self) -> None:
        """Each scheme has its port, and what is left out is the usual."""
        for text, *wanted in (
            ("8.8.8.8", "udp", "8.8.8.8", 53),
            ("udp://8.8.8.8:5353", "udp", "8.8.8.8", 5353),
            ("127.0.0.53", "udp", "127.0.0.53", 53),
            ("2001:DB8:0::1", "udp", "2001:db8::1", 53),
            ("udp://2001:db8::1", "udp", "2001:db8::1", 53),
            ("[2001:db8::1]", "udp", "2001:db8::1", 53),
            ("[2001:db8::1]:65535", "udp", "2001:db8::1", 65535),
            ("tcp://8.8.8.8", "tcp", "8.8.8.8", 53),
            ("tcp://dns.example:54", "tcp", "dns.example", 54),
            ("TLS://1.1.1.1", "tls", "1.1.1.1", 853),
            ("tls://[2001:db8::1]:8853", "tls", "2001:db8::1", 8853),
            ("tls://Dns.Example.", "tls", "dns.example", 853),
            ("tls://bücher.example", "tls", "xn--bcher-kva.example", 853),
            ("tls://1.1.1.1/", "tls", "1.1.1.1", 853),
            ("https://dns.example", "https", "dns.example", 443, "/dns-query"),
            ("https://dns.example/", "https", "dns.example", 443, "/dns-query"),
            ("https://dns.example/dns-query{?dns}", "https", "dns.example", 443, "/dns-query"),
            ("https://1.1.1.1:8443/a/b?c=d", "https", "1.1.1.1", 8443, "/a/b?c=d"),
            ("system", "system"),
        ):
            self.assertEqual(server(text), DnsServer(*wanted), text)

    def test_certified(self) -> None:
        """The certificate is for the name behind #, or else for the host."""
        for text, name, certified in (
            ("tls://1.1.1.1#One.one.one.one", "one.one.one.one", "one.one.one.one"),
            ("https://1.1.1.1/q#dns.example", "dns.example", "dns.example"),
            ("tls://dns.example#192.0.2.1", "192.0.2.1", "192.0.2.1"),
            ("tls://dns.example#dns.example", "", "dns.example"),
            ("tls://[2001:db8::1]", "", "2001:db8::1"),
        ):
            found = server(text)
            self.assertEqual((found.name, found.certifiedName), (name, certified), text)

    def test_written(self) -> None:
        """A server is shown so that it could be written like that."""
        for text, shown in (
            ("8.8.8.8", "8.8.8.8:53"),
            ("udp://[::1]:54", "[::1]:54"),
            ("tcp://[::1]", "tcp://[::1]:53"),
            ("tls://1.1.1.1#one.one.one.one", "tls://1.1.1.1:853#one.one.one.one"),
            ("https://dns.example", "https://dns.example/dns-query"),
            ("https://dns.example:444/q#a.b", "https://dns.example:444/q#a.b"),
            ("system", "system"),
        ):
            found = server(text)
            self.assertEqual(str(found), shown)
            self.assertEqual(server(shown), found)

    def test_lists(self) -> None:
        """There may be one server or several, as text with commas or a list, each once."""
        for value, wanted in (
            ("8.8.8.8, ::1,system", ["8.8.8.8:53", "[::1]:53", "system"]),
            (["8.8.8.8", "[::1]:54"], ["8.8.8.8:53", "[::1]:54"]),
            (["9.9.9.9", "8.8.8.8,9.9.9.9:53"], ["9.9.9.9:53", "8.8.8.8:53"]),
            ({"server": "tls://1.1.1.1"}, ["tls://1.1.1.1:853"]),
            (["9.9.9.9", {"server": " 9.9.9.9"}], ["9.9.9.9:53"]),
        ):
            self.assertEqual([str(each) for each in checked(value)], wanted)

    def test_writtenOut(self) -> None:
        """A mapping says more of a server than a text; a plain one may then have a name, too."""
        self.assertEqual(
            checked([WHOLE]),
            (
                DnsServer(
                    "tls",
                    "dns.example",
                    853,
                    name="other.example",
                    addresses=("192.0.2.53", "2001:db8::53"),
                    via="office",
                    ca="/etc/ssl/dns.pem",
                ),
            ),
        )
        for text in ("dns.example:54", "udp://dns.example:54"):
            (found,) = checked({"server": text, "address": "192.0.2.1"})
            self.assertEqual(
                found, DnsServer("udp", "dns.example", 54, addresses=("192.0.2.1",)), text
            )

    def test_sameTwice(self) -> None:
        """The same server by two ways is two servers."""
        both = checked(["9.9.9.9", {"server": "9.9.9.9", "via": "direct"}])
        self.assertEqual([each.via for each in both], ["", "direct"])

    def test_unknown(self) -> None:
        """What is no server at all is an error that shows some."""
        for text in (
            "",
            "8.8.8",
            "8.8.8.8:",
            "8.8.8.8:x",
            "8.8.8.8 9.9.9.9",
            "08.8.8.8",
            "8.8.8.8/24",
            "2001:db8::1::",
            "[2001:db8::1",
            "[2001:db8::1]53",
            "[dns.example]",
            "fe80::1%eth0",
            "tls://",
            "tls://a..b",
            "tls://1.2.3",
            "tls://" + "a." * 130 + "b",
            "https://dns.example/a b",
            "https://dns.example?x",
            "\0",
        ):
            self.assertEqual(self.fails(text).partition(", not ")[0], SUCH, text)
        for text in ("224.0.0.251", "0.0.0.0", "::", "ff02::fb", "tls://0.0.0.0"):
            host = text.removeprefix("tls://")
            self.assertEqual(self.fails(text), f"{SUCH}, and none has the address {host}")

    def test_linkLocal(self) -> None:
        """An address that every interface may have leads nowhere without one."""
        for text in ("fe80::1", "tls://[fe80::1]", {"server": "tls://a.b", "address": "fe80::1"}):
            self.assertIn("and fe80::1 may be on any interface; give another", self.fails(text))

    def test_mapped(self) -> None:
        """An IPv4 address within an IPv6 one is no other server, and may be the gateway itself."""
        for text in ("::ffff:198.18.0.1", "tcp://[::ffff:c612:1]:53"):
            self.assertIn("write 198.18.0.1 instead of ::ffff:198.18.0.1", self.fails(text))

    def test_types(self) -> None:
        """So is what is no text, and in a list that entry is blamed, not the list."""
        for value, shown in (
            (5, "5"),
            (None, "empty"),
            ([5], "5"),
            (["8.8.8.8", 9.9], "9.9"),
            ([["8.8.8.8"]], "a list"),
            (True, "true"),
        ):
            self.assertEqual(self.fails(value), f"{SUCH}, not {shown}")
        text = "dns:\n- 8.8.8.8\n- 9.9\n"
        error = str(self.assertRaises(ConfigError, settingsFrom, text))
        self.assertEqual(error, f"n.yaml, line 4: dns, entry 2 {SUCH}, not 9.9.")

    def test_hints(self) -> None:
        """Who seems to mean something is told how that is written."""
        for text, hint in (
            ("dns.google", "written tls://dns.google or https://dns.google/dns-query"),
            ("dns.google:53", "written tls://dns.google or https://dns.google/dns-query"),
            ("localhost", "written tls://localhost or https://localhost/dns-query"),
            ("System", "did you mean system?"),
            ("proxy", "; if that is the way to ask servers, write dnsVia: proxy"),
            ("systm", "did you mean system?"),
            ("tls://2001:db8::1", "has brackets around it, as in tls://[2001:db8::1]"),
        ):
            self.assertTrue(self.fails(text).endswith(hint), self.fails(text))

    def test_rules(self) -> None:
        """What cannot work has an error of its own."""
        for text, error in (
            ("quic://1.1.1.1", "must begin with udp://, tcp://, tls:// or https://, not quic://"),
            (
                "DoT://1.1.1.1",
                "must begin with udp://, tcp://, tls:// or https://, not DoT:// (did you mean "
                "tls://?)",
            ),
            (
                "{server: 'tls://dns.example', address: 192.0.2.53}",
                "must be a text without braces; a server that is written out, as in {server: ..., "
                "address: ...}, goes into the configuration file, without quotes around it",
            ),
            ("1 2://x", "must begin with udp://, tcp://, tls:// or https://, not '1 2'"),
            (
                "tls://1.1.1.1/x",
                "must have no path, because only https:// has one, not 'tls://1.1.1.1/x'",
            ),
            (
                "udp://dns.example",
                "must be an address after udp://, or be given one, as in address: 192.0.2.53",
            ),
            (
                "tcp://1.1.1.1#a.b",
                "must not end in #NAME, because only tls:// and https:// have a certificate",
            ),
            (
                "tls://ann:x@1.1.1.1",
                "must have no user name or password, because nanotun never logs in to a DNS server",
            ),
            ("tls://1.1.1.1#a b", "must have a host name behind #, not 'a b'"),
            ("tls://1.1.1.1#", "must have a host name behind #, not ''"),
        ):
            self.assertEqual(self.fails(text), error)

    def test_ports(self) -> None:
        """A port out of range is an error."""
        for text in ("8.8.8.8:0", "tls://8.8.8.8:65536", "[::1]:99999"):
            self.assertIn(
                f"must have a port from 1 to 65535, which {text} does not", self.fails(text)
            )

    def test_count(self) -> None:
        """There must be at least one server, and at most eight."""
        self.assertIn("must be 1 to 8 DNS servers, which are asked in this", self.fails([]))
        many = [f"192.0.2.{n}" for n in range(1, SERVER_LIMIT + 2)]
        self.assertEqual(len(checked(many[1:])), SERVER_LIMIT)
        self.assertIn("not 9", self.fails(many))

    def test_gateway(self) -> None:
        """The relay's own address is refused, wherever it is: it would ask itself."""
        for value in (
            "198.18.0.1",
            "[fdfe:dcba:9876::1]:53",
            "https://198.18.0.1",
            {"server": "tls://dns.example", "address": "198.18.0.1"},
        ):
            self.assertIn("would ask itself", self.fails(value))

    def test_noPassword(self) -> None:
        """No error shows a password, wherever it was written."""
        for value in (
            "socks5://a:hunter2@h",
            "tls://a:hunter2@1.1.1.1",
            "hunter2@h",
            {"server": "tls://hunter2@h"},
            {"tls://a:hunter2@h": None},
            {"server": "8.8.8.8", "hunter2@h": 1},
            {"server": "tls://h", "address": "hunter2@h"},
            {"server": "tls://h", "ca": "hunter2@h"},
        ):
            self.assertNotIn("hunter2", self.fails(value))


class PlaceTests(SynchronousTestCase):
    """Where an error says that it is."""

    def fails(self, text: str, **flags: str) -> str:
        """The error for a file's text and flags."""
        return str(self.assertRaises(ConfigError, settingsFrom, text, **flags))

    def test_file(self) -> None:
        """An error names the line, the entry and the part that is wrong."""
        for entry, error in (
            ("8.8.8", f" {SUCH}, not '8.8.8'."),
            ("{servr: 8.8.8.8}", ", servr: there is no such setting of a DNS server; did you "),
            ("{x: 8.8.8.8}", ", x: there is no such setting of a DNS server; there are server, "),
            ("{via: direct}", " must have a server, such as {server: 'tls://1.1.1.1'}."),
            ("{server: 8.8.8}", f", server {SUCH}, not '8.8.8'."),
            ("{server: 8.8.8.8, via: drop}", ", via must not be drop, because nothing gets out"),
            ("{server: 8.8.8.8, via: 5}", ", via must be the name of an upstream, not 5."),
            ("{server: 8.8.8.8, via: offce}", ", via: there is no upstream offce; did you mean "),
            (
                "{server: 8.8.8.8, ca: /x}",
                ", ca has no meaning for 8.8.8.8:53, which has no certificate; remove it.",
            ),
            ("{server: 'tls://h', ca: x}", ", ca must be a file's path that begins with /, not "),
            ("{server: system, ca: /x}", ", ca has no meaning for system; remove it."),
            ("{server: system, address: '::1'}", ", address has no meaning for system; remove it."),
            (
                "{server: 'tls://1.1.1.1', address: 1.1.1.1}",
                ", address has no meaning for tls://1.1.1.1:853, which is an address; remove it.",
            ),
            (
                "{server: 'tls://h', address: [1.1.1.1, h]}",
                ", address must be IP addresses, such as 192.0.2.53, not 'h'.",
            ),
            ("{server: 'tls://h', address: []}", ", address must be 1 to 8 IP addresses, not 0."),
        ):
            message = self.fails(f"upstreams: {{office: h}}\ndns:\n  - 9.9.9.9\n  - {entry}")
            self.assertTrue(message.startswith(f"n.yaml, line 5: dns, entry 2{error}"), message)

    def test_one(self) -> None:
        """A single server needs no number."""
        self.assertTrue(self.fails("dns: [8.8.8]").startswith(f"n.yaml, line 2: dns {SUCH}"))
        message = self.fails("dns: {server: 8.8.8.8, ca: /x}")
        self.assertTrue(message.startswith("n.yaml, line 2: dns.ca has no meaning"), message)

    def test_flags(self) -> None:
        """Flags and variables take texts with commas, and their errors say which."""
        found = settingsFrom("dns: 1.1.1.1", dns="9.9.9.9, ::1").dns
        self.assertEqual([str(each) for each in found], ["9.9.9.9:53", "[::1]:53"])
        self.assertTrue(self.fails("", dns="9.9.9.9,x").startswith(f"--dns, entry 2 {SUCH}"))
        given = variableValues({"NANOTUN_DNS": "9.9.9.9,::1", "NANOTUN_PROXY": "h"})
        self.assertEqual(len(makeSettings({}, given, None).dns), 2)

    def test_dnsVia(self) -> None:
        """C{dnsVia} is direct, proxy or the name of an upstream, in the file and as a flag."""
        for name in ("direct", "proxy", "office"):
            text = f"upstreams: {{office: h}}\ndnsVia: {name}"
            self.assertEqual(settingsFrom(text).dnsVia, name)
        for text, error in (
            ("dnsVia: offce", "n.yaml, line 3: dnsVia: there is no upstream offce; did you mean "),
            ("dnsVia: x", "n.yaml, line 3: dnsVia: there is no upstream x; there are direct, "),
            ("dnsVia: reject", "n.yaml, line 3: dnsVia must not be reject, because nothing gets"),
        ):
            message = self.fails(f"upstreams: {{office: h}}\n{text}")
            self.assertTrue(message.startswith(error), message)
        message = self.fails("", dnsVia="x")
        self.assertEqual(message, "--dns-via: there is no upstream x; there are direct and proxy.")

    def test_unfound(self) -> None:
        """A server by name needs an address, if no other can be asked for that name."""
        cure = (
            "needs an address, because no other server can be asked for a.example: write {server: "
            "'tls://a.example:853', address: 192.0.2.53}, or add a server that is an address."
        )
        self.assertEqual(self.fails("dns: tls://a.example"), f"n.yaml, line 2: dns {cure}")
        message = self.fails("dns:\n  - tls://a.example\n  - https://b.example")
        self.assertEqual(message, f"n.yaml, line 3: dns, entry 1 {cure}")
