"""Tests of L{nanotun.config.domains}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.domains import Pattern, PatternKind, pattern
from nanotun.errors import ConfigError


class PatternTests(SynchronousTestCase):
    """L{pattern}."""

    def test_kinds(self) -> None:
        """Each kind is told by its sign; names become what they are compared with."""
        for text, kind, value in (
            ("corp.example", PatternKind.BELOW, "corp.example"),
            ("Corp.Example.", PatternKind.BELOW, "corp.example"),
            (".corp.example", PatternKind.BELOW, "corp.example"),
            ("lan", PatternKind.BELOW, "lan"),
            ("_sip._tcp.a-b.example", PatternKind.BELOW, "_sip._tcp.a-b.example"),
            ("bücher.example", PatternKind.BELOW, "xn--bcher-kva.example"),
            ("BÜCHER。example", PatternKind.BELOW, "xn--bcher-kva.example"),
            ("=www.corp.example", PatternKind.EXACTLY, "www.corp.example"),
            ("=Bücher.example", PatternKind.EXACTLY, "xn--bcher-kva.example"),
            ("*.corp.example", PatternKind.LIKE, "*.corp.example"),
            ("ads*.Example.", PatternKind.LIKE, "ads*.example"),
            ("*", PatternKind.LIKE, "*"),
            ("~^ads[0-9]{1,3}\\.", PatternKind.MATCHES, "^ads[0-9]{1,3}\\."),
            ("file:/etc/a, b", PatternKind.FILE, "/etc/a, b"),
        ):
            self.assertEqual(pattern(text), Pattern(kind, value, text))

    def test_noName(self) -> None:
        """What no name looks like is refused."""
        long = ".".join(["a" * 63] * 4)
        for text in ("", "=", "~", ".", "a b", "a..b", "a/b", "a:1", "http://a", "é*.a", "a" * 64):
            self.assertRaises(ValueError, pattern, text)
        for text in (long, f"={long}", f"*{long}", "xn--\xe9", "\N{SNOWMAN}" * 60):
            self.assertRaises(ValueError, pattern, text)
        pattern(long[3:])

    def test_meant(self) -> None:
        """Where it is clear what was meant, the error says what to write."""
        for text, sentence in (
            ("10.0.0.0/8", ": 10.0.0.0/8 is about addresses; write it under networks"),
            ("=192.0.2.7", ": 192.0.2.7 is about addresses; write it under networks"),
            ("2001:db8::1", ": 2001:db8::1 is about addresses; write it under networks"),
            ("file:a.txt", ": file:a.txt has no absolute path; write file:/PATH"),
            ("file:", ": file: has no absolute path; write file:/PATH"),
            (
                "~ads[",
                ": ~ads[ is not a regular expression (unterminated character set at position 3); "
                "in YAML it may need quotes",
            ),
        ):
            error = self.assertRaises(ConfigError, pattern, text)
            self.assertEqual(str(error), sentence)

    def test_oneLine(self) -> None:
        """Whatever the expression is, the error about it is one line."""
        for text in ("~(\n\x1b[31m", "~" + "(" * 2000, "~a{99999999999999999999}("):
            message = str(self.assertRaises(ConfigError, pattern, text))
            self.assertTrue(message.isprintable(), message)
            self.assertLess(len(message), 250)
