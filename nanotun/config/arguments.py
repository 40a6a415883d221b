"""
Arranges a command line for L{usage.Options}, which then accepts it as people write it.

An option may follow an argument, except those of another program's command line.  A
B{switch}, which is a setting that is true or false, is written C{--x}, C{--no-x},
C{--x true} or C{--x=true}; it takes the next word only if that can be meant as its value.
A B{flag} of one word of the command, such as C{--json}, is written C{--x}, C{--no-x} or
C{--x=true}, and never takes the next word.  Of several, the last one counts.  The beginning
of a name is enough if no other option has it.

What is wrong is found here too, so that every word of the command, and C{twistd nanotun},
says it in the same sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from twisted.python import usage

#: Words after a switch that can only be meant as its value; the setting's check refuses all
#: but the first two.
BOOLEANS = ("true", "false", "yes", "no", "on", "off")

#: Characters of the command line that an error repeats.
SHOWN = 40


class Arranged(NamedTuple):
    """
    A command line in order.

    @ivar options: each as C{--name}, C{--name=value} or C{-xvalue}.
    @ivar words: the arguments.
    @ivar whole: whether it has C{--help all}.
    """

    options: list[str]
    words: list[str]
    whole: bool


class ArrangedOptions(usage.Options):
    """
    Accepts what L{nanotun.config.arguments} describes.

    @ivar switches: the options that are switches; in C{optParameters}, because they have a
        value.
    @ivar mixed: whether options may follow arguments.
    @ivar whole: whether C{--help all} was given.
    """

    switches: Collection[str] = ()
    mixed = True
    whole = False

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        See L{usage.Options.parseOptions}.

        @raise usage.UsageError: the command line is wrong.
        """
        names = {each.rstrip("="): each.endswith("=") for each in self.longOpt}
        flags = {each for each, valued in names.items() if not valued and each in self}
        arranger = _Arranger(names, self.shortOpt, self.switches, flags, self.mixed)
        arranged = arranger.arrange(sys.argv[1:] if options is None else options)
        self.whole = arranged.whole
        words = ["--", *arranged.words] if arranged.words else []
        super().parseOptions([*arranged.options, *words])

    def getUsage(self, width: int | None = None) -> str:
        """See L{usage.Options.getUsage}; no value is shown for a switch."""
        text: str = super().getUsage(width)
        for name in self.switches:
            text = text.replace(f"--{name}= ", f"--{name}  ")
        return text


class _Arranger:
    """
    @param names: the long options, and whether each takes a value.
    @param letters: the short options, as for C{getopt}.
    """

    def __init__(
        self,
        names: Mapping[str, bool],
        letters: str,
        switches: Collection[str],
        flags: Collection[str],
        mixed: bool,
    ) -> None:
        self._names = names
        self._letters = letters
        self._switches = switches
        self._flags = flags
        self._mixed = mixed
        self._known = {
            **{f"no-{each}": (each, True) for each in (*switches, *flags)},
            **{each: (each, False) for each in names},
        }
        self._options: list[str] = []
        self._rest: list[str] = []
        self._whole = False

    def arrange(self, arguments: Sequence[str]) -> Arranged:
        """Arrange a command line, which is taken apart from the left."""
        words: list[str] = []
        rest = self._rest = list(arguments)
        while rest:
            text = rest.pop(0)
            if text == "--":
                break
            if text == "-" or not text.startswith("-"):
                words.append(text)
                if not self._mixed:
                    break
            elif text.startswith("--"):
                self._long(*text[2:].partition("="))
            else:
                self._short(text)
        return Arranged(self._options, words + rest, self._whole)

    def _short(self, text: str) -> None:
        """One or more letters, of which the last may have a value."""
        valued = [at for at, letter in enumerate(text) if at and f"{letter}:" in self._letters]
        end = valued[0] if valued else len(text)
        for letter in text[1:end]:
            if letter not in self._letters.replace(":", ""):
                raise usage.UsageError(f"there is no option -{ascii(letter)[1:-1]}")
        if end == len(text) - 1:
            text += self._next(f"-{text[end]}")
        self._options.append(text)

    def _long(self, given: str, equals: str, value: str) -> None:
        name, off = self._named(given)
        if name in self._switches:
            self._switch(name, off, equals, value)
        elif name in self._flags:
            self._flag(name, off, equals, value)
        elif self._names[name]:
            self._options.append(f"--{name}={value if equals else self._next(f'--{name}')}")
        elif name == "help" and "all" in (value, "" if equals else "".join(self._rest[:1])):
            self._options.append("--help")
            self._whole = True
        elif equals:
            raise usage.UsageError(f"--{name} takes no value")
        else:
            self._options.append(f"--{name}")

    def _switch(self, name: str, off: bool, equals: str, value: str) -> None:
        if off and equals:
            raise usage.UsageError(f"--no-{name} takes no value")
        if off:
            value = "false"
        elif not equals:
            meant = self._rest and self._rest[0].lower() in BOOLEANS
            value = self._rest.pop(0) if meant else "true"
        self._options.append(f"--{name}={value}")

    def _flag(self, name: str, off: bool, equals: str, value: str) -> None:
        if off and equals:
            raise usage.UsageError(f"--no-{name} takes no value")
        if equals and value not in ("true", "false"):
            raise usage.UsageError(
                f"--{name} takes no value but true or false, not {value[:SHOWN]!a}"
            )
        if off or value == "false":
            self._options = [each for each in self._options if each != f"--{name}"]
        else:
            self._options.append(f"--{name}")

    def _next(self, option: str) -> str:
        if not self._rest:
            raise usage.UsageError(f"{option} needs a value")
        return self._rest.pop(0)

    def _named(self, given: str) -> tuple[str, bool]:
        """The option that is meant, and whether as its C{--no-} form."""
        known = self._known
        if given in known:
            return known[given]
        # A name of its own comes before one with no- in front.
        found = [each for each in self._names if each.startswith(given)]
        found = found or [each for each in known if each.startswith(given)]
        if len(found) == 1:
            return known[found[0]]
        if given and found:
            several = " or ".join(f"--{each}" for each in sorted(found)[:4])
            raise usage.UsageError(f"--{given[:SHOWN]} could be {several}")
        # Nobody is told to turn off what is to be turned on.
        isOff = given.startswith("no-")
        near = get_close_matches(given, [each for each in known if isOff or not known[each][1]], 1)
        hint = f"; did you mean --{near[0]}?" if near else ""
        raise usage.UsageError(f"there is no option --{ascii(given[:SHOWN])[1:-1]}{hint}")


def wrongUsage(error: Exception, word: str) -> str:
    """
    The sentence about a wrong command line.

    @param word: of the command, whose help has more.
    """
    text = str(error).rstrip(".")
    join = " See" if text.endswith("?") else "; see"
    return f"{text}{join} 'nanotun {word} --help'."
