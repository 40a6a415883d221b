"""
Reads the words and options of the C{nanotun} command from the code itself, for the
texts that are generated from them: the completions and the manual page.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from twisted.python import usage

from nanotun.config.keys import KEYS
from nanotun.config.options import Options
from nanotun.config.values import Choice
from nanotun.console import COMMANDS

#: Kinds of values for which a shell completes names of files.
FILE, DIRECTORY = "FILE", "DIR"

#: Options of words without settings that are settings all the same.
SHARED = ("run-dir",)


class Option(NamedTuple):
    """
    One option of a word.

    @ivar name: the long one, without dashes.
    @ivar letter: the short one, or the empty string.
    @ivar takesValue: whether a value follows.
    @ivar help: one line.
    @ivar values: the words that are valid as its value; empty if any text may be.
    @ivar kind: L{FILE}, L{DIRECTORY}, or the name of its value in the help.
    """

    name: str
    letter: str
    takesValue: bool
    help: str
    values: tuple[str, ...] = ()
    kind: str = ""


class Word(NamedTuple):
    """
    One word of the command.

    @ivar synopsis: without C{Usage:}.
    @ivar description: the text at the head of its help; may be empty.
    """

    name: str
    summary: str
    synopsis: str = ""
    description: str = ""
    options: tuple[Option, ...] = ()

    @property
    def takesFile(self) -> bool:
        """Whether a file's name may follow."""
        return "FILE" in self.synopsis

    @property
    def takesCommand(self) -> bool:
        """Whether a command may follow."""
        return "COMMAND" in self.synopsis


def optionsClass(word: str, *modules: ModuleType) -> type[usage.Options] | None:
    """
    Find the command line of a word: the options class whose synopsis begins with it.

    @param modules: where to look.
    @return: L{None} if there is none.
    """
    for module in modules:
        for each in vars(module).values():
            if inspect.isclass(each) and issubclass(each, usage.Options):
                synopsis = str(getattr(each, "synopsis", ""))
                if f"{synopsis} ".startswith(f"Usage: nanotun {word} "):
                    return each
    return None


def optionsOf(cls: type[usage.Options]) -> tuple[Option, ...]:
    """All options of a command line, sorted by name."""
    made = cls()
    letters = {made.synonyms[short]: short for short in made.shortOpt.replace(":", "")}
    # Other words have a setting's name for something else, such as a filter.
    settings = "proxy=" in made.longOpt
    keys = {key.flag: key for key in KEYS.values() if settings or key.flag in SHARED}
    options = []
    refused = getattr(cls, "refused", ())
    for long in sorted(made.longOpt, key=str.lower):
        name, takesValue = long.rstrip("="), long.endswith("=")
        if name in refused:
            continue
        help = " ".join(str(made.docs.get(made.synonyms[name]) or "").split())
        values: tuple[str, ...] = getattr(cls, "choices", {}).get(name, ())
        kind = FILE if name in ("config", "write") else "VALUE"
        if takesValue and name in keys:
            check, kind = keys[name].check, keys[name].metavar
            if isinstance(check, Choice):
                values = check.choices
            elif keys[name].switch:
                options.append(Option(name, "", False, help))
                options.append(Option(f"no-{name}", "", False, keys[name].off))
                continue
        options.append(Option(name, letters.get(name, ""), takesValue, help, values, kind))
    return tuple(sorted(options, key=lambda option: option.name.lower()))


def words() -> tuple[Word, ...]:
    """Every word of the command, in the order of its help."""
    made = []
    for name, command in COMMANDS.items():
        module = f"nanotun.console.{command.module}"
        # A word that is a package has a module for its options.
        found = [module]
        if hasattr(import_module(module), "__path__"):
            found.append(f"{module}.options")
        cls = optionsClass(name, *map(import_module, found))
        if cls is None:
            made.append(Word(name, command.summary))
            continue
        synopsis = str(getattr(cls, "synopsis", "")).removeprefix("Usage: ")
        description = " ".join(str(getattr(cls, "longdesc", "") or "").split())
        made.append(Word(name, command.summary, synopsis, description, optionsOf(cls)))
    return tuple(made)


def daemonOptions() -> tuple[Option, ...]:
    """The options of C{twistd nanotun}."""
    return optionsOf(Options)
