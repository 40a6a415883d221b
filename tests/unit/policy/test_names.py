"""Tests of L{nanotun.policy.names} and L{nanotun.policy.namelist}."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.domains import Pattern, PatternKind
from nanotun.policy.namelist import NameEntries, NameList, tailOf
from nanotun.policy.names import NameSet
from nanotun.policy.wildcard import wildcardOf

PATH = "/etc/nanotun/blocked.txt"


def pattern(text: str) -> Pattern:
    """A value of C{domains} that needs no clean-up."""
    for kind in (PatternKind.FILE, PatternKind.EXACTLY, PatternKind.MATCHES):
        if text.startswith(kind.value):
            return Pattern(kind, text.removeprefix(kind.value), text)
    return Pattern(PatternKind.LIKE if "*" in text else PatternKind.BELOW, text, text)


def nameSet(*texts: str, lists: tuple[NameList, ...] = ()) -> NameSet:
    """What these values take."""
    return NameSet(map(pattern, texts), {one.path: one for one in lists})


class NameSetTests(SynchronousTestCase):
    """L{NameSet}."""

    def assertTaken(self, names: NameSet, expected: dict[str, str]) -> None:
        """Check what each of some names is found by."""
        self.assertEqual({name: names.find(name) for name in expected}, expected)

    def test_kinds(self) -> None:
        """Each kind of value takes the names that it should, and is named as it was written."""
        names = nameSet("corp.example", "=intranet.test", "ads*.test", "*.w.test", r"~^x\d+\.")
        self.assertTaken(
            names,
            {
                "corp.example": "corp.example",
                "a.b.corp.example": "corp.example",
                "xcorp.example": "",
                "example": "",
                "intranet.test": "=intranet.test",
                "a.intranet.test": "",
                "ads1.test": "ads*.test",
                "ads.x.y.test": "ads*.test",
                "ads.test": "",
                "a.ads1.test": "",
                "ads1.test.org": "",
                "a.w.test": "*.w.test",
                "w.test": "",
                "x12.anything": r"~^x\d+\.",
                "ax12.anything": "",
            },
        )

    def test_all(self) -> None:
        """Stars alone take every name, the root's, too, which nothing else takes."""
        self.assertTaken(nameSet("*"), {"": "*", "a": "*", "b.a": "*"})
        self.assertEqual(nameSet("*.*", "a*", "a", "=a", "~.").find(""), "")

    def test_capitals(self) -> None:
        """Capitals in an expression mean nothing, as in any name."""
        self.assertEqual(nameSet(r"~^Ads\D").find("adsx.test"), r"~^Ads\D")

    def test_special(self) -> None:
        """A dot of a wildcard stands for itself."""
        self.assertEqual(nameSet("a*.b.test").find("a1xb.test"), "")

    def test_list(self) -> None:
        """A name of a list is named with the list's file."""
        takes, excepts = NameEntries(), NameEntries()
        takes.table.update([b"blocked.test"])
        excepts.table.update([b"good.blocked.test"])
        names = nameSet(f"file:{PATH}", lists=(NameList(PATH, takes, excepts),))
        self.assertTaken(
            names,
            {
                "blocked.test": f"blocked.test in {PATH}",
                "a.blocked.test": f"blocked.test in {PATH}",
                "a.good.blocked.test": "",
                "other.test": "",
            },
        )

    def test_none(self) -> None:
        """Without values, no name is taken."""
        self.assertEqual(nameSet().find("a.example"), "")


class NameEntriesTests(SynchronousTestCase):
    """L{NameEntries}."""

    def test_tails(self) -> None:
        """A wildcard is looked for under the whole labels at its end."""
        for wildcard, tail in (
            ("ads*.example.org", "example.org"),
            ("a*b.example.org", "example.org"),
            ("*.example", "example"),
            ("*a.x*b", ""),
            ("x*", ""),
        ):
            self.assertEqual(tailOf(wildcard), tail, wildcard)

    def test_find(self) -> None:
        """Names, single names, wildcards and expressions are found, each in its way."""
        entries = NameEntries()
        entries.table.update([b"below.test"])
        entries.addSingles([b"single.test"])
        for wildcard in ("ads*.w.test", "track*"):
            entries.addWildcard(wildcard, wildcardOf(wildcard))
        entries.addRegex(re.compile(r"^ban+er\."))
        self.assertEqual(len(entries), 5)
        for name, expected in {
            "x.below.test": "below.test",
            "single.test": "=single.test",
            "x.single.test": "",
            "ads7.w.test": "ads*.w.test",
            "ads7.v.test": "",
            "w.test": "",
            "tracker.x.y": "track*",
            "bannner.x": r"~^ban+er\.",
            "xbanner.x": "",
        }.items():
            self.assertEqual(entries.find(name), expected, name)

    def test_slow(self) -> None:
        """Wildcards count as slow only with those that end as they do."""
        entries = NameEntries()
        for number in range(10):
            wildcard = f"a*.n{number}.test"
            entries.addWildcard(wildcard, wildcardOf(wildcard))
        self.assertEqual(entries.slow, 1)
        entries.addWildcard("b*.n3.test", wildcardOf("b*.n3.test"))
        entries.addRegex(re.compile("x"))
        self.assertEqual(entries.slow, 3)
