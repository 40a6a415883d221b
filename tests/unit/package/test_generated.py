"""
Tests of what tools/ generates from the command's own tables: the sample configuration, the
tables of settings, the manual page and the shells' completions.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from twisted.python import usage
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.config import options
from nanotun.config.keys import KEYS
from nanotun.console import COMMANDS
from tests import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import completions
import documents
import manpage
from commandline import Word, daemonOptions, optionsClass, words


class CheckOptions(usage.Options):
    """The command line of one word."""


#: A command for tests, which does not depend on the words of today.
TABLE = (
    Word("start", "start it", "nanotun start [options]", "", daemonOptions()),
    Word("check", "look at what's in FILE", "nanotun check FILE", "Reads: all [of it]."),
    Word("run", "run: one command", "nanotun run [options] -- COMMAND", "", daemonOptions()),
    Word("stop", "stop it"),
)


def need(program: str) -> str:
    """The path of a program; skips the test if it is not installed."""
    found = shutil.which(program, path="/usr/local/bin:/usr/bin:/bin")
    if found is None:
        raise SkipTest(f"there is no {program}")
    return found


class CommandLineTests(SynchronousTestCase):
    """tools/commandline.py."""

    def test_words(self) -> None:
        """Every word of the command is found."""
        self.assertEqual([word.name for word in words()], list(COMMANDS))

    def test_options(self) -> None:
        """Every setting has an option, with its valid values."""
        found = {option.name: option for option in daemonOptions()}
        self.assertEqual({key.flag for key in KEYS.values()} - set(found), set())
        self.assertEqual(found["log-format"].values, ("text", "json"))
        self.assertEqual((found["config"].letter, found["config"].kind), ("c", "FILE"))
        for key in KEYS.values():
            if key.switch:
                for name in (key.flag, f"no-{key.flag}"):
                    self.assertEqual((found[name].takesValue, found[name].values), (False, ()))
        self.assertTrue(found["mtu"].takesValue)

    def test_optionsClass(self) -> None:
        """A word's options are the class whose synopsis names it, whatever its module imports."""
        module = ModuleType("m")
        self.assertIsNone(optionsClass("own", module))
        own = type("Own", (options.Options,), {"synopsis": "Usage: nanotun own [options]"})
        longer = type("Longer", (own,), {"synopsis": "Usage: nanotun owner"})
        vars(module).update(usage=usage, Options=options.Options, Longer=longer, Own=own)
        self.assertIs(optionsClass("own", module), own)
        self.assertIs(optionsClass("owner", ModuleType("n"), module), longer)

    def test_own(self) -> None:
        """Each word has its own options; start has few of twistd's, run none that it refuses."""
        found = {word.name: {option.name for option in word.options} for word in words()}
        self.assertTrue({"daemon", "proxy", "pidfile"} <= found["start"])
        self.assertFalse({"chroot", "debug", "reactor", "uid"} & found["start"])
        self.assertTrue({"proxy", "user"} <= found["run"])
        self.assertFalse({"tun", "auto-route", "no-auto-route", "confirm"} & found["run"])
        self.assertTrue({word.name for word in words() if word.takesCommand} == {"run"})
        for word in words():
            self.assertIn("help", found[word.name], word.name)


class DocumentTests(SynchronousTestCase):
    """etc/nanotun.yaml, and the tables in README.md and docs/command.md."""

    def test_current(self) -> None:
        """They are as the tool writes them; if not, run 'make texts'."""
        for path, text in documents.documents().items():
            self.assertEqual(path.read_text(), text, path)

    def test_complete(self) -> None:
        """Each table has every setting once."""
        settings, reload = documents.settingsTable(), documents.reloadTable()
        for name in KEYS:
            self.assertEqual(settings.count(f"| `{name}` | `--"), 1, name)
            self.assertEqual(reload.count(f"`{name}`"), 1, name)

    def test_quotes(self) -> None:
        """An empty default is not shown as a row of quotes that looks like three."""
        texts = [*documents.documents().values(), manpage.page(words())]
        texts += [make(words()) for shell, make in completions.SHELLS.items() if shell != "zsh"]
        for text in texts:
            self.assertNotIn("'''", text)
        self.assertIn("| `fakeIpExclude` | `--fake-ip-exclude` | (none) |", "".join(texts))

    def test_lines(self) -> None:
        """The sample fits a terminal, and a list in it is not broken."""
        text = documents.sample()
        self.assertLessEqual(max(map(len, text.splitlines())), 82)
        self.assertIn("[9.9.9.9, 8.8.8.8:53, '[2001:4860:4860::8888]:53']", text)

    def test_marks(self) -> None:
        """Only what is between the marks is replaced; a document without them is an error."""
        begin, end = documents.BEGIN.format(source="here"), documents.END
        self.assertEqual(
            documents.filled(f"a\n{begin}\nold\n{end}\nb\n", "here", "new\n"),
            f"a\n{begin}\nnew\n{end}\nb\n",
        )
        for text in ("", begin, f"{begin}\nold\n"):
            self.assertRaises(ValueError, documents.filled, text, "here", "new\n")


class ManualTests(SynchronousTestCase):
    """docs/nanotun.8."""

    def test_current(self) -> None:
        """It is as the tool writes it; if not, run 'make texts'."""
        self.assertEqual(manpage.PAGE.read_text(), manpage.page(words()))

    def test_complete(self) -> None:
        """It has every setting, option and word."""
        text = manpage.page(TABLE)
        for key in KEYS.values():
            self.assertIn(f"\\fB{key.name}\\fR", text)
        for option in daemonOptions():
            self.assertIn(f"\\fB\\-\\-{manpage.roff(option.name)}", text.replace("\\-c\\fR, ", ""))
        for word in TABLE:
            self.assertIn(f".SS {word.name}\n", text)

    def test_run(self) -> None:
        """Its text about run is not the one about the daemon."""
        run = manpage.page(words()).partition(".SS run\n")[2].partition(".SS ")[0]
        self.assertIn("whose only way out is the proxy", run)
        self.assertIn("125: nanotun", " ".join(run.split()))
        self.assertIn("no \\-\\-tun", run)
        self.assertNotIn("Every option but", run)

    def test_lint(self) -> None:
        """mandoc has no complaint, whatever the words are."""
        for text in (manpage.page(words()), manpage.page(TABLE)):
            done = subprocess.run(
                [need("mandoc"), "-T", "lint"], input=text, text=True, capture_output=True
            )
            self.assertEqual(done.stdout + done.stderr, "")

    def test_roff(self) -> None:
        """Text is shown unchanged, even if it means something to roff."""
        text = ".a 'b' \\fB--c"
        shown = subprocess.run(
            [need("mandoc"), "-T", "ascii"],
            input=f'.TH X 8 2026-01-01 "x" "x"\n.SH NAME\n{manpage.roff(text)}\n',
            text=True,
            capture_output=True,
        ).stdout
        self.assertIn(text, shown)


class CompletionTests(SynchronousTestCase):
    """etc/completions, by the shells themselves."""

    def test_current(self) -> None:
        """They are as the tool writes them; if not, run 'make texts'."""
        for shell, make in completions.SHELLS.items():
            path = ROOT / "etc" / "completions" / f"nanotun.{shell}"
            self.assertEqual(path.read_text(), make(words()), shell)

    def bash(self, *typed: str) -> list[str]:
        """The completions of bash for the last word typed after C{nanotun}."""
        line = " ".join(f"'{word}'" for word in ("nanotun", *typed))
        script = (
            f"{completions.bash(TABLE)}\nCOMP_WORDS=({line}); COMP_CWORD={len(typed)}\n"
            'complete -p nanotun >/dev/null || exit; _nanotun; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            [need("bash"), "--norc", "-u", "-c", script],
            text=True,
            capture_output=True,
            cwd=ROOT / "etc",
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.split()

    def test_bashWords(self) -> None:
        """The first completions are the words."""
        self.assertEqual(self.bash("st"), ["start", "stop"])
        self.assertEqual(self.bash(""), ["start", "check", "run", "stop", "--help", "--version"])

    def test_bashOptions(self) -> None:
        """After a word its own options are offered."""
        self.assertEqual(
            self.bash("start", "--log-"),
            ["--log-dir", "--log-flows", "--log-format", "--log-level"],
        )
        self.assertEqual(self.bash("stop", "--log-"), [])

    def test_bashValues(self) -> None:
        """For an option's value its valid values are offered, or files, or directories."""
        for typed in (("--log-format", "j"), ("--log-format", "=", "j")):
            self.assertEqual(self.bash("start", *typed), ["json"])
        self.assertEqual(self.bash("start", "--log-format", "="), ["text", "json"])
        self.assertEqual(self.bash("start", "--tun", ""), [])
        self.assertEqual(self.bash("start", "--config", "nano"), ["nanotun.yaml"])
        self.assertEqual(self.bash("start", "--log-dir", "init"), ["init.d"])

    def test_bashRest(self) -> None:
        """Files are offered where the word takes a file, and commands after --."""
        self.assertEqual(self.bash("check", "nano"), ["nanotun.yaml"])
        self.assertEqual(self.bash("stop", "nano"), [])
        self.assertIn("cat", self.bash("run", "--", "ca"))
        self.assertEqual(self.bash("run", "--tun", "x", "--", "cat", "nano"), ["nanotun.yaml"])
        self.assertEqual(self.bash("start", "--", "ca"), [])

    def fish(self, line: str) -> list[str]:
        """The completions of fish at the end of C{line}."""
        home = Path(self.mktemp())
        home.mkdir()
        file = home / "nanotun.fish"
        file.write_text(completions.fish(TABLE))
        script = 'source $argv[1]; complete -C "$argv[2]"'
        done = subprocess.run(
            [need("fish"), "--no-config", "-c", script, str(file.resolve()), line],
            text=True,
            capture_output=True,
            env={"HOME": str(home.resolve()), "PATH": "/usr/bin:/bin"},
            cwd=ROOT / "etc",
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return [each.split("\t")[0] for each in done.stdout.splitlines()]

    def test_fish(self) -> None:
        """fish offers words, options and values."""
        self.assertEqual(self.fish("nanotun st"), ["start", "stop"])
        # Newer ones also offer what has these letters further on, as --flow-log-days.
        options = [each for each in self.fish("nanotun start --log-") if each.startswith("--log-")]
        self.assertEqual(options, ["--log-dir", "--log-flows", "--log-format", "--log-level"])
        self.assertEqual(self.fish("nanotun start --log-format j"), ["json"])
        self.assertEqual(self.fish("nanotun stop --log-"), [])
        self.assertIn("nanotun.yaml", self.fish("nanotun check nano"))

    def test_zsh(self) -> None:
        """zsh can parse it, and it has every word and option."""
        text = completions.zsh(TABLE)
        done = subprocess.run([need("zsh"), "-n"], input=text, text=True, capture_output=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for word in TABLE:
            self.assertIn(f"        {word.name})\n", text)
        self.assertIn("'--log-format=[log lines\\: text, or json", text)
        self.assertIn(":FORMAT:(text json)'", text)
        self.assertIn("'check:look at what'\\''s in FILE'", text)

    def test_zshCompletes(self) -> None:
        """An interactive zsh offers words, values, and commands after --."""
        home = Path(self.mktemp()).resolve()
        home.mkdir()
        (home / "_nanotun").write_text(completions.zsh(TABLE))
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        shell = subprocess.Popen(
            [need("zsh"), "-f", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"HOME": str(home), "TERM": "dumb", "PATH": "/usr/bin:/bin"},
            start_new_session=True,
        )
        os.close(slave)
        self.addCleanup(shell.wait)
        self.addCleanup(shell.kill)

        def typed(text: str, expected: str) -> None:
            """Type C{text} and wait until C{expected} is shown."""
            os.write(master, text.encode())
            seen = ""
            while expected not in seen:
                ready, _, _ = select.select([master], [], [], 10)
                self.assertTrue(ready, f"{text!r}: no {expected!r} in {seen!r}")
                seen += os.read(master, 65536).decode(errors="replace")

        typed(
            f"fpath=({home} $fpath); autoload -Uz compinit; compinit -u -d {home}/dump; "
            "PROMPT=; echo re''ady\n",
            "ready",
        )
        for line, expected in (
            ("nanotun che\t", "nanotun check "),
            ("nanotun st\t", "stop"),
            ("nanotun start --log-form\t", "--log-format="),
            ("nanotun start --log-format j\t", "json"),
            ("nanotun run -- unam\t", "uname "),
        ):
            typed(line, expected)
            typed("\x15echo do''ne\n", "done")
