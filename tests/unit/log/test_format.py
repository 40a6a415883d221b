"""Tests of L{nanotun.log.format}."""

from __future__ import annotations

import json
from typing import Any

from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from nanotun.log.format import FORMATS, PRIORITIES, forJournal, formatJSON, formatText
from nanotun.upstream.schemes.table import parseProxyURL


class FormatTextTests(SynchronousTestCase):
    """L{formatText}."""

    def line(self, text: str, **fields: Any) -> str:
        """The line of an event."""
        return formatText(
            {"log_format": text, "log_level": LogLevel.warn, "log_namespace": "n", **fields}
        )

    def test_parts(self) -> None:
        """A line has time, level, namespace and text."""
        self.assertRegex(
            self.line("a {b}", b=1, log_time=0.0),
            r"^19(70|69)-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} warn \[n\] a 1\n$",
        )

    def test_controlCharacters(self) -> None:
        """Characters that control a terminal, reverse the text or end the line are escaped."""
        line = self.line("{x}", x="a\x1b[2Jb\rc\x00d\x9be\u202ef\u2028g\ud800h")
        self.assertTrue(line[:-1].isprintable())
        for escaped in ("\\x1b", "\\r", "\\x00", "\\x9b", "\\u202e", "\\u2028", "\\ud800"):
            self.assertIn(escaped, line)

    def test_forgedLine(self) -> None:
        """A newline in a value cannot begin a line that looks like a log line."""
        self.assertIn("a\n\t2026", self.line("{x}", x="a\n2026-01-01 error [n] forged"))

    def test_traceback(self) -> None:
        """A failure comes with its traceback, indented."""
        text = self.line("oops", log_failure=Failure(ZeroDivisionError("why")))
        self.assertIn("oops\n\tTraceback", text)
        self.assertIn("ZeroDivisionError: why", text)

    def test_nothing(self) -> None:
        """An event without a text is no line."""
        self.assertEqual(formatText({"log_level": LogLevel.info}), "")


class FormatJSONTests(SynchronousTestCase):
    """L{formatJSON}."""

    def line(self, text: str, **fields: Any) -> dict[str, Any]:
        """The object of an event, after a check that it is one line of ASCII."""
        line = formatJSON(
            {"log_format": text, "log_level": LogLevel.warn, "log_namespace": "n", **fields}
        )
        self.assertTrue(line.isascii() and line.endswith("}\n") and line[:-1].isprintable(), line)
        found: dict[str, Any] = json.loads(line)
        return found

    def test_parts(self) -> None:
        """An object has time with zone, level, namespace, text and fields, and no other keys."""
        line = self.line("a {b}", b=1, log_time=0.25)
        self.assertRegex(
            line.pop("time"), r"^19(70|69)-\d\d-\d\dT\d\d:\d\d:\d\d\.250[+-]\d\d:\d\d$"
        )
        self.assertEqual(
            line, {"level": "warn", "namespace": "n", "text": "a 1", "fields": {"b": 1}}
        )

    def test_noFields(self) -> None:
        """Where an event has no fields, its object has none."""
        self.assertEqual(set(self.line("a")), {"time", "level", "namespace", "text"})

    def test_fields(self) -> None:
        """Fields keep their JSON value; values of types that JSON lacks become strings."""
        fields = {
            "truth": True,
            "nothing": None,
            "bytesUp": 1 << 40,
            "duration": 0.5,
            "endless": float("inf"),
            "rule": 'excluded "x"',
            "many": [1, ("a", b"b")],
            "byName": {"x": {1: 2}},
            "proxy": parseProxyURL("socks5://me:secret@h:1"),
        }
        self.assertEqual(
            self.line("a", **fields)["fields"],
            {
                **fields,
                "endless": "inf",
                "many": [1, ["a", "b'b'"]],
                "byName": {"x": {"1": 2}},
                "proxy": str(fields["proxy"]),
            },
        )
        self.assertNotIn("secret", str(self.line("a", **fields)))

    def test_deep(self) -> None:
        """A field that contains itself is cut off."""
        deep: list[object] = []
        deep.append(deep)
        self.assertIn("[[[[", str(self.line("a", deep=deep)["fields"]["deep"]))

    def test_noText(self) -> None:
        """A field that cannot be converted loses neither the line nor the other fields."""

        class Broken:
            def __str__(self) -> str:
                raise ZeroDivisionError

        self.assertEqual(
            self.line("a", broken=Broken(), other=1)["fields"],
            {"broken": "(cannot be shown)", "other": 1},
        )

    def test_controlCharacters(self) -> None:
        """Characters that a terminal or a collector would obey are escaped."""
        nasty = "a\x1b[2Jb\rc\x00d\x9be\u202ef\u2028g\ud800h\x7f\n{"
        self.assertEqual(self.line("{x}", x=nasty)["fields"]["x"], nasty)
        self.line("a", log_namespace=nasty, **{nasty: 1})

    def test_traceback(self) -> None:
        """A failure has its traceback under a key of its own."""
        line = self.line("oops", log_failure=Failure(ZeroDivisionError("why")))
        self.assertEqual(line["text"], "oops")
        self.assertIn("ZeroDivisionError: why", line["traceback"])

    def test_legacy(self) -> None:
        """Of an event by Twisted's legacy logging only the text is shown."""
        line = self.line("a", isError=0, system="-", message=("a",), time=1.0)
        self.assertNotIn("fields", line)

    def test_nothing(self) -> None:
        """An event without a text is no line."""
        self.assertEqual(formatJSON({"log_level": LogLevel.info}), "")

    def test_formats(self) -> None:
        """Each value of logFormat has a format."""
        self.assertEqual(FORMATS, {"text": formatText, "json": formatJSON})


class ForJournalTests(SynchronousTestCase):
    """L{forJournal}."""

    def test_levels(self) -> None:
        """Every level of Twisted has its number of syslog(3)."""
        self.assertEqual(set(PRIORITIES), set(LogLevel.iterconstants()))
        self.assertEqual(forJournal("a\n", LogLevel.info), "<6>a\n")

    def test_traceback(self) -> None:
        """Each line of a traceback has the prefix, as each is an entry of the journal."""
        self.assertEqual(forJournal("a\n\tb\n", LogLevel.error), "<3>a\n<3>\tb\n")
