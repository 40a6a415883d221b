"""
What a process is called: pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from posixpath import basename

from nanotun.config.selectors import processName

#: Interpreters, whose scripts' names users mean; a version may follow the name.
_INTERPRETERS = re.compile(
    r"(?:python|pypy|perl|ruby|node|nodejs|php|lua|luajit|tclsh|wish|sh|bash|dash|ash|zsh|ksh|fish)"
    r"[0-9.]*"
)

#: Options that are followed by a program's text, not by a file's name.
_TEXT = ("-c", "-e", "--eval", "-r")


#: Programs whose names are remembered: machines start the same few again and again, and a
#: flow waits for this.
CACHE = 1024


@lru_cache(CACHE)
def mayRunScripts(path: str) -> bool:
    """Whether the name of a program may come from its command line."""
    return _INTERPRETERS.fullmatch(basename(path)) is not None


def namesOf(path: str, name: str, arguments: Sequence[str]) -> frozenset[str]:
    """
    All names by which a process can be selected.

    @param path: of its executable, or empty.
    @param name: the kernel's name for it, at most 15 bytes; for a script that is run by
        its C{#!} line the script's name.
    @param arguments: its command line, if L{mayRunScripts}.
    @return: in the form of L{processName}.
    """
    names = _plainNames(path, name)
    script = _script(arguments[1:]) if mayRunScripts(path) else ""
    return names | {processName(script)} if script else names


@lru_cache(CACHE)
def _plainNames(path: str, name: str) -> frozenset[str]:
    names = {basename(path), name.rpartition("\\")[2] or name}
    return frozenset(processName(each) for each in names if each)


def _script(arguments: Iterable[str]) -> str:
    """The script that an interpreter was told to run; empty if there is none."""
    for argument in arguments:
        if argument in _TEXT:
            return ""
        if not argument.startswith("-"):
            return basename(argument)
    return ""
