"""Tests of L{nanotun.daemon.lists}."""

from __future__ import annotations

import os
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.file import Given
from nanotun.config.settings import Settings, makeSettings
from nanotun.daemon import lists as module
from nanotun.daemon.lists import NOTHING_READ, ReadLists, keysNaming, pathsIn, readLists
from nanotun.errors import ConfigError
from nanotun.policy.listfile import NameLines
from nanotun.policy.lists import NO_LISTS
from tests.countryfile import countries


def settingsWith(*rules: dict[str, object], **values: object) -> Settings:
    """Settings with these rules, in a file that has each on a line of its own."""
    given = {
        "proxy": Given("socks5://192.0.2.1:1080", "/etc/nanotun.yaml, line 1: proxy"),
        "rules": Given(
            list(rules),
            "/etc/nanotun.yaml, line 2: rules",
            lines={(number,): 3 + number for number in range(len(rules))},
        ),
    }
    given.update((key, Given(value, key)) for key, value in values.items())
    return makeSettings(given, {}, "/etc/nanotun.yaml")


class ListsCase(SynchronousTestCase):
    """Files in a directory of the test's own."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.makedirs(self.directory)

    def write(self, name: str, data: str | bytes) -> str:
        """Write a file as an editor does, and return its path."""
        path = os.path.join(self.directory, name)
        with open(f"{path}.new", "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())
        os.chmod(f"{path}.new", 0o644)
        os.replace(f"{path}.new", path)
        return path

    def read(self, settings: Settings, before: ReadLists = NOTHING_READ) -> ReadLists:
        """Read the files that settings name."""
        return readLists(settings, os.geteuid(), before)

    def assertRefused(self, settings: Settings) -> str:
        """The sentence with which the files of settings are refused."""
        return str(self.assertRaises(ConfigError, self.read, settings))


class ReadListsTests(ListsCase):
    """L{readLists}."""

    def test_all(self) -> None:
        """Every file is read that any condition of any rule names, and found by its path."""
        names, except_ = self.write("names", "a.test\n"), self.write("except", "b.test\n")
        others, more = self.write("others", "10.0.0.0/8\n"), self.write("more", "10.0.0.0/8\n")
        networks = self.write("networks", "192.0.2.0/24\n")
        sources = self.write("sources", "198.51.100.0/24\n")
        country = self.write("country", countries({"203.0.113.0/24": "DE"}))
        settings = settingsWith(
            {"to": "direct", "domains": f"file:{names}", "not": {"domains": f"file:{except_}"}},
            {
                "to": "reject",
                "networks": f"file:{networks}",
                "not": {"sources": f"file:{sources}", "networks": f"file:{others}"},
            },
            {"to": "reject", "sources": f"file:{more}"},
            countryFile=country,
        )
        self.assertEqual(
            pathsIn(settings),
            (
                dict.fromkeys((names, except_), "/etc/nanotun.yaml, line 3"),
                {
                    **dict.fromkeys((networks, sources, others), "/etc/nanotun.yaml, line 4"),
                    more: "/etc/nanotun.yaml, line 5",
                },
            ),
        )
        lists = self.read(settings).lists
        self.assertEqual(lists.names[names].find("x.a.test"), "a.test")
        self.assertEqual(lists.names[except_].find("b.test"), "b.test")
        self.assertTrue(lists.networks[networks].has(0xC0000207, False))
        self.assertTrue(lists.networks[sources].has(0xC6336407, False))
        self.assertEqual(lists.countryOf("203.0.113.9"), "DE")
        self.assertEqual(lists.notices, ())

    def test_dnsRules(self) -> None:
        """A list of C{dnsRules} is read as well, once if C{rules} name it, too."""
        both, own = self.write("both", "a.test\n"), self.write("own", "b.test\n")
        settings = settingsWith(
            {"to": "reject", "domains": f"file:{both}"},
            dnsRules=[{"domains": [f"file:{own}", f"file:{both}"], "answer": "refuse"}],
        )
        self.assertEqual(
            pathsIn(settings), ({both: "/etc/nanotun.yaml, line 3", own: "dnsRules"}, {})
        )
        with mock.patch.object(NameLines, "end", autospec=True, side_effect=NameLines.end) as end:
            found = self.read(settings).lists.names
        self.assertEqual(end.call_count, 2)
        self.assertEqual(found[both].find("a.test"), "a.test")
        self.assertEqual(found[own].find("b.test"), "b.test")

    def test_none(self) -> None:
        """Rules that name no file have none read."""
        settings = settingsWith({"to": "direct", "domains": "a.test", "networks": "10.0.0.0/8"})
        self.assertEqual(self.read(settings), NOTHING_READ)
        self.assertEqual(NO_LISTS.countryOf("192.0.2.1"), "")

    def test_notices(self) -> None:
        """Lines that are of no use are told of, again when a file is not read again."""
        path = self.write("names", "a.test\nb.test\nx y\n")
        networks = self.write("networks", "192.0.2.1\n192.0.2.2\nx\n")
        settings = settingsWith(
            {"to": "direct", "domains": f"file:{path}"},
            {"to": "direct", "networks": f"file:{networks}"},
        )
        first = self.read(settings)
        self.assertEqual(
            first.described(), [f"{path}: 2 names", f"{networks}: 1 range of addresses"]
        )
        self.assertEqual(len(first.lists.notices), 2)
        self.assertIn(f"{path}, line 3 is left out", first.lists.notices[0])
        self.assertEqual(self.read(settings, first).lists.notices, first.lists.notices)

    def test_missing(self) -> None:
        """A file that is not there is an error, which says where it is named."""
        path = f"{self.directory}/none"
        for rule in ({"domains": f"file:{path}"}, {"networks": f"file:{path}"}):
            self.assertEqual(
                self.assertRefused(settingsWith({"to": "direct", **rule})),
                f"The list file {path} cannot be read (No such file or directory); check the path "
                "in /etc/nanotun.yaml, line 3.",
            )
        self.assertEqual(
            self.assertRefused(settingsWith(countryFile=path)),
            f"The country file {path} cannot be read (No such file or directory); check the path "
            "after countryFile.",
        )

    def test_unsafe(self) -> None:
        """A file that others can write to, or that is somebody else's, is refused."""
        path = self.write("names", "a.test\n")
        settings = settingsWith({"to": "direct", "domains": f"file:{path}"})
        os.chmod(path, 0o666)
        self.assertIn(
            f"The list file {path} can be written by others", self.assertRefused(settings)
        )
        os.chmod(path, 0o644)
        uid = os.geteuid()
        status = list(os.stat(path))
        status[4] = uid + 1
        with mock.patch.object(os, "fstat", lambda fd: os.stat_result(status)):
            self.assertIn(
                f"The list file {path} belongs to another user (uid {uid + 1})",
                self.assertRefused(settings),
            )

    def test_wrong(self) -> None:
        """A file that is no list is an error that names it."""
        path = self.write("x", "<html>\n")
        for rule, expected in (
            ({"domains": f"file:{path}"}, f"{path} is no list of names: no line has one"),
            ({"networks": f"file:{path}"}, f"{path} is no list of networks: no line has one"),
        ):
            self.assertIn(expected, self.assertRefused(settingsWith({"to": "direct", **rule})))
        self.assertIn("is no MaxMind DB", self.assertRefused(settingsWith(countryFile=path)))

    def test_long(self) -> None:
        """A list that is too long is given up."""
        path = self.write("names", "a.test\n" * 100)
        with mock.patch.object(module, "LIST_BYTES", 699):
            self.assertIn(
                f"The list {path} is longer than 64 MiB",
                self.assertRefused(settingsWith({"to": "direct", "domains": f"file:{path}"})),
            )
        with mock.patch.object(module, "LIST_BYTES", 700):
            self.read(settingsWith({"to": "direct", "domains": f"file:{path}"}))


class AgainTests(ListsCase):
    """Reading files a second time."""

    def setUp(self) -> None:
        super().setUp()
        self.names = self.write("names", "a.test\n")
        self.networks = self.write("networks", "192.0.2.0/24\n")
        self.country = self.write("country", countries({"203.0.113.0/24": "DE"}))
        self.settings = settingsWith(
            {"to": "direct", "domains": f"file:{self.names}"},
            {"to": "direct", "networks": f"file:{self.networks}"},
            countryFile=self.country,
        )
        self.before = self.read(self.settings)

    def test_unchanged(self) -> None:
        """What has not changed is not read again: the lists are those of before."""
        self.assertEqual(self.before.changed(), frozenset())
        with mock.patch.object(NameLines, "feed", side_effect=AssertionError):
            again = self.read(self.settings, self.before)
        self.assertIs(again.lists.names[self.names], self.before.lists.names[self.names])
        self.assertIs(again.networks[self.networks], self.before.networks[self.networks])
        self.assertIs(again.countries[self.country], self.before.countries[self.country])

    def test_changed(self) -> None:
        """A file that was replaced, written to or touched is read again, and only that one."""
        self.write("names", "b.test\n")
        self.assertEqual(self.before.changed(), {self.names})
        again = self.read(self.settings, self.before)
        self.assertEqual(again.lists.names[self.names].find("b.test"), "b.test")
        self.assertEqual(again.lists.names[self.names].find("a.test"), "")
        self.assertIs(again.networks[self.networks], self.before.networks[self.networks])
        self.assertEqual(again.changed(), frozenset())
        with open(self.networks, "a") as file:
            file.write("198.51.100.0/24\n")
        self.assertEqual(again.changed(), {self.networks})
        again = self.read(self.settings, again)
        self.assertTrue(again.lists.networks[self.networks].has(0xC6336407, False))
        os.utime(self.country, ns=(1, 1))
        self.assertEqual(again.changed(), {self.country})

    def test_gone(self) -> None:
        """A file that is gone has changed, and cannot be read."""
        os.remove(self.names)
        self.assertEqual(self.before.changed(), {self.names})
        self.assertRaises(ConfigError, self.read, self.settings, self.before)

    def test_unsafeSince(self) -> None:
        """A file that others can write to by now is refused, though nobody has written to it."""
        os.chmod(self.names, 0o666)
        self.assertEqual(self.before.changed(), {self.names})
        self.assertRaises(ConfigError, self.read, self.settings, self.before)

    def test_noLonger(self) -> None:
        """A file that is no longer named is forgotten."""
        again = self.read(settingsWith(), self.before)
        self.assertEqual(again, NOTHING_READ)

    def test_keys(self) -> None:
        """A change of a list is one of all settings that name it, and of no others."""
        settings = settingsWith(
            {"to": "direct", "domains": "file:/both", "not": {"sources": "file:/networks"}},
            dnsRules=[{"domains": ["file:/both", "file:/own"], "answer": "refuse"}],
            countryFile="/countries",
        )
        for paths, keys in (
            ((), ()),
            (("/both",), ("dnsRules", "rules")),
            (("/own",), ("dnsRules",)),
            (("/networks",), ("rules",)),
            (("/countries",), ("rules",)),
            (("/own", "/networks"), ("dnsRules", "rules")),
            (("/another",), ()),
        ):
            self.assertEqual(keysNaming(settings, paths), keys, paths)
        self.assertEqual(keysNaming(settingsWith(), ()), ())
