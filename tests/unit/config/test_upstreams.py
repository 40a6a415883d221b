"""Tests of L{nanotun.config.upstreams}."""

from __future__ import annotations

from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.file import parseFile
from nanotun.config.keys import KEYS
from nanotun.config.settings import Settings, flagValue, makeSettings, variableValues
from nanotun.config.upstreams import (
    bareNames,
    firstHops,
    inDialOrder,
    upstreamNames,
    upstreamsOf,
    wayOf,
    whyNoDatagrams,
    withFields,
)
from nanotun.errors import ConfigError, WrongOption
from nanotun.upstream.schemes.table import parseProxyURL


def settingsFrom(text: str, **flags: str) -> Settings:
    """The settings that a file's text and flags give."""
    given = {name: flagValue(KEYS[name], value) for name, value in flags.items()}
    return makeSettings(parseFile(f"proxy: p\n{text}", "n.yaml", KEYS), given, "n.yaml")


class CheckedTests(SynchronousTestCase):
    """The check of C{upstreams}."""

    def urls(self, settings: Settings) -> dict[str, list[str]]:
        """The proxies of each upstream."""
        return {each.name: [str(url) for url in each.proxy] for each in settings.upstreams}

    def test_forms(self) -> None:
        """A URL, a list and a mapping make the same entry."""
        for text in ("a: b:1", "a: [b:1]", "a: {proxy: b:1}", "a: {proxy: [b:1]}"):
            settings = settingsFrom(f"upstreams: {{{text}}}")
            self.assertEqual(self.urls(settings), {"a": ["socks5://b:1"]}, text)
        for text in ("''", "[]", "{}"):
            self.assertEqual(settingsFrom(f"upstreams: {text}").upstreams, ())

    def test_whole(self) -> None:
        """An entry has everything that it says."""
        (deep, office) = settingsFrom(
            "upstreams:\n  deep:\n    proxy: [socks5://b, http://c]\n    policy: round-robin\n"
            "    via: office\n    passwordFile: /etc/deep\n  office: d"
        ).upstreams
        self.assertEqual((deep.name, deep.policy, deep.via), ("deep", "round-robin", "office"))
        self.assertEqual(deep.passwordFile, "/etc/deep")
        self.assertEqual([url.host for url in deep.proxy], ["b", "c"])
        self.assertEqual((office.name, office.policy, office.via), ("office", "", ""))

    def test_sample(self) -> None:
        """What the sample file shows is valid."""
        doc = KEYS["upstreams"].doc
        shown = "\n".join(line for line in doc.splitlines() if line.startswith("  "))
        names = [each.name for each in settingsFrom(dedent(shown)).upstreams]
        self.assertEqual(names, ["office", "abroad", "deep"])

    def test_flags(self) -> None:
        """Flags and variables name an upstream in each text, and one named twice is a group."""
        text = "a=b:1, c=http://d:2?say=x ,a=e:3"
        expected = {"a": ["socks5://b:1", "socks5://e:3"], "f": ["socks5://g:4"]}
        self.assertEqual(self.urls(settingsFrom("", upstreams="a=b:1,f=g:4, a = e:3")), expected)
        given = variableValues({"NANOTUN_UPSTREAMS": "a=b:1,f=g:4,a=e:3", "NANOTUN_PROXY": "p"})
        self.assertEqual(self.urls(makeSettings({}, given, None)), expected)
        error = self.assertRaises(WrongOption, settingsFrom, "", upstreams=text)
        self.assertIn("--upstream c must end after the port", str(error))

    def test_equalsInURL(self) -> None:
        """Only the first equals sign ends the name."""
        url = parseProxyURL("https://h?ca=/etc/x.pem")
        (entry,) = settingsFrom("", upstreams="a=https://h?ca=/etc/x.pem").upstreams
        self.assertEqual(entry.proxy, (url,))

    def test_wrong(self) -> None:
        """Each mistake has its sentence, with the line that it is on."""
        many = "".join(f"  a{number}: h\n" for number in range(40))
        for text, expected in (
            (
                "5",
                "line 2: upstreams must be a mapping of names to proxies, such as "
                "{office: 'socks5://host:port'}, not 5.",
            ),
            (
                "[{a: b}]",
                "line 2: upstreams must be a mapping of names to proxies, such as "
                "{office: 'socks5://host:port'}, not a list.",
            ),
            (
                "[socks5://h]",
                "line 2: upstreams must be NAME=URL, such as office=socks5://host:port.",
            ),
            (
                "\n  Office: h",
                "line 3: upstreams.Office must be named with lower-case letters, "
                "digits and dashes, a letter first and at most 32 in all; did you mean office?",
            ),
            (
                "\n  5: h",
                "line 3: upstreams.5 must be named with lower-case letters, digits and "
                "dashes, a letter first and at most 32 in all.",
            ),
            (
                "\n  direct: h",
                "line 3: upstreams.direct must have another name, because direct is built in.",
            ),
            (
                "\n  proxy: h",
                "line 3: upstreams.proxy must have another name: the setting proxy "
                "makes the upstream proxy.",
            ),
            (
                "\n  a: {proxy: h,\n   polcy: x}",
                "line 4: upstreams.a.polcy: there is no such "
                "setting of an upstream; did you mean policy?",
            ),
            (
                "\n  a: {proxy: h, zzz: x}",
                "line 3: upstreams.a.zzz: there is no such setting of an "
                "upstream; there are proxy, policy, via and passwordFile.",
            ),
            ("\n  a: {}", "line 3: upstreams.a must have a proxy: a URL, or a list of URLs."),
            ("\n  a:", "line 3: upstreams.a must have a proxy: a URL, or a list of URLs."),
            ("\n  b: h\n  a: h:0", "line 4: upstreams.a must have a port from 1 to 65535."),
            (
                "\n  a:\n    proxy: h:0",
                "line 4: upstreams.a.proxy must have a port from 1 to 65535.",
            ),
            (
                "\n  a: [h, h:0]",
                "line 3: upstreams.a must have a port from 1 to 65535 (in URL 2 of "
                "2; a comma in one is written %2C).",
            ),
            (
                "\n  a: 5",
                "line 3: upstreams.a must be a URL, such as socks5://host:port, or a list "
                "of 1 to 16 of them.",
            ),
            (
                "\n  a:\n    proxy: h\n    policy: failver",
                "line 5: upstreams.a.policy must be "
                "failover, round-robin or least-latency, not 'failver' (did you mean failover?).",
            ),
            (
                "\n  a: {proxy: h, via: [b]}",
                "line 3: upstreams.a.via must be the name of an upstream, not a list.",
            ),
            (
                "\n  a: {proxy: h, passwordFile: 5}",
                "line 3: upstreams.a.passwordFile must be a file's path, or '' for none, not 5.",
            ),
            (
                "\n  a: h\n  a: g",
                "line 4: upstreams.a is set a second time, first on line 3; remove one of the two.",
            ),
            (f"\n{many}", "line 2: upstreams must be at most 32 upstreams, not 40."),
        ):
            error = self.assertRaises(ConfigError, settingsFrom, f"upstreams: {text}")
            self.assertEqual(str(error), f"n.yaml, {expected}")

    def test_noPassword(self) -> None:
        """No error shows a password, wherever a URL was written."""
        for text in (
            "{socks5://u:hunter2@h: x}",
            "{a: {proxy: h, u:hunter2@h: x}}",
            "{a: {proxy: h, via: 'socks5://u:hunter2@h'}}",
            "{a: socks5://u:hunter2@h:0}",
        ):
            error = self.assertRaises(ConfigError, settingsFrom, f"upstreams: {text}")
            self.assertNotIn("hunter2", str(error))
        for text in ("socks5://u:hunter2@h", "socks5://u:hunter2@h?ca=/x"):
            error = self.assertRaises(ConfigError, settingsFrom, "", upstreams=text)
            self.assertNotIn("hunter2", str(error))


class ChainTests(SynchronousTestCase):
    """What follows from the upstreams."""

    def test_wrong(self) -> None:
        """Each mistake has its sentence, with the line that it is on."""
        two = "{a: {proxy: h, via: b}, b: %s}"
        full = "[h1, h2, h3, h4, h5, h6, h7, h8, h9, h10, h11, h12, h13]"
        for text, expected in (
            (
                "upstreams:\n  a:\n    proxy: h\n    via: ofice\n  office: g",
                "line 5: upstreams.a.via: there is no upstream ofice; did you mean office?",
            ),
            (
                "upstreams: {a: {proxy: h, via: zzz}}",
                "line 2: upstreams.a.via: there is no upstream zzz; there are proxy and a.",
            ),
            ("proxyVia: zzz", "line 2: proxyVia: there is no upstream zzz; there is only proxy."),
            (
                "proxyVia: Proxi",
                "line 2: proxyVia: there is no upstream Proxi; did you mean proxy?",
            ),
            ("proxyVia: 5", "line 2: proxyVia must be the name of an upstream, not 5."),
            (
                "proxyVia: drop",
                "line 2: proxyVia must not be drop, because nothing can be dialled through it.",
            ),
            (
                "upstreams: " + two % "reject://",
                "line 2: upstreams.a.via must not be b, because nothing can be dialled through it.",
            ),
            (
                "upstreams: {a: {proxy: h, via: a}}",
                "line 2: upstreams.a.via makes a circle: a is dialled through itself; remove it.",
            ),
            (
                "upstreams: " + two % "{proxy: g, via: a}",
                "line 2: upstreams.a.via makes a circle: "
                "a is dialled through b and b through a; remove one via.",
            ),
            (
                "proxyVia: a\nupstreams: {a: {proxy: h, via: b}, b: {proxy: g, via: proxy}}",
                "line "
                "2: proxyVia makes a circle: proxy is dialled through a, a through b and b through "
                "proxy; remove one via.",
            ),
            (
                "upstreams: {a: {proxy: 'direct://', via: proxy}}",
                "line 2: upstreams.a.via has no "
                "meaning for direct://, which dials no proxy; remove it.",
            ),
            (
                "upstreams: {a: {proxy: 'socks5:///run/x', via: proxy}}",
                "line 2: upstreams.a.via "
                "has no meaning for the unix socket /run/x, which is on this machine; remove it.",
            ),
            (
                "upstreams: " + two % "socks4://c.example",
                "line 2: upstreams.a.via leads through "
                "socks4://c.example:1080, which takes no names; write the address of h, or use "
                "socks4a:// or socks5:// there.",
            ),
            (
                f"upstreams: {{a: {full}, b: {full}, c: {full}, d: {full}, e: {full}}}",
                "line 2: "
                "upstreams and proxy together must be at most 64 proxies, not 66; each is checked, "
                "and may need a route of its own.",
            ),
        ):
            error = self.assertRaises(ConfigError, settingsFrom, text)
            self.assertEqual(str(error), f"n.yaml, {expected}")

    def test_package(self) -> None:
        """A scheme whose package opens its own connections cannot be dialled through another."""
        url = parseProxyURL("socks5://h")
        settings = settingsFrom("upstreams: {a: {proxy: h, via: proxy}}")
        self.patch(url.scheme, "chains", False)
        error = self.assertRaises(ConfigError, settingsFrom, "proxyVia: a\nupstreams: {a: g}")
        self.assertEqual(
            str(error),
            "n.yaml, line 2: proxyVia cannot be used with socks5://, whose package opens its own "
            "connections; remove it.",
        )
        self.assertEqual(settings.upstreams[0].via, "proxy")

    def test_addressThroughSocks4(self) -> None:
        """A proxy that is named by its address may be dialled through one that takes no names."""
        text = "upstreams: {a: {proxy: '%s', via: b}, b: socks4://c.example}"
        for host in ("192.0.2.1", "socks5://[2001:db8::1]"):
            self.assertEqual(settingsFrom(text % host).upstreams[0].via, "b")

    def test_names(self) -> None:
        """The names are those of the file, and the built-in ones; proxy is always there."""
        self.assertEqual(
            upstreamNames(settingsFrom("upstreams: {a: h}")),
            ("proxy", "a", "direct", "reject", "drop"),
        )

    def test_policy(self) -> None:
        """The policy of an upstream that gives none is proxyPolicy."""
        text = "proxyPolicy: round-robin\nupstreams: {a: h, b: {proxy: h, policy: failover}}"
        found = upstreamsOf(settingsFrom(text))
        self.assertEqual(
            {name: each.policy for name, each in found.items()},
            {"proxy": "round-robin", "a": "round-robin", "b": "failover"},
        )

    def test_noChain(self) -> None:
        """To dial through direct, or an upstream that is nothing else, is to dial."""
        text = "proxyVia: direct\nupstreams: {a: {proxy: h, via: b}, b: ['direct://']}"
        settings = settingsFrom(text)
        self.assertEqual([each.via for each in upstreamsOf(settings).values()], ["", "", ""])
        self.assertEqual([url.host for url in firstHops(settings)], ["p", "h"])
        self.assertEqual(bareNames(settings), {"b"})
        self.assertEqual(whyNoDatagrams(settings, "a"), "")

    def test_firstHops(self) -> None:
        """First hops are what is not dialled through a proxy, or perhaps not, each once."""
        settings = settingsFrom(
            "upstreams:\n  a: {proxy: a, via: b}\n  b: {proxy: b, via: proxy}\n"
            "  mix: [m, 'direct://']\n  c: {proxy: c, via: mix}\n  d: {proxy: d, via: c}\n"
            "  again: [p, 'socks5:///run/x', e]"
        )
        hosts = [url.host for url in firstHops(settings)]
        self.assertEqual(hosts, ["p", "m", "c", "/run/x", "e"])

    def test_dialOrder(self) -> None:
        """An upstream that is dialled through another comes after it, and each once."""
        text = "proxyVia: a\nupstreams: {a: {proxy: a, via: b}, b: b, c: {proxy: c, via: a}}"
        order = [each.name for each in inDialOrder(upstreamsOf(settingsFrom(text)))]
        self.assertEqual(order, ["b", "a", "proxy", "c"])

    def test_fields(self) -> None:
        """An upstream has the fields of all its proxies, and of what it is dialled through."""
        settings = settingsFrom(
            "upstreams:\n  a: {proxy: h, via: tor}\n  b: {proxy: '{source}@h', via: a}\n"
            "  tor: ['{user}-{process}@g', '{user}@f', e]\n  none: d"
        )
        own = {"user", "process"}
        self.assertEqual(withFields(settings), {"tor": own, "a": own, "b": {*own, "source"}})

    def test_unfilled(self) -> None:
        """A field that nothing fills is an error with the line of its upstream."""
        for text, expected in (
            (
                "upstreams:\n  a: h\n  tor: [g, '{user}-{session}:x@h']",
                "line 4: upstreams.tor has {session} in the user name, which only a script can "
                "fill; set script, or write {user}, {uid}, {process} or {source}.",
            ),
            (
                "upstreams: {tor: '{usr}:x@h'}",
                "line 2: upstreams.tor must have {user}, {uid}, {process} or {source} in the user "
                "name, not {usr} (did you mean {user}?); a brace that is meant is written %7B.",
            ),
            (
                "upstreams: {tor: '{Process}:x@h'}",
                "line 2: upstreams.tor must have {user}, {uid}, {process} or {source} in the user "
                "name, not {Process} (did you mean {process}?); a brace that is meant is written "
                "%7B.",
            ),
            (
                "upstreams: {tor: 'u:x@h/{user}'}",
                "line 2: upstreams.tor must have {user} in the user name only.",
            ),
        ):
            error = self.assertRaises(ConfigError, settingsFrom, text)
            self.assertEqual(str(error), f"n.yaml, {expected}", text)
        error = self.assertRaises(ConfigError, settingsFrom, "", proxy="{session}:x@h")
        self.assertEqual(
            str(error),
            "--proxy has {session} in the user name, which only a script can fill; set script, or "
            "write {user}, {uid}, {process} or {source}.",
        )
        settings = settingsFrom("upstreams: {tor: '{session}:x@h'}\nscript: /s.py")
        self.assertEqual(withFields(settings), {"tor": {"session"}})

    def test_filledByScript(self) -> None:
        """A script may fill any field."""
        text = "script: /x.py\nupstreams: {tor: '{session}:x@h'}"
        self.assertEqual(withFields(settingsFrom(text)), {"tor": {"session"}})

    def test_datagrams(self) -> None:
        """UDP passes neither a chain nor proxies that carry none."""
        settings = settingsFrom(
            "upstreams: {a: {proxy: h, via: proxy}, b: [http://h, https://h, http://g],"
            " c: [http://h, h], d: http://h}"
        )
        for name, expected in (
            ("proxy", ""),
            ("direct", ""),
            ("reject", ""),
            ("a", "a is dialled through proxy, and a chain carries TCP only"),
            ("b", "http:// and https:// carry none"),
            ("c", ""),
            ("d", "http:// carries none"),
        ):
            self.assertEqual(whyNoDatagrams(settings, name), expected, name)

    def test_way(self) -> None:
        """A new name or password is the same way; new proxies, another policy or via are not."""
        text = "upstreams: {%s: {proxy: %s, policy: %s, via: %s}, b: %s, c: b}"
        first = settingsFrom(text % ("a", "u:x@h", "failover", "b", "b"))
        way = wayOf(first, "a")
        for name, *other in (
            ("z", "u:x@h", "failover", "b", "b"),
            ("a", "u:y@h", "failover", "b", "b"),
            ("a", "u:x@h", "failover", "c", "b"),
        ):
            self.assertEqual(wayOf(settingsFrom(text % (name, *other)), name), way)
        for other in (
            ["v:x@h", "failover", "b", "b"],
            ["u:x@h", "round-robin", "b", "b"],
            ["u:x@h", "failover", "direct", "b"],
            ["u:x@h", "failover", "b", "g"],
        ):
            self.assertNotEqual(wayOf(settingsFrom(text % ("a", *other)), "a"), way)
        ways = {wayOf(first, name) for name in ("a", "b", "proxy", "direct", "reject", "drop")}
        self.assertEqual(len(ways), 6)
        hash(way)
