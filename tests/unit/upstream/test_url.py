"""Tests of L{nanotun.upstream.url} and L{ProxyURL}."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import ConfigError
from nanotun.interfaces import Authentication, IUpstream, Option, ProxyURL, UpstreamContext
from nanotun.upstream.scheme import FLAG, Scheme
from nanotun.upstream.schemes.socks5 import SOCKS5
from nanotun.upstream.schemes.table import BUILT_IN, SCHEMES, parseProxyURL
from nanotun.upstream.url import (
    FIELDS,
    addPassword,
    expanded,
    fieldsOf,
    parseURL,
    plain,
    wantsPassword,
    whyUnfilled,
    withPassword,
)


def notMade(url: ProxyURL, context: UpstreamContext) -> IUpstream:
    """The constructor of a scheme whose upstreams the tests do not make."""
    raise NotImplementedError


#: As long as a label may be.
LABEL = "x" * 63

PIPELINE, INSECURE, CA = (("pipeline", "1"),), (("insecure", "1"),), (("ca", "/etc/a b.pem"),)


class ParseProxyURLTests(SynchronousTestCase):
    """L{parseProxyURL}."""

    def test_accepted(self) -> None:
        """Every form of URL that the documentation promises gives the right parts."""
        urls: dict[str, tuple[Any, ...]] = {
            "socks5://host:1081": ("socks5", "host", 1081, None, None),
            "socks5://host": ("socks5", "host", 1080, None, None),
            "SOCKS5://host/": ("socks5", "host", 1080, None, None),
            "host": ("socks5", "host", 1080, None, None),
            "127.0.0.1:9050": ("socks5", "127.0.0.1", 9050, None, None),
            "proxy.example.": ("socks5", "proxy.example", 1080, None, None),
            "https://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example.:1": (
                "https",
                "xn--bcher-kva.example",
                1,
                None,
                None,
            ),
            "my_proxy-1:1": ("socks5", "my_proxy-1", 1, None, None),
            "3com.example": ("socks5", "3com.example", 1080, None, None),
            f"{LABEL}.example": ("socks5", f"{LABEL}.example", 1080, None, None),
            "[::1]:9050": ("socks5", "::1", 9050, None, None),
            "socks5://[2001:db8::1]": ("socks5", "2001:db8::1", 1080, None, None),
            "ann:secret@host": ("socks5", "host", 1080, "ann", "secret"),
            "socks5://ann@host": ("socks5", "host", 1080, "ann", None),
            "socks5://ann:@host": ("socks5", "host", 1080, "ann", ""),
            "socks5://a%40b:p%3A%2F%25@host": ("socks5", "host", 1080, "a@b", "p:/%"),
            "socks5://ann:a:b@host": ("socks5", "host", 1080, "ann", "a:b"),
            "socks5://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example": (
                "socks5",
                "xn--bcher-kva.example",
                1080,
                None,
                None,
            ),
            "direct://": ("direct", "", 0, None, None),
            "reject://": ("reject", "", 0, None, None),
            "socks5h://host": ("socks5h", "host", 1080, None, None),
            "socks4://ann@host": ("socks4", "host", 1080, "ann", None),
            "socks4a://host:1081": ("socks4a", "host", 1081, None, None),
            "http://host": ("http", "host", 80, None, None),
            "http://a%20b:c%3Ad@[::1]:8080": ("http", "::1", 8080, "a b", "c:d"),
            "https://host": ("https", "host", 443, None, None),
            "socks5:///run/my%20proxy": ("socks5", "/run/my proxy", 0, None, None),
            "http://ann:secret@/run/proxy": ("http", "/run/proxy", 0, "ann", "secret"),
            "socks5://host?pipeline=1": ("socks5", "host", 1080, None, None, PIPELINE),
            "https://host:8443/?insecure=1": ("https", "host", 8443, None, None, INSECURE),
            "https://host?ca=/etc/a%20b.pem": ("https", "host", 443, None, None, CA),
        }
        for text, (name, *expected) in urls.items():
            self.assertEqual(parseProxyURL(text), ProxyURL(SCHEMES.find(name), *expected), text)

    def test_rejected(self) -> None:
        """A wrong URL is an error that says what is wrong and holds no password."""
        for text, complaint in {
            "": "a host",
            "socks5://": "a host",
            "socks5://:1080": "a host",
            "socks5://ann:hunter2@a..b": "host's name",
            "socks5://.proxy.example": "host's name",
            "socks5://proxy.example..": "host's name",
            "socks5://.": "host's name",
            f"socks5://{LABEL}x.example": "host's name",
            f"socks5://{LABEL}.{LABEL}.{LABEL}.{LABEL}": "host's name",
            "socks5://%41b": "host's name",
            "socks5://ho%0d%0ast": "host's name",
            "socks5://1.2.3": "host's name",
            "socks5://127.0.0.01": "host's name",
            "socks5://2130706433": "host's name",
            "socks5://127.0x1": "host's name",
            "socks5://a.example,b.example": "several proxies are a list",
            "socks5://host:0": "1 to 65535",
            "socks5://host:65536": "1 to 65535",
            "socks5://host:-1": "1 to 65535",
            "socks5://host:port": "must look like",
            "socks5://host:": "must look like",
            "socks5://ann:hunter2@::1:1080": "brackets",
            "socks5://ann:hunter2@[::1": "brackets",
            "socks5://ann:hunter2@x@host": "%40",
            "socks5://ann:hunter2/x@host": "%2F",
            "socks5://ann:hunter2#x@host": "must look like",
            "socks5://ann:hunter2@host?x=1": "%3F",
            "socks5://ann:hunter2@ho st": "spaces",
            "socks5://ann:hunter2@host\r\n": "control",
            "socks5://ann:%ff@host": "must look like",
            "socks5://:hunter2@host": "user name before",
            "hunter2 ://host": "spaces",
            "gopher://ann:hunter2@host": "not gopher://",
            "Hunter2@ann://host": "must begin with one of",
            "direct": "direct://",
            "direct://host": "no address",
            "direct://ann:hunter2@": "no address",
            "reject://?pipeline=1": "no address",
            "https:///run/hunter2": "https://host:port",
            "socks5:///": "a host",
            "socks5:///x%00y": "107 bytes",
            "socks5:///" + "x" * 107: "107 bytes",
            "socks5://ann:80?hunter2@host": "after which only ?pipeline=1 may follow",
            "socks5://host/run/hunter2": "after the port",
            "socks4://ann@host?pipeline=1": "after the port; a /",
            "http://host?insecure=1": "after which only ?pipeline=1 may follow",
            "https://host?pipeline=1": "only ?ca=FILE and ?insecure=1 may follow",
            "https://host?insecure=0": "insecure=1 or leave",
            "https://host?insecure": "insecure=1 or leave",
            "https://host?ca=proxy.pem": "whole path",
            "https://host?ca=/x&insecure=1": "either ca",
            "socks4://ann:hunter2@host": "no password",
            "socks4://a%00b@host": "user name without",
            "http://a%3Ab:hunter2@host": "user name without",
            "http://a%0Ab:hunter2@host": "user name without",
        }.items():
            error = self.assertRaises(ConfigError, parseProxyURL, text)
            self.assertIn(complaint, str(error), text)
            self.assertNotIn("hunter2", str(error).lower(), text)

    def test_unknownSchemeListsKnown(self) -> None:
        """The error for an unknown scheme lists all that there are."""
        error = self.assertRaises(ConfigError, parseProxyURL, "gopher://host")
        for scheme in BUILT_IN:
            self.assertIn(f"{scheme.name}://", str(error))

    def test_credentialLimit(self) -> None:
        """A user name or password of 255 bytes is accepted, and one of 256 is not (RFC 1929)."""
        longest = "%C3%A9" * 127 + "x"
        self.assertEqual(len((parseProxyURL(f"{longest}@h").username or "").encode()), 255)
        for text in (f"socks5://{longest}x:p@h", f"socks5://u:{longest}x@h"):
            self.assertIn("255", str(self.assertRaises(ConfigError, parseProxyURL, text)))


class ParseURLTests(SynchronousTestCase):
    """L{parseURL}, with schemes that are not nanotun's own."""

    def parse(self, rest: str, **more: Any) -> ProxyURL:
        """A URL of a scheme with a port and C{more}."""
        return parseURL(Scheme("line", notMade, defaultPort=7070, **more), rest)

    def test_defaults(self) -> None:
        """By default a scheme takes a host, and neither users, options nor unix sockets."""
        url = self.parse("host")
        self.assertEqual((url.host, url.port, str(url)), ("host", 7070, "line://host:7070"))
        for rest, complaint in (
            ("ann@host", "no user name, because line has no log-in"),
            ("ann:hunter2@host", "no user name"),
            ("host?pipeline=1", "after the port; a /"),
            ("/run/line", "must name a host, as in line://host:port"),
        ):
            error = self.assertRaises(ConfigError, self.parse, rest)
            self.assertIn(complaint, str(error))
            self.assertNotIn("hunter2", str(error))

    def test_options(self) -> None:
        """Options are checked as the scheme says, and are read back from the text."""
        options = {"one": FLAG, "all": Option("WORD", lambda name, text: text.upper())}
        url = self.parse("host?one=1&all=x", options=options)
        self.assertEqual([url.option(name) for name in ("all", "one", "other")], ["X", "1", ""])
        self.assertEqual(str(url), "line://host:7070?all=X&one=1")
        error = self.assertRaises(ConfigError, self.parse, "host?two=1", options=options)
        self.assertIn("?one=1 and ?all=WORD may follow", str(error))

    def test_check(self) -> None:
        """The scheme has the last word on a URL."""

        def check(url: ProxyURL) -> None:
            if url.port % 2:
                raise ConfigError("must have an even port")

        self.assertEqual(self.parse("host:2", check=check).port, 2)
        error = self.assertRaises(ConfigError, self.parse, "host:1", check=check)
        self.assertIn("even port", str(error))


class TemplateTests(SynchronousTestCase):
    """User names with fields."""

    def filled(self, text: str, **values: str) -> str:
        """The user name of a URL with these values."""
        return expanded(parseProxyURL(text), values).username or ""

    def test_kept(self) -> None:
        """A template is shown as it was written, before and after it is filled."""
        for text in ("socks5://{user}-{process}@h:1", "http://a%7Bb%7D{uid}%40{source}@h:80"):
            url = parseProxyURL(text)
            self.assertEqual(str(url), text)
            self.assertEqual(str(expanded(url, {"user": "ann"})), text)
        self.assertEqual(fieldsOf(parseProxyURL("{user}-{process}-{user}@h")), {"user", "process"})
        self.assertEqual(fieldsOf(parseProxyURL("ann@h")), set())

    def test_filled(self) -> None:
        """Each field becomes its value, and what is not known is called so."""
        text = "x{user}-{uid}.{process}%3A{source}@h"
        self.assertEqual(self.filled(text, user="ann", uid="1000"), "xann-1000.unknown:unknown")
        self.assertEqual(self.filled("{process}@h", process=""), "unknown")
        self.assertEqual(self.filled("{session}@h", session="bank"), "bank")

    def test_noTemplate(self) -> None:
        """%7B is a brace, and braces in a password mean nothing."""
        url = parseProxyURL("socks5://%7Buser%7D:{user}@h:1")
        self.assertEqual((url.username, url.password, url.template), ("{user}", "{user}", ""))
        self.assertIs(expanded(url, {"user": "ann"}), url)
        self.assertEqual(str(url), "socks5://%7Buser%7D:***@h:1")
        url = parseProxyURL("{user}:s{user}@h")
        self.assertEqual(expanded(url, {"user": "ann"}).credentials, (b"ann", b"s{user}"))

    def test_password(self) -> None:
        """A template takes a password from elsewhere like any user name."""
        url = withPassword(parseProxyURL("{user}@h"), "hunter2")
        self.assertEqual(expanded(url, {"user": "ann"}).credentials, (b"ann", b"hunter2"))

    def test_plain(self) -> None:
        """A value that a log-in cannot carry is changed; no two values become the same."""
        self.assertEqual(plain("ann.b_c@d+e-9"), "ann.b_c@d+e-9")
        values = ["a:n", "a n", "a_n", "a~n", "a\xe9n", "x" * 300, "x" * 301, "x" * 64, "a\udcffn"]
        texts = [plain(value) for value in values]
        self.assertEqual(len(set(texts)), len(values))
        for text in texts:
            self.assertRegex(text, r"\A[A-Za-z0-9._@+~-]{1,64}\Z")

    def test_apart(self) -> None:
        """Where one value ends is always told: two pairs of values never share a log-in."""
        for literal in ("-", "--", "", "~"):
            text = f"{{user}}{literal}{{process}}@h"
            pairs = [("a", "b-c"), ("a-b", "c"), ("a-", "b"), ("a", "-b"), ("ab", "c"), ("a", "bc")]
            names = [self.filled(text, user=user, process=process) for user, process in pairs]
            self.assertEqual(len(set(names)), len(pairs), names)
        self.assertEqual(self.filled("{user}-{process}@h", user="a", process="b-c"), "a-b-c")

    def test_limit(self) -> None:
        """A name that is too long for the scheme is cut, and told from others all the same."""
        text = "{user}" * 5 + "@h"
        names = [self.filled(text, user=letter * 64) for letter in "ab"]
        names.append(self.filled("%C3%A9" * 85 + text, user="a" * 64))
        for name in names:
            self.assertEqual(len(name.encode()), 255, name)
            self.assertRegex(name, "~[0-9a-f]{8}$")
        short = Scheme("line", notMade, defaultPort=1, authentication=Authentication.USER)
        short.credentialLimit = 6
        url = parseURL(short, "{uid}@h")
        self.assertEqual(len({expanded(url, {"uid": n * 7}).username for n in "12"}), 2)
        self.assertEqual(len(expanded(url, {"uid": "1234567"}).username or ""), 6)

    def test_rejected(self) -> None:
        """A brace that belongs to no field, or a field elsewhere, is an error that says so."""
        for text, sentence in {
            "{Proces}:hunter2@h": "not {Proces} (did you mean {process}?); a brace that is meant "
            "is written %7B",
            "{@h": "not {; a brace",
            "a}@h": "not }; a brace",
            "{}@h": "not {}; a brace",
            "{user}.example": "must have {user} in the user name only",
            "{uid}@h/{user}": "must have {user} in the user name only",
            "https://h?ca=/{source}.pem": "must have {source} in the user name only",
        }.items():
            error = self.assertRaises(ConfigError, parseProxyURL, text)
            self.assertIn(sentence, str(error), text)
            self.assertNotIn("hunter2", str(error))

    def test_unfilled(self) -> None:
        """Fields that only a script can fill are told from those that are mistyped."""
        for field in FIELDS:
            self.assertEqual(whyUnfilled(parseProxyURL(f"{{{field}}}@h")), "")
        self.assertEqual(
            whyUnfilled(parseProxyURL("{usr}@h")),
            "must have {user}, {uid}, {process} or {source} in the user name, not {usr} (did you "
            "mean {user}?); a brace that is meant is written %7B",
        )
        self.assertEqual(
            whyUnfilled(parseProxyURL("{user}{session}@h")),
            "has {session} in the user name, which only a script can fill; set script, or write "
            "{user}, {uid}, {process} or {source}",
        )


class WithPasswordTests(SynchronousTestCase):
    """L{withPassword}."""

    def test_accepted(self) -> None:
        """The password is added, whatever characters it has."""
        url = withPassword(parseProxyURL("http://ann@host"), "p@:/% \N{SNOWMAN}")
        self.assertEqual(url.password, "p@:/% \N{SNOWMAN}")
        self.assertEqual(str(url), "http://ann:***@host:80")

    def test_rejected(self) -> None:
        """The password is checked as if it were in the URL."""
        for text, password, complaint in (
            ("socks4://ann@host", "hunter2", "no password"),
            ("socks5://ann@host", "hunter2" * 40, "255 bytes"),
        ):
            error = self.assertRaises(ConfigError, withPassword, parseProxyURL(text), password)
            self.assertIn(complaint, str(error))
            self.assertNotIn("hunter2", str(error))


class AddPasswordTests(SynchronousTestCase):
    """L{wantsPassword} and L{addPassword}."""

    def test_wanted(self) -> None:
        """A password is wanted for a user without one if the scheme has passwords."""
        for text, expected in (
            ("socks5://ann@h", True),
            ("socks5://ann:@h", False),
            ("socks5://h", False),
            ("socks4://ann@h", False),
            ("direct://", False),
        ):
            self.assertIs(wantsPassword(parseProxyURL(text)), expected, text)

    def test_lines(self) -> None:
        """One line is taken without its end; none, and several, are refused."""
        url = parseProxyURL("socks5://ann@h")
        for text in ("hunter2", "hunter2\n", "hunter2\r\n"):
            self.assertEqual(addPassword(url, text, "It").password, "hunter2")
        for text in ("", "\n", "hunter2\nmore", "hunter2\n\n"):
            error = self.assertRaises(ConfigError, addPassword, url, text, "The file")
            self.assertEqual(
                str(error), "The file must hold the password and nothing else, on one line."
            )


class ProxyURLTests(SynchronousTestCase):
    """L{ProxyURL}."""

    def test_hidesPassword(self) -> None:
        """No text form of a URL shows its password, and all show everything else."""
        url = ProxyURL(SOCKS5, "::1", 1080, "ann", "hunter2")
        for text in (str(url), repr(url), f"{url}", f"{url!r}", repr([url])):
            self.assertNotIn("hunter2", text)
            self.assertIn("socks5://ann:***@[::1]:1080", text)

    def test_text(self) -> None:
        """A URL without a password can be read back from its text."""
        for text in (
            "socks5://host:1080",
            "socks5://[::1]:1080",
            "direct://",
            "socks5://a@h:1",
            "http://a%40b@h:80?pipeline=1",
            "socks4:///run/my%20proxy",
            "https://h:443?ca=/etc/a%20b.pem",
            "https://h:443?insecure=1",
        ):
            self.assertEqual(str(parseProxyURL(text)), text)
