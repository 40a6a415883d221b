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
                "tunName": Given(["a"], "n.yaml, line 5: tunName", lines={(0,): 5}),
            },
        )

    def test_parts(self) -> None:
        """A part of a list or a mapping knows its line; a missing one has its parent's."""
        given = parseFile(
            "proxy:\n  deep:\n    via: x\n    proxy: [a,\n      b]\n"
            "mtu:\n- to: a\n- to: b\n  not: {ports: 5}\n",
            "n.yaml",
            KNOWN,
        )
        proxy, mtu = given["proxy"], given["mtu"]
        self.assertEqual(proxy.at(()), "n.yaml, line 1: proxy")
        self.assertEqual(proxy.at(("deep", "via")), "n.yaml, line 3: proxy.deep.via")
        self.assertEqual(
            proxy.at(("deep", "proxy", 1)), "n.yaml, line 5: proxy.deep.proxy, entry 2"
        )
        self.assertEqual(proxy.at(("deep", "policy")), "n.yaml, line 2: proxy.deep.policy")
        self.assertEqual(mtu.at((1, "to")), "n.yaml, line 8: mtu, entry 2, to")
        self.assertEqual(mtu.at((1, "not", "ports")), "n.yaml, line 9: mtu, entry 2, not.ports")
        self.assertEqual(mtu.place((1, "not")), "n.yaml, line 9")
        self.assertEqual(mtu.place(), "n.yaml, line 6")

    def test_partsElsewhere(self) -> None:
        """A part of a flag's or a variable's value has no line."""
        flag = Given([], "--upstream", typed=True)
        self.assertEqual(flag.at(("office",)), "--upstream office")
        self.assertEqual(Given([], "--rule").at((2, "to")), "--rule, entry 3, to")
        self.assertEqual(flag.place(("office",)), "--upstream")

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

    def test_aliases(self) -> None:
        """Aliases of aliases cost no more than their text."""
        lines = ["proxy:", "  a0: &a0 [x, x]"]
        lines += [f"  a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
        given = parseFile("\n".join(lines), "n.yaml", KNOWN)["proxy"]
        self.assertEqual(given.at(("a39", 1, 0)), "n.yaml, line 40: proxy.a39, entry 2, entry 1")

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

    def test_twiceInside(self) -> None:
        """So is one that a mapping inside has twice, where the last would win unseen."""
        self.assertEqual(
            self.fails("mtu:\n- a: 1\n- b: {c: 1}\n  b: 2"),
            "n.yaml, line 4: mtu, entry 2, b is set a second time, first on line 3; remove one of "
            "the two.",
        )
        url = "x://u:hunter2@h"
        self.assertIn("mtu.x://***@h is set", self.fails(f"mtu: {{'{url}': 1, '{url}': 2}}"))

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
