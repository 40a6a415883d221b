"""Tests of L{nanotun.config.file}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.file import Given, parseFile
from nanotun.errors import ConfigError

KNOWN = ("proxy", "mtu", "offload", "tunName")


class ParseFileTests(SynchronousTestCase):
    """L{parseFile}."""

    def fails(self, text: str) -> str:
        """The error for C{text}."""
        return str(self.assertRaises(ConfigError, parseFile, text, "n.yaml", KNOWN))

    def test_values(self) -> None:
        """Values have their YAML type and know their line."""
        self.assertEqual(
            parseFile("# top\nproxy: h:1\n\nmtu: 1400\ntunName: [a]\n", "n.yaml", KNOWN),
            {
                "proxy": Given("h:1", "n.yaml, line 2: proxy"),
                "mtu": Given(1400, "n.yaml, line 4: mtu"),
                "tunName": Given(["a"], "n.yaml, line 5: tunName"),
            },
        )

    def test_empty(self) -> None:
        """A file without any setting is valid here."""
        for text in ("", "\n", "# only a comment\n", "---\n", "{}"):
            self.assertEqual(parseFile(text, "n.yaml", KNOWN), {})

    def test_wordsStayWords(self) -> None:
        """Words that YAML 1.1 gives a meaning, such as on, off, yes and 0777, are text."""
        for word in ("on", "off", "yes", "no", "0777", "1:30", "2026-01-01", "0x10"):
            self.assertEqual(parseFile(f"offload: {word}", "n", KNOWN)["offload"].value, word)

    def test_types(self) -> None:
        """Numbers, booleans and nulls of YAML 1.2 are not text."""
        for text, value in {
            "5": 5,
            "-5": -5,
            "1.5": 1.5,
            "true": True,
            "~": None,
            "": None,
        }.items():
            self.assertEqual(parseFile(f"mtu: {text}", "n", KNOWN)["mtu"].value, value)

    def test_unknownKey(self) -> None:
        """An unknown key is an error with file, line, key and the likely meaning."""
        for key, meant in {
            "proxi": "proxy",
            "tunname": "tunName",
            "tun_name": "tunName",
            "tun-name": "tunName",
            "MTU": "mtu",
        }.items():
            self.assertEqual(
                self.fails(f"mtu: 1500\n{key}: 1"),
                f"n.yaml, line 2: there is no setting {key}; did you mean {meant}?",
            )

    def test_unknownKeyUnlikeAny(self) -> None:
        """If no key is similar, the error lists all keys."""
        self.assertIn("there are proxy, mtu, offload, tunName.", self.fails("colour: red"))

    def test_twice(self) -> None:
        """A key that is set twice is an error with both lines."""
        message = self.fails("mtu: 1500\nproxy: h\nmtu: 1400")
        self.assertIn("n.yaml, line 3: mtu is set a second time, first on line 1", message)

    def test_notAMapping(self) -> None:
        """A list or a single word is an error that says what to write."""
        for text in ("- mtu", "mtu"):
            self.assertIn("n.yaml, line 1: this is not a mapping", self.fails(text))

    def test_malformed(self) -> None:
        """The error for bad YAML is one line that names the line of the file."""
        for text in (
            "mtu: 1\nproxy: [a",
            "mtu: 1\nproxy: 'a",
            "mtu: 1\n\tproxy: a",
            "mtu: 1\n---\n2",
        ):
            message = self.fails(text)
            self.assertRegex(message, r"^n\.yaml, line [23]: this is not valid YAML \(.*\.$")
            self.assertNotIn("\n", message)

    def test_hostile(self) -> None:
        """Whatever is in a file, the result is a value or a L{ConfigError}."""
        for text in (
            "[" * 5000,
            "mtu: \x01",
            "mtu: !!python/object/apply:os.system [x]",
            "mtu: !!int x",
            "mtu: !!bool x",
            "mtu: !!binary x",
            "mtu: !!timestamp x",
            "mtu: &a [*a]",
            "? [a]\n: 1",
            "<<: {mtu: 1}",
        ):
            self.fails(text)

    def test_noSecrets(self) -> None:
        """No error repeats a value, because it may be a password."""
        for text in (
            "proxy: socks5://a:hunter2@h: 1",
            "socks5://a:hunter2@h: 1",
            "proxy: 'socks5://a:hunter2@h",
            "proxy: *hunter2",
            "proxy: !hunter2 x",
            "proxy: !!int hunter2",
            "proxy: a\nproxy: hunter2",
            "hunter2\n",
        ):
            self.assertNotIn("hunter2", self.fails(text))
