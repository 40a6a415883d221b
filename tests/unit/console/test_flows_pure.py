"""Tests of what C{nanotun flows} is made of: filters, rates, sorting and tables."""

from __future__ import annotations

from typing import Any

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from nanotun.console.flows.client import close
from nanotun.console.flows.filters import Filter
from nanotun.console.flows.options import FlowsOptions
from nanotun.console.flows.rows import Rates
from nanotun.console.flows.table import Column, Order, lines, ordered
from nanotun.console.flows.text import FLOW_COLUMNS, shortSize, shortTime
from tests.unit.console.flow_cases import described, undecided


class FilterTests(SynchronousTestCase):
    """L{Filter}, as the command line makes it."""

    def filter(self, *words: str) -> Filter:
        """The filter of some options."""
        options = FlowsOptions()
        options.parseOptions(words)
        return options.filter()

    def takes(self, option: str, value: str, **changed: Any) -> bool:
        """Whether one filter takes a flow."""
        flow = described(1, **changed)
        found = self.filter(f"--{option}", value)
        return found.takes(flow) and found.takesProcess(flow["process"], {"yt-dlp"})

    def test_to(self) -> None:
        """--to takes an address, a network or a port, or one with a port."""
        four, six = {"destination": "10.1.2.3:443"}, {"destination": "[2001:db8::1]:443"}
        for value, isFour, isSix in (
            ("10.1.2.3", True, False),
            ("10.1.2.3:443", True, False),
            ("10.1.2.3:80", False, False),
            ("10.0.0.0/8", True, False),
            ("10.0.0.0/8:443", True, False),
            ("10.0.0.0/8:44", False, False),
            ("11.0.0.0/8", False, False),
            ("0.0.0.0/0", True, False),
            (":443", True, True),
            (":80", False, False),
            ("2001:db8::1", False, True),
            ("2001:db8::/32", False, True),
            ("[2001:db8::1]", False, True),
            ("[2001:db8::1]:443", False, True),
            ("[2001:db8::/32]:443", False, True),
            ("[2001:db8::]/32:443", False, True),
            ("[2001:db8::1]:80", False, False),
        ):
            found = self.takes("to", value, **four), self.takes("to", value, **six)
            self.assertEqual(found, (isFour, isSix), value)

    def test_wrongTo(self) -> None:
        """A wrong --to is told what is right."""
        for value in ("", ":", "x", "10.0.0.0/33", "10.0.0.1:0", "10.0.0.1:65536", "1.2.3.4:x",
                      "[::1", "[]", "2001:db8::1:", "10.0.0.1,10.0.0.2:443", ":0"):  # fmt: skip
            error = self.assertRaises(usage.UsageError, self.filter, "--to", value)
            self.assertIn(
                "--to must be an address or a network and, if you like, a port", str(error)
            )
            self.assertIn(f"not {value!r}", str(error))

    def test_domain(self) -> None:
        """--domain means what it means in a rule; a flow without a name has none of them."""
        for value, takes in (
            ("example.org", True),
            ("EXAMPLE.org.", True),
            ("=example.org", False),
            ("=www.example.org", True),
            ("*.example.org", True),
            ("~^w+\\.", True),
            ("example.com", False),
        ):
            self.assertEqual(self.takes("domain", value), takes, value)
            self.assertFalse(self.takes("domain", value, domain=None))
        for value, sentence in (
            ("10.0.0.1", "--domain 10.0.0.1 is about addresses; write it behind --to"),
            ("a b", "--domain must be a name, such as example.org, "),
            ("~(", "--domain ~( is not a regular expression"),
            ("file:/x", "lists are not read here"),
        ):
            error = self.assertRaises(usage.UsageError, self.filter, "--domain", value)
            self.assertIn(sentence, str(error))

    def test_process(self) -> None:
        """--process takes a name of the program, its path, or its number."""
        for value, takes in (
            ("curl", True),
            ("CURL.exe", True),
            ("/usr/bin/curl", True),
            ("4711", True),
            ("yt-dlp", True),
            ("/usr/bin/wget", False),
            ("471", False),
            ("cur", False),
        ):
            self.assertEqual(self.takes("process", value), takes, value)
            self.assertFalse(self.takes("process", value, process=None))

    def test_undecided(self) -> None:
        """A flow that is not decided about meets no filter of a rule or an upstream."""
        for words in (("--rule", "2"), ("--upstream", "proxy"), ("--domain", "~.")):
            self.assertFalse(self.filter(*words).takes(undecided(1)))
        self.assertTrue(self.filter("--state", "Waiting").takes(undecided(1)))
        self.assertTrue(self.filter().takes(undecided(1)))


class RateTests(SynchronousTestCase):
    """L{Rates}."""

    def rates(self, made: Rates, *flows: dict[str, Any]) -> list[tuple[float, float]]:
        """The rates of one look."""
        return [(row.rateUp, row.rateDown) for row in made.rows(flows)]

    def test_looks(self) -> None:
        """
        A rate is the mean since the flow began at its first look, and since the last look from
        then on, by the time that went by for this flow.
        """
        made = Rates()
        first = described(1, age=10.0, up=100, down=0)
        self.assertEqual(self.rates(made, first), [(10, 0)])
        first.update(age=12.0, up=100, down=8)
        other = described(2, age=0.5, up=6, down=7)
        self.assertEqual(self.rates(made, first, other), [(0, 4), (12, 14)])
        other.update(age=3.0, up=6 + 5)
        self.assertEqual(self.rates(made, other), [(2, 0)])

    def test_noTime(self) -> None:
        """No time is no rate."""
        made = Rates()
        self.assertEqual(self.rates(made, described(1, age=0.0)), [(0, 0)])
        self.assertEqual(self.rates(made, described(1, age=0.0)), [(0, 0)])


Pair = tuple[str, int]

PAIRS: list[Pair] = [("b", 1), ("a", 20), ("c", 300)]

NAME: Column[Pair] = Column("NAME", lambda row: row[0], lambda row: row[0], isLong=True)
SIZE: Column[Pair] = Column("SIZE", lambda row: str(row[1]), lambda row: row[1], True, 1)
NOTE: Column[Pair] = Column("NOTE", lambda row: "", lambda row: None, rank=2)


class TableTests(SynchronousTestCase):
    """L{nanotun.console.flows.table}."""

    def test_lines(self) -> None:
        """A column is as wide as its widest text, numbers flush right; an empty one is left out."""
        expected = ["NAME  SIZE", "b        1", "a       20", "c      300"]
        self.assertEqual(lines((NAME, SIZE, NOTE), PAIRS), expected)
        self.assertEqual(lines((NAME, SIZE, NOTE), []), ["NAME  SIZE  NOTE"])

    def test_order(self) -> None:
        """The column by which rows are sorted has a sign: which end is on top."""
        for order, heading, names in (
            (Order("name"), "NAME▲  SIZE", "abc"),
            (Order("name", True), "NAME▼  SIZE", "cba"),
            (Order("size"), "NAME  SIZE▼", "cab"),
            (Order("size", True), "NAME  SIZE▲", "bac"),
        ):
            rows = ordered((NAME, SIZE), PAIRS, order)
            self.assertEqual("".join(name for name, _ in rows), names)
            self.assertEqual(lines((NAME, SIZE), rows, order=order)[0], heading)

    def test_width(self) -> None:
        """Where there is no room, columns are left out by rank, and then long texts are cut off."""
        rows = [("n" * 40, 12345)]
        self.assertEqual(lines((NAME, SIZE), rows, 47)[1], "n" * 40 + "  12345")
        self.assertEqual(lines((NAME, SIZE), rows, 46)[1], "n" * 38 + "…  12345")
        self.assertEqual(lines((NAME, SIZE), rows, 27)[1], "n" * 19 + "…  12345")
        self.assertEqual(lines((NAME, SIZE), rows, 26)[1], "n" * 25 + "…")
        self.assertEqual(lines((NAME, SIZE), rows, 5)[1], "n" * 19 + "…")

    def test_flows(self) -> None:
        """On a terminal of 80 columns a flow's line has what matters most."""
        rows = Rates().rows([described(1, domain="a-rather-long-name.of.some.example.org")])
        heading, line = lines(FLOW_COLUMNS, rows, 80)
        self.assertLessEqual(max(len(heading), len(line)), 80)
        for title in ("ID", "AGE", "PROCESS", "TO", "UPSTREAM", "UP", "DOWN", "DOWN/S"):
            self.assertIn(title, heading.split())

    def test_sizes(self) -> None:
        """Sizes take at most five characters."""
        for size, text in (
            (0, "0B"),
            (999, "999B"),
            (1000, "1.0K"),
            (1536, "1.5K"),
            (99 * 1024, "99.0K"),
            (100 * 1024, "100K"),
            (1023 * 1024, "1.0M"),
            (5 * 1024**3, "5.0G"),
            (2**60, "1024P"),
        ):
            self.assertEqual(shortSize(size), text)
        for power in range(1, 600):
            self.assertLessEqual(len(shortSize(1.07**power)), 5)

    def test_times(self) -> None:
        """Times have one unit."""
        for seconds, text in (
            (0.9, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172800, "2d"),
        ):  # fmt: skip
            self.assertEqual(shortTime(seconds), text)


class ClientTests(SynchronousTestCase):
    """L{close}."""

    def test_none(self) -> None:
        """Nothing is asked if there is nothing to close."""
        self.assertEqual(close(lambda *asked: self.fail(str(asked)), ()), 0)
