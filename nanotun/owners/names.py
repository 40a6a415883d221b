"""
What a process is called: pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from posixpath import basename

from nanotun.config.selectors import processName

#: Programs that run other programs' text, whose name users mean; with a version behind
#: them, or none.
_INTERPRETERS = re.compile(
    r"(?:python|pypy|perl|ruby|node|nodejs|php|lua|luajit|tclsh|wish|sh|bash|dash|ash|zsh|ksh|fish)"
    r"[0-9.]*"
)

#: Options behind which text stands, not a file's name.
_TEXT = ("-c", "-e", "--eval", "-r")


def mayRunScripts(path: str) -> bool:
    """Whether a program's command line matters for what it is called."""
    return _INTERPRETERS.fullmatch(basename(path)) is not None


def namesOf(path: str, name: str, arguments: Sequence[str]) -> frozenset[str]:
    """
    All names that select a process.

    @param path: of its executable, or empty.
    @param name: the kernel's name for it, at most 15 bytes.  A script that is run by its
        C{#!} line has its own here.
    @param arguments: its command line, where L{mayRunScripts}.
    @return: in the form of L{processName}.
    """
    names = {basename(path), name.rpartition("\\")[2] or name}
    if mayRunScripts(path):
        names.add(_script(arguments[1:]))
    return frozenset(processName(each) for each in names if each)


def _script(arguments: Iterable[str]) -> str:
    """The script that an interpreter was told to run, or nothing."""
    for argument in arguments:
        if argument in _TEXT:
            return ""
        if not argument.startswith("-"):
            return basename(argument)
    return ""
