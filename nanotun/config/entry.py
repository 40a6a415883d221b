"""
What one setting is.

L{nanotun.config.keys} has one entry for each, made by L{setting}.  The fields of
C{Settings}, the options of the command line, the environment variables, the sample file,
the table in the README, the manual page, the completions, what a reload takes over and
what C{nanotun run} accepts are all derived from these entries.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import field, fields
from typing import Any, NamedTuple, TypeVar

from nanotun.config import values

_T = TypeVar("_T")

#: Where a field's metadata holds its L{Key}.
_KEY = "key"


class InRun(NamedTuple):
    """
    What C{nanotun run} does with a setting; by default the same as the daemon.

    @ivar refused: whether its flag is an error there.  Its value is then always
        C{fixed}, or the default.
    @ivar fixed: the value that counts unless a flag or variable sets one, whatever the
        file says; written as in the file.  L{None}: as for the daemon.
    @ivar guarded: whether only a flag may change C{fixed}: the setting opens a way past the
        proxy, which neither a file nor a variable may do unseen.
    @ivar metavar: what the help of C{nanotun run} calls the value.
    @ivar help: how that help explains the setting; where this is empty, the setting is
        only named.
    """

    refused: bool = False
    fixed: str | None = None
    guarded: bool = False
    metavar: str = ""
    help: str = ""


#: For a setting of this machine's routes or processes, or of the daemon's files.
REFUSED = InRun(refused=True)


class Key(NamedTuple):
    """
    One setting.

    @ivar name: its name in the file, and in C{Settings}.
    @ivar flag: its option on the command line, without dashes.
    @ivar check: takes the value as written and returns what C{Settings} holds; raises
        L{nanotun.errors.ConfigError} with the end of a sentence, C{"must be ..."}.
    @ivar default: as it would be written in the file; L{None} if it must be given.
    @ivar metavar: what the help calls the value.
    @ivar markdown: one line of help, without a capital or full stop, in which what the
        user may type is C{`code`}.
    @ivar doc: the comment in the sample file; empty where the help says it all.  Lines
        that begin with a space are kept as they are.
    @ivar example: the value in the sample file, for a setting without a default.
    @ivar live: whether a reload takes it over; if not, it needs a restart.
    @ivar routed: whether routes or firewall depend on it, so that it needs a restart
        under C{autoDefaultRoute} even if it is live.
    @ivar rights: whether a new value may need rights that the daemon dropped when it
        started.
    @ivar repeats: whether it has several values: its flag may then be given several times.
    @ivar structured: whether its values are mappings, so that the text of its flag and its
        variable is YAML.  What C{check} returns is then a tuple of named tuples with a field
        C{where}, which says where each was written.
    @ivar secret: whether its value may hold a password.  It can then be in a file that a variable
        names (L{nanotun.config.secretfiles}).
    @ivar off: the help of a switch's C{--no-} option.
    @ivar run: what C{nanotun run} does with it.
    """

    name: str
    flag: str
    check: Callable[[object], Any]
    default: str | int | None
    metavar: str
    markdown: str
    doc: str
    example: str
    live: bool
    routed: bool
    rights: bool
    repeats: bool
    structured: bool
    secret: bool
    off: str
    run: InRun

    @property
    def switch(self) -> bool:
        """Whether it is true or false, so its flag needs no value."""
        return self.check is values.boolean

    @property
    def help(self) -> str:
        """One line of help as plain text."""
        return self.markdown.replace("`", "")

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"NANOTUN_{self.name.upper()}"

    @property
    def fixedInRun(self) -> str | int | None:
        """
        The value that C{nanotun run} gives it, whatever the file says; L{None} for the file's.
        """
        return self.default if self.run.refused and self.run.fixed is None else self.run.fixed


def setting(
    check: Callable[[object], _T],
    default: str | int | None,
    metavar: str,
    help: str,
    *,
    flag: str = "",
    doc: str = "",
    example: str = "",
    live: bool = False,
    routed: bool = False,
    rights: bool = False,
    repeats: bool = False,
    structured: bool = False,
    secret: bool = False,
    off: str = "",
    run: InRun = InRun(),  # noqa: B008 (immutable)
) -> _T:
    """
    Declare a setting, as a field of a dataclass; the field's name is the setting's.

    See L{Key} for the arguments; C{help} is its C{markdown}.

    @param flag: by default the name in lower case, with dashes between the words.
    @return: the field.  To a type checker it is a value of the type that C{check} returns.
    """
    key = Key(
        name="",
        flag=flag,
        check=check,
        default=default,
        metavar=metavar,
        markdown=help,
        doc=doc,
        example=example,
        live=live,
        routed=routed,
        rights=rights,
        repeats=repeats,
        structured=structured,
        secret=secret,
        off=off,
        run=run,
    )
    made: _T = field(metadata={_KEY: key})
    return made


def keysOf(table: type) -> tuple[Key, ...]:
    """
    The settings that a dataclass declares.

    @param table: a dataclass whose fields are all made by L{setting}.
    """
    keys = []
    for each in fields(table):
        key: Key = each.metadata[_KEY]
        flag = key.flag or re.sub("(?=[A-Z])", "-", each.name).lower()
        off = key.off or (f"the same as --{flag}=false" if key.switch else "")
        keys.append(key._replace(name=each.name, flag=flag, off=off))
    return tuple(keys)
