"""Tests of how the words of L{nanotun.console} read their command lines."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from nanotun import console
from nanotun.config.keys import KEYS
from nanotun.config.options import Options
from nanotun.console import check, explain, plan, start, stop
from tests.unit.console.test_console import ConsoleCase


class CommandLineTests(ConsoleCase):
    """Every word's command line."""

    def test_dash(self) -> None:
        """Options without a word are those of start."""
        given: list[list[str]] = []

        def main(arguments: Sequence[str]) -> int:
            given.append(list(arguments))
            return 7

        self.patch(start, "main", main)
        for words in (["--config", "f"], ["-d", "-c", "f"], ["--proxy=h"]):
            self.assertEqual(self.say(console.main, *words), (7, "", ""))
        self.say(console.main, "--help", "all")
        self.assertEqual(
            given, [["--config", "f"], ["-d", "-c", "f"], ["--proxy=h"], ["--help", "all"]]
        )

    def test_wordLast(self) -> None:
        """A word after its options is an error that names the right order."""
        self.assertEqual(
            self.say(console.main, "--config", "f", "status"),
            (
                2,
                "",
                "nanotun start: 'status' comes first: nanotun status --config FILE; see 'nanotun "
                "start --help'.\n",
            ),
        )

    def test_wrongValue(self) -> None:
        """A wrong value of an option has status 2, of a variable or in the file 1."""
        path = Path(self.mktemp())
        path.write_text("proxy: h\nmtu: 5\n")
        for word in ("start", "check", "plan"):
            file = ["-c", str(path)]
            for words, expected in (
                (["--proxy", "foo://"], 2),
                (["--mtu", "5"], 2),
                (["--mtu=1400", "--kill-switch", "yes"], 2),
                (["--mtu=1400", "--confirm", "3"], 2),
                (["--mtu=1400", "--confirm", "30"], 2),
                ([], 1),
                (["-c", "/nowhere"], 1),
            ):
                result, said, error = self.say(console.main, word, *file, *words)
                self.assertEqual((result, said), (expected, ""), (word, words))
                self.assertEqual(error.count("\n"), 1)
        path.write_text("proxy: h\n")
        self.patch(os, "environ", {**os.environ, "NANOTUN_MTU": "5", "NANOTUN_RUNDIR": "run"})
        for word in ("start", "check", "plan"):
            self.assertEqual(self.say(console.main, word, "-c", str(path))[0], 1, word)
        self.assertEqual(self.say(stop.main)[0], 1)

    def test_mistyped(self) -> None:
        """A mistyped option is named, wherever it is."""
        for arguments, sentence in (
            (("f", "--mtuu", "3"), "there is no option --mtuu; did you mean --mtu? See"),
            (("--mtuu=3", "f"), "there is no option --mtuu; did you mean --mtu? See"),
            (("f", "--mtu"), "--mtu needs a value; see"),
            (("f", "-z"), "there is no option -z; see"),
        ):
            result, _, error = self.say(check.main, *arguments)
            self.assertEqual(
                (result, error), (2, f"nanotun check: {sentence} 'nanotun check --help'.\n")
            )

    def test_fallback(self) -> None:
        """What a word does by the default file, it says."""
        path = Path(self.mktemp()).resolve()
        path.touch(0o600)
        path.write_text("proxy: h\n")
        self.patch(Options, "defaultFile", str(path))
        self.assertIn(f"OK: {path}\n", self.say(check.main)[1])
        self.assertIn("OK: the command line\n", self.say(check.main, "--proxy", "h")[1])
        self.assertIn(f"autoDefaultRoute is off in {path}, so", self.say(plan.main)[1])
        _, said, _ = self.say(explain.main, "tcp", "192.0.2.1:443")
        self.assertIn(f"  by       {path}\n", said)
        path.write_text("proxy: h\nautoDefaultRoute: true\n")
        self.assertTrue(
            self.say(plan.main)[1].startswith(f"# The configuration is {path}, because neither")
        )

    def test_help(self) -> None:
        """The help of start fits a screen and names every option; --help all explains each."""
        options = start.StartOptions()
        result, said, _ = self.say(console.main, "start", "--help")
        self.assertEqual(result, 0)
        self.assertLessEqual(len(said.splitlines()), 24)
        self.assertLessEqual(max(map(len, said.splitlines())), 80)
        named = set(re.findall(r"--([a-z][a-z0-9-]+)", said)) - {"no-x", "help"}
        accepted = {each.rstrip("=") for each in options.longOpt} - {"help", "version"}
        self.assertEqual(named, accepted)
        for words in (("start", "--help", "all"), ("--help", "all")):
            result, said, _ = self.say(console.main, *words)
            self.assertEqual(result, 0)
            for key in KEYS.values():
                self.assertIn(key.help, " ".join(said.split()), key.name)
