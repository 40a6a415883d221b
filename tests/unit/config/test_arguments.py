"""Tests of L{nanotun.config.arguments}."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.arguments import ArrangedOptions, wrongUsage


class Command(ArrangedOptions):
    """A command line with an option of every kind."""

    switches = frozenset({"kill-switch", "dns-cache"})
    optFlags = [["json", "j", "a flag"], ["daemon", "d", "another"]]
    optParameters = [
        ["config", "c", None, "a file"],
        ["proxy", None, None, "a value"],
        ["proxy-policy", None, None, "a value"],
        ["mtu", None, None, "a value"],
        ["kill-switch", None, None, "a switch"],
        ["dns-cache", None, None, "a switch"],
    ]

    words: tuple[str, ...] = ()

    def parseArgs(self, *args: str) -> None:
        """Keep the arguments."""
        self.words = args

    def opt_version(self) -> None:
        """Show the version."""


class ForAnother(Command):
    """A command line whose arguments are another program's."""

    mixed = False


class ArrangeTests(SynchronousTestCase):
    """L{ArrangedOptions}."""

    def parse(self, *arguments: str, cls: type[Command] = Command) -> Command:
        """Parse a command line."""
        options = cls()
        options.parseOptions(list(arguments))
        return options

    def fails(self, *arguments: str) -> str:
        """The error of a command line."""
        return str(self.assertRaises(usage.UsageError, self.parse, *arguments))

    def test_switch(self) -> None:
        """Every form of a switch is the same, and what follows it is another argument."""
        for words, value in (
            (("--kill-switch",), "true"),
            (("--kill-switch", "true"), "true"),
            (("--kill-switch=true",), "true"),
            (("--kill", "true"), "true"),
            (("--no-kill-switch",), "false"),
            (("--no-kill",), "false"),
            (("--kill-switch", "false"), "false"),
            (("--kill-switch=false",), "false"),
        ):
            options = self.parse(*words, "f", "-c", "x")
            self.assertEqual(options["kill-switch"], value, words)
            self.assertEqual((options.words, options["config"]), (("f",), "x"), words)

    def test_following(self) -> None:
        """A switch takes only a word that can be its value; its --no- form takes none."""
        self.assertEqual(self.parse("--kill-switch", "yes")["kill-switch"], "yes")
        options = self.parse("--kill-switch", "--proxy", "x")
        self.assertEqual((options["kill-switch"], options["proxy"]), ("true", "x"))
        options = self.parse("--no-kill-switch", "true")
        self.assertEqual((options["kill-switch"], options.words), ("false", ("true",)))

    def test_last(self) -> None:
        """The last one of several counts."""
        for words, value in (
            (("--kill-switch", "--no-kill-switch"), "false"),
            (("--no-kill-switch", "--kill-switch"), "true"),
            (("--kill-switch=false", "--kill-switch"), "true"),
        ):
            self.assertEqual(self.parse(*words)["kill-switch"], value, words)
        for flags, given in (
            (["--json", "--json=false"], 0),
            (["--json", "--no-json"], 0),
            (["--no-json", "--json=true"], 1),
            (["-j"], 1),
            (["--json", "false"], 1),
        ):
            self.assertEqual(self.parse(*flags)["json"], given, flags)

    def test_mixed(self) -> None:
        """Options may follow arguments, but not those of another program's command line."""
        words = ("-dcf", "a", "--mtu", "3", "-", "--json", "--", "--proxy", "x")
        options = self.parse(*words)
        self.assertEqual(options.words, ("a", "-", "--proxy", "x"))
        self.assertEqual(
            (options["config"], options["mtu"], options["json"], options["daemon"]),
            ("f", "3", 1, 1),
        )
        for first in ((), ("--",)):
            options = self.parse("-c", "f", *first, "a", "--mtu", "--", "3", cls=ForAnother)
            self.assertEqual((options["mtu"], options.words), (None, ("a", "--mtu", "--", "3")))

    def test_values(self) -> None:
        """A value may be empty, or look like an option."""
        options = self.parse("--proxy", "", "--mtu", "--json", "-c", "-d")
        self.assertEqual(
            (options["proxy"], options["mtu"], options["config"]), ("", "--json", "-d")
        )
        self.assertEqual((options["json"], options["daemon"]), (0, 0))

    def test_prefix(self) -> None:
        """The beginning of a name is enough if it is the only one; a whole name always is."""
        self.assertEqual(self.parse("--proxy-", "x")["proxy-policy"], "x")
        self.assertEqual(self.parse("--proxy", "x")["proxy"], "x")
        self.assertEqual(self.fails("--pro", "x"), "--pro could be --proxy or --proxy-policy")

    def test_whole(self) -> None:
        """--help all is one option, with which the help may explain everything."""
        for words, whole in (
            (["--help", "all"], True),
            (["--help=all"], True),
            (["--help"], False),
        ):
            options = Command()
            with redirect_stdout(io.StringIO()):
                self.assertRaises(SystemExit, options.parseOptions, words)
            self.assertIs(options.whole, whole)

    def test_wrong(self) -> None:
        """What is wrong is named in one sentence."""
        for words, sentence in (
            (("f", "--mtuu", "3"), "there is no option --mtuu; did you mean --mtu?"),
            (("--cofnig", "x"), "there is no option --cofnig; did you mean --config?"),
            (
                ("--on-kill-switch",),
                "there is no option --on-kill-switch; did you mean --kill-switch?",
            ),
            (
                ("--no-kill-swich",),
                "there is no option --no-kill-swich; did you mean --no-kill-switch?",
            ),
            (("--no-mtu",), "there is no option --no-mtu"),
            (("--\x1b[2J",), "there is no option --\\x1b[2J"),
            (("-z",), "there is no option -z"),
            (("-d:",), "there is no option -:"),
            (("--mtu",), "--mtu needs a value"),
            (("-dc",), "-c needs a value"),
            (("--json=1",), "--json takes no value but true or false, not '1'"),
            (("--no-json=true",), "--no-json takes no value"),
            (("--no-kill-switch=true",), "--no-kill-switch takes no value"),
            (("--version=1",), "--version takes no value"),
            (("--=x",), "there is no option --"),
        ):
            self.assertTrue(self.fails(*words).startswith(sentence), (words, self.fails(*words)))
        self.assertEqual(wrongUsage(usage.UsageError("no."), "x"), "no; see 'nanotun x --help'.")
        self.assertEqual(wrongUsage(usage.UsageError("no?"), "x"), "no? See 'nanotun x --help'.")
