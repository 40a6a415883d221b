"""Tests of L{nanotun.policy.listfile}."""

from __future__ import annotations

import random
from ipaddress import ip_address
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import ConfigError
from nanotun.policy.listfile import LINE_LIMIT, NameLines, NetworkLines, spanOf
from nanotun.policy.namelist import SLOW_LIMIT, NameList

PATH = "/etc/nanotun/blocked.txt"


def read(*pieces: bytes | str) -> NameList:
    """A list of names from the pieces of its file."""
    lines = NameLines(PATH)
    for piece in pieces:
        lines.feed(piece if isinstance(piece, bytes) else piece.encode())
    return lines.end()


def noticeOf(text: str) -> str:
    """What is said about the lines of a list of names."""
    lines = NameLines(PATH)
    lines.feed(text.encode())
    lines.end()
    return lines.notice


class NameLinesTests(SynchronousTestCase):
    """L{NameLines}."""

    def assertFinds(self, names: NameList, **expected: str) -> None:
        """
        Check by what each of some names is found.

        @param expected: by names with C{_} for a dot.
        """
        found = {name: names.find(name.replace("_", ".")) for name in expected}
        self.assertEqual(found, expected)

    def test_names(self) -> None:
        """A line is a name with all below it, one name only, a wildcard or an expression."""
        self.assertFinds(
            read("below.test\n=only.test\n*.star.test\nads*.wild.test\n~^ban+er\\.\nA.Upper.\n"),
            below_test="below.test",
            a_below_test="below.test",
            only_test="=only.test",
            a_only_test="",
            star_test="star.test",
            a_star_test="star.test",
            ads1_wild_test="ads*.wild.test",
            a_ads1_wild_test="",
            ads_wild_test="",
            bannner_x="~^ban+er\\.",
            a_upper="a.upper",
            test="",
        )

    def test_hosts(self) -> None:
        """The names of a hosts file are blocked without what is below them; its own are not."""
        names = read(
            "127.0.0.1 localhost\n127.0.0.1 localhost.localdomain\n::1 ip6-localhost\n"
            "255.255.255.255 broadcasthost\n0.0.0.0 0.0.0.0\n"
            "0.0.0.0 a.test\n0.0.0.0 b.test c.test # both\n::  d.test\n127.0.0.1\te.test\n"
            "192.0.2.7 real.test\n"
        )
        self.assertFinds(
            names,
            a_test="=a.test",
            x_a_test="",
            b_test="=b.test",
            c_test="=c.test",
            d_test="=d.test",
            e_test="=e.test",
            real_test="",
            localhost="",
            localhost_localdomain="",
            broadcasthost="",
        )
        self.assertEqual(len(names.takes), 5)

    def test_dnsmasq(self) -> None:
        """The names of dnsmasq's lines are blocked with all below them."""
        self.assertFinds(
            read(
                "address=/a.test/0.0.0.0\naddress=/b.test/c.test/::\nserver=/d.test/\n"
                "local=/e.test/\nserver=/f.test/192.0.2.1#5353\naddress=/g.test/#\n"
                "server=/good.a.test/#\n"
            ),
            a_test="a.test",
            x_a_test="a.test",
            b_test="b.test",
            c_test="c.test",
            d_test="d.test",
            e_test="e.test",
            f_test="f.test",
            g_test="g.test",
            good_a_test="",
            x_good_a_test="",
        )

    def test_adguard(self) -> None:
        """AdGuard's rules about names are understood, its exceptions too."""
        self.assertFinds(
            read(
                "[Adblock Plus 2.0]\n! Title: a list\n||a.test^\n||b.test^\n||C.test\n"
                "|d.test^\n||ads*x.e.test^\n||*.f.test^\n/^track[0-9]+\\./\n/^Upper\\./\n"
                "@@||good.a.test^\n@@||g*d.b.test^\n@@|d.c.test^\n@@/^track9/\n"
            ),
            a_test="a.test",
            x_a_test="a.test",
            good_a_test="",
            x_good_a_test="",
            b_test="b.test",
            gd_b_test="",
            c_test="c.test",
            d_c_test="",
            x_d_c_test="c.test",
            d_test="=d.test",
            x_d_test="",
            adsx_e_test="ads*x.e.test",
            y_ads12x_e_test="ads*x.e.test",
            yadsx_e_test="",
            f_test="f.test",
            track1_test="~^track[0-9]+\\.",
            track9_test="",
            upper_test="~^Upper\\.",
        )

    def test_important(self) -> None:
        """What AdGuard's lists mark as important goes before exceptions, and likewise excepted."""
        self.assertFinds(
            read(
                "@@||a.test^\n||a.test^$important\n@@||x.a.test^$important\n"
                "||b.test^\n@@/^y/\n/^y\\.b/$important\n@@||c.b.test^$important\n"
            ),
            a_test="a.test",
            x_a_test="",
            y_a_test="a.test",
            b_test="b.test",
            y_b_test="~^y\\.b",
            yy_b_test="",
            c_b_test="",
        )
        names = read("||a.test^$important\n")
        self.assertEqual(
            (len(names), names.find("a.test"), names.find("b.test")), (1, "a.test", "")
        )

    def test_useless(self) -> None:
        """What is no name, or is about more than names, is left out and counted."""
        lines = (
            "||x.test^$third-party", "x.test##.ad", "192.0.2.1", "192.0.2.0/24", "/ads.js",
            "x test", "/[/", "~[", "~", "//", "*", "||*^", "=", "|x.test", "@@||=x.test^",
            "||192.0.2.1^", "http://x.test/", "address=/#/", "\ufffd.test", "=" + "x" * 300, "-",
            "0.0.0.0 x/y",
        )  # fmt: skip
        for line in lines:
            text = f"a.test\nb.test\n{line}\nc.test\n"
            names = read(text)
            self.assertEqual((len(names.takes), len(names.excepts)), (3, 0), line)
            self.assertIn("line 3 is left out", noticeOf(text), line)
        self.assertEqual(
            noticeOf("a.test\n\nb.test\nx y\nx z\n"),
            f"2 of 4 lines of {PATH} are left out, because they have no usable names; the first of "
            "them is line 4, 'x y'.",
        )

    def test_comments(self) -> None:
        """Comments and empty lines are neither taken nor counted."""
        text = "# a.test\n\n   \n! b.test\n; c.test\n[d.test]\nx.test # why\n0.0.0.0 y.test #why\n"
        names = read(text)
        self.assertEqual(len(names.takes), 2)
        self.assertFinds(names, x_test="x.test", y_test="=y.test")
        self.assertEqual(noticeOf(text), "")

    def test_files(self) -> None:
        """Line ends of Windows, a byte order mark and a last line without an end do not matter."""
        for text in (
            b"a.test\nb.test\n",
            b"a.test\r\nb.test\r\n",
            b"\xef\xbb\xbfa.test\nb.test",
            b"  a.test\t\n\nb.test  ",
            b"\xef\xbb\xbf# x\na.test\nb.test\n",
        ):
            names = read(text)
            self.assertEqual(len(names.takes), 2, text)
            self.assertEqual(noticeOf(text.decode()), "", text)
            self.assertFinds(names, a_test="a.test", x_b_test="b.test")

    def test_otherScripts(self) -> None:
        """A name in another script is compared in its ASCII form."""
        names = read("b\u00fccher.test\n0.0.0.0 stra\u00dfe.test\n")
        self.assertEqual(names.find("www.xn--bcher-kva.test"), "xn--bcher-kva.test")
        self.assertEqual(names.find("xn--strae-oqa.test"), "=xn--strae-oqa.test")

    def test_cuts(self) -> None:
        """Wherever a file is cut into pieces, its list is the same."""
        text = (
            "\ufeff# list\r\na.test\nb.test\n0.0.0.0 c.test\n0.0.0.0 localhost\n||d.test^\n"
            "@@||x.a.test^\naddress=/e.test/0.0.0.0\n*.f.test\nads*.g.test\nb\u00fcr.test\nx y\n"
            "||h.test^$all\ni.test"
        ).encode()
        found = set()
        for first in range(len(text) + 1):
            for second in (first, first + 1, first + 7):
                lines = NameLines(PATH)
                for piece in (text[:first], text[first:second], text[second:]):
                    lines.feed(piece)
                names = lines.end()
                slots = tuple(names.takes.table._slots)
                found.add((slots, len(names.takes), len(names.excepts), lines.notice))
        self.assertEqual(len(found), 1)

    def test_quick(self) -> None:
        """Usual lists are read in one go, whatever ends their lines: one by one takes too long."""
        for shape in ("%s", "*.%s", "0.0.0.0 %s", "||%s^", "address=/%s/0.0.0.0", "server=/%s/"):
            for end in ("\n", "\r\n"):
                text = "".join(f"{shape % f'Name-{number}.test'}{end}" for number in range(50))
                with mock.patch.object(NameLines, "_line", side_effect=AssertionError):
                    self.assertEqual(len(read(text).takes), 50, shape)

    def test_inOneGo(self) -> None:
        """Lines of one shape that are read in one go give what they give one by one."""
        chance = random.Random(5)
        labels = ["a", "bb", "local", "localhost", "x-1", "_y", "7", "-z", "c.d", "xn--p1ai"]
        for shape in ("%s", "*.%s", "0.0.0.0 %s", "::1 %s", "||%s^", "server=/%s/", "local=/%s/::"):
            names = [".".join(chance.choices(labels, k=2)) for _ in range(300)]
            lines = [shape % name for name in names]
            lines.insert(150, "@@||x.test^")
            together, apart = NameLines(PATH), NameLines(PATH)
            together.feed("\n".join(lines).encode())
            for line in lines:
                # A blank at its start keeps a line from the quick readers.
                apart.feed(f" {line}\n".encode())
            one, other = together.end(), apart.end()
            self.assertEqual(len(one.takes), len(other.takes), shape)
            self.assertEqual(together.notice, apart.notice)
            for name in names:
                self.assertEqual(one.find(name), other.find(name), name)

    def test_noList(self) -> None:
        """A file that has hardly any names is refused, with the first line that has none."""
        advice = (
            "give one name on each line, or a list for a hosts file, for dnsmasq or for AdGuard."
        )
        for text, expected in (
            ("", "has no names"),
            ("# a\n", "has no names"),
            ("0.0.0.0 localhost\n", "has no names"),
            ("@@||a.test^\n", "has no names"),
            ("<html>\n", "is no list of names: no line has one, and line 1 is '<html>'"),
            (
                "a.test\n\nx y\nx z\n",
                "is no list of names: only 1 of 3 lines have one, and line 3 is 'x y'",
            ),
        ):
            error = self.assertRaises(ConfigError, read, text)
            self.assertEqual(str(error), f"{PATH} {expected}; {advice}")

    def test_longLine(self) -> None:
        """A file without lines is given up before it fills the memory."""
        lines = NameLines(PATH)
        lines.feed(b"a.test\n")
        lines.feed(bytes(LINE_LIMIT))
        error = self.assertRaises(ConfigError, lines.feed, b"x")
        self.assertIn(f"{PATH}, line 2: this line is longer than 64 KiB; give one", str(error))

    def test_slow(self) -> None:
        """A list with too many patterns is refused, and wildcards below names are not too many."""
        many = "".join(f"ads*.n{number}.test\n" for number in range(2 * SLOW_LIMIT))
        self.assertEqual(len(read(many).takes), 2 * SLOW_LIMIT)
        slow = "".join(f"/ads{number}/\n" for number in range(SLOW_LIMIT))
        read(slow)
        error = self.assertRaises(ConfigError, read, f"{slow}ads*\n")
        self.assertIn(f"{PATH} has {SLOW_LIMIT + 1} regular expressions and wildcards", str(error))
        excepts = slow.replace("/ads", "@@/ads")
        self.assertRaises(ConfigError, read, f"a.test\nb*\n{excepts}@@/x/\n||c.test^\n")


class NetworkLinesTests(SynchronousTestCase):
    """L{NetworkLines}."""

    def test_networks(self) -> None:
        """Addresses and networks of both families are taken, with comments beside them."""
        lines = NetworkLines(PATH)
        lines.feed(b"# list\n192.0.2.7\n10.0.0.0/8 # ours\n2001:db8::/32;x\n\n198.51.100.0/2")
        lines.feed(b"55.255.255.0\nx\n203.0.113.9/24")
        table = lines.end()
        for host, expected in (
            ("192.0.2.7", True), ("192.0.2.8", False), ("10.200.0.1", True),
            ("2001:db8:1::", True), ("2001:db9::", False), ("198.51.100.9", True),
            ("203.0.113.200", True),
        ):  # fmt: skip
            address = ip_address(host)
            self.assertEqual(table.has(int(address), address.version == 6), expected, host)
        self.assertEqual(
            lines.notice, f"{PATH}, line 7 is left out, because it has no usable networks: 'x'."
        )

    def test_noList(self) -> None:
        """A list of names is no list of networks."""
        lines = NetworkLines(PATH)
        lines.feed(b"a.test\nb.test\n")
        self.assertEqual(
            str(self.assertRaises(ConfigError, lines.end)),
            f"{PATH} is no list of networks: no line has one, and line 1 is 'a.test'; give one "
            "address or network on each line, such as 192.0.2.7 or 2001:db8::/32.",
        )

    def test_spans(self) -> None:
        """What is neither an address nor a network is not taken for one."""
        for text in (
            "", "x", "1.2.3", "1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/", "1.2.3.4/ 8", "::/129",
            "fe80::1%eth0", "1.2.3.4/255.0.255.0", f"1.2.3.4/{'9' * 5000}",
        ):  # fmt: skip
            self.assertIsNone(spanOf(text), text)
        self.assertEqual(spanOf("0.0.0.0/0"), (False, 0, 2**32 - 1))
        self.assertEqual(spanOf("::1/127"), (True, 0, 1))
