"""
From a user's name, or number as text, to the user.
"""

from __future__ import annotations

import difflib
import pwd
import re
from collections.abc import Callable
from functools import lru_cache

#: Users whose names are remembered: more than have flows on any machine.
NAMES_LIMIT = 1024

#: As many digits as a user's number can have.
_NUMBER = re.compile("[0-9]{1,10}")


def uidByName(name: str) -> int:
    """
    A user's number.

    @raise KeyError: there is no such user.
    """
    return pwd.getpwnam(name).pw_uid


def uidOf(text: str, byName: Callable[[str], int] = uidByName) -> int:
    """
    A user's number, by name or by the number itself, whether there is such a user or not.

    @raise KeyError: there is no user of that name.
    """
    return int(text) if _NUMBER.fullmatch(text) else byName(text)


def nameOf(uid: int) -> str:
    """The name of a user, or else the number as text."""
    try:
        return _knownName(uid)
    except (KeyError, OverflowError):
        # Not remembered: the user may be added later.
        return str(uid)


@lru_cache(NAMES_LIMIT)
def _knownName(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name


def nearUser(text: str) -> str:
    """The name of the user who was most likely meant; empty if there is none."""
    names = [entry.pw_name for entry in pwd.getpwall()]
    return "".join(difflib.get_close_matches(text, names, 1))


def userEntry(text: str) -> pwd.struct_passwd:
    """
    A user of this machine, by name or else by number.

    @raise KeyError: there is no such user.
    """
    try:
        return pwd.getpwnam(text)
    except KeyError:
        if not _NUMBER.fullmatch(text):
            raise
    try:
        return pwd.getpwuid(int(text))
    except OverflowError:
        raise KeyError(text) from None
