"""
A setting is one entry: a copy of the source in which one is added to
L{nanotun.config.keys} has it everywhere, by its own tools.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests import ROOT

#: The entry, and the field that it goes before.
ENTRY = """\
    pace: str = setting(
        values.Choice("brisk", "calm"),
        "calm",
        "PACE",
        "how fast to go, `brisk` or `calm`",
        doc="How fast to go; brisk is for the young.",
        live=True,
    )
"""
BEFORE = "    mtu: int = setting(\n"

#: What the copy says of it; printed as JSON.
PROGRAM = """
import json, os, sys
from nanotun.config.change import changeTo
from nanotun.config.keys import KEYS
from nanotun.config.options import Options
from nanotun.console.run.options import RunOptions

def read(*arguments, **environment):
    options = Options()
    options.postOptions = lambda: None
    options.parseOptions(["--proxy", "direct://", *arguments])
    options.readSettings(os.geteuid(), environment)
    return options.settings

with open("brisk.yaml", "w") as file:
    file.write("pace: brisk")
calm, brisk = read(), read("--pace", "brisk")
try:
    read(NANOTUN_PACE="slow")
except Exception as error:
    wrong = str(error)
run = RunOptions()
run.parseOptions(["--proxy", "direct://", "--pace", "brisk", "true"])
change = changeTo(brisk, calm)
print(json.dumps({
    "default": calm.pace,
    "flag": brisk.pace,
    "variable": read(NANOTUN_PACE="brisk").pace,
    "file": read("--config", "brisk.yaml").pace,
    "order": read("--config", "brisk.yaml", NANOTUN_PACE="calm").pace,
    "wrong": wrong,
    "help": str(Options()),
    "live": change.live,
    "taken": change.settings.pace,
    "run": run.settings.pace,
    "runHelp": str(RunOptions()),
}))
"""


class OneEntryTests(SynchronousTestCase):
    """The copy."""

    def setUp(self) -> None:
        """Make it, with the entry."""
        if not (ROOT / "etc").exists():
            raise SkipTest("not run from a checkout")
        self.copy = Path(self.mktemp()).resolve()
        hidden = shutil.ignore_patterns("*.so", "__pycache__")
        for folder in ("nanotun", "tools", "etc", "docs"):
            shutil.copytree(ROOT / folder, self.copy / folder, ignore=hidden)
        shutil.copy(ROOT / "README.md", self.copy)
        keys = self.copy / "nanotun" / "config" / "keys.py"
        text = keys.read_text()
        self.assertEqual(text.count(BEFORE), 1)
        keys.write_text(text.replace(BEFORE, f"{ENTRY}{BEFORE}"))

    def python(self, *arguments: str) -> str:
        """Run Python in the copy; returns what it has printed."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.copy,
            env={"PYTHONPATH": str(self.copy), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_program(self) -> None:
        """It is an option, a variable and a key of the file, and is taken over by a reload."""
        found: dict[str, Any] = json.loads(self.python("-c", PROGRAM))
        self.assertEqual(found["default"], "calm")
        for source in ("flag", "variable", "file", "taken", "run"):
            self.assertEqual(found[source], "brisk", source)
        self.assertEqual(found["order"], "calm")
        self.assertIn("NANOTUN_PACE must be brisk or calm, not 'slow'", found["wrong"])
        self.assertEqual(found["live"], ["pace"])
        self.assertIn("--pace=", found["help"])
        self.assertIn("how fast to go, brisk or calm [default: calm]", found["help"])
        self.assertIn(" --pace ", found["runHelp"])

    def test_documents(self) -> None:
        """Every document that 'make texts' writes has it."""
        for tool in ("documents", "manpage", "completions"):
            self.python(f"tools/{tool}.py")
        for path, text in (
            ("etc/nanotun.yaml", "# How fast to go; brisk is for the young.\n# pace: calm\n"),
            ("README.md", "| `pace` | `--pace` | `calm` | how fast to go, `brisk` or `calm` |\n"),
            ("docs/command.md", "| `pace` | `tunName`, "),
            ("docs/nanotun.8", "\\fBpace\\fR: \\fIPACE\\fR\nhow fast to go, brisk or calm."),
            ("docs/nanotun.8", "\\fB\\-\\-pace \\fIPACE\\fR\n"),
            ("etc/completions/nanotun.bash", '--pace) COMPREPLY=($(compgen -W "brisk calm"'),
            ("etc/completions/nanotun.zsh", "'--pace=[how fast to go, brisk or calm"),
            ("etc/completions/nanotun.fish", "-l pace -x -a 'brisk calm' -d 'how fast to go"),
        ):
            self.assertIn(text, (self.copy / path).read_text(), path)
