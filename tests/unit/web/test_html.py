"""
Tests of L{nanotun.web.html} and L{nanotun.web.text}.
"""

from __future__ import annotations

from datetime import UTC, datetime

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.units import sizeText, timeText
from nanotun.web.html import Html, join, tag
from nanotun.web.text import (
    clockOffset,
    clockText,
    countText,
    millisText,
    plural,
    rateText,
)
from tests.unit.web.page_data import HOSTILE


class HtmlTests(SynchronousTestCase):
    """How elements are made."""

    def test_escaped(self) -> None:
        """No text can leave its place, be it a child or an attribute's value."""
        made = tag("a", HOSTILE, [HOSTILE], title=HOSTILE)
        safe = "&quot;&#x27;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;"
        self.assertEqual(made, f'<a title="{safe}">{safe}{safe}</a>')

    def test_nested(self) -> None:
        """What is HTML already stays as it is, however deep."""
        inner = tag("b", "x")
        self.assertEqual(tag("p", (inner, [inner])), "<p><b>x</b><b>x</b></p>")
        self.assertEqual(join("<", inner, None, 7), "&lt;<b>x</b>7")
        self.assertIsInstance(join("<"), Html)

    def test_textAgain(self) -> None:
        """Whatever is cut out of HTML or put together with a text is a text again."""
        self.assertEqual(tag("p", tag("b", "x") + "<"), "<p>&lt;b&gt;x&lt;/b&gt;&lt;</p>")

    def test_attributes(self) -> None:
        """An attribute can be absent, without value, and have a hyphen or a reserved name."""
        made = tag("td", class_="a", data_label="b", hidden=True, id=None, title=False, name="")
        self.assertEqual(made, '<td class="a" data-label="b" hidden name=""></td>')

    def test_void(self) -> None:
        """An element that can have no content has no end."""
        self.assertEqual(tag("input", name="q"), '<input name="q">')


class TextTests(SynchronousTestCase):
    """Numbers for people."""

    def test_sizes(self) -> None:
        """A number of bytes has three or four digits and a unit."""
        found = [sizeText(each) for each in (0, 1023, 1024, 150 << 10, 7 << 30, 5 << 60)]
        self.assertEqual(found, ["0 B", "1023 B", "1.0 KiB", "150 KiB", "7.0 GiB", "5120 PiB"])
        self.assertEqual(rateText(2048), "2.0 KiB/s")

    def test_times(self) -> None:
        """A time has its two largest units."""
        found = [timeText(each) for each in (0.9, 61, 3600, 90061)]
        self.assertEqual(found, ["0 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"])
        self.assertEqual((millisText(0.0134), millisText(None)), ("13 ms", "–"))  # noqa: RUF001

    def test_clock(self) -> None:
        """The time of day and its distance from UTC fit together, wherever one is."""
        for moment in (0.0, 1_800_000_000.0):
            utc = datetime.fromtimestamp(moment + clockOffset(moment), UTC)
            self.assertEqual(clockText(moment), utc.strftime("%H:%M:%S"))

    def test_counts(self) -> None:
        """A number of things is easy to read."""
        self.assertEqual((countText(1234567), plural(1, "flow")), ("1,234,567", "1 flow"))
        self.assertEqual(plural(2000, "flow"), "2,000 flows")
