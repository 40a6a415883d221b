"""
Tokens: a secret in a file of C{runDir}, which whoever wants to ask the daemon over HTTP has to
send.  Root's programs read the file themselves; others get a copy of it from root.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat

from nanotun.errors import ConfigError
from nanotun.linux.trust import openTrusted

#: Random bytes of a token that is made here: more than anybody can try.
SIZE = 32

#: Characters of one that the user has written: fewer can be guessed, and so many are no token
#: but the wrong file.
SHORTEST = 16
LONGEST = 512


def tokenOf(directory: str, name: str) -> str:
    """
    Read a token; if there is none, make one that only this user can read.  It stays, so that
    copies of it are good after a restart.

    @param directory: belongs to root, or to this process's user.
    @raise NanotunError: others can write or read it, or it is no token; with one sentence.
    @raise OSError: it cannot be read or made.
    """
    try:
        fd = openTrusted(directory, name, os.O_RDONLY)
    except FileNotFoundError:
        return _make(directory, name)
    path = os.path.join(directory, name)
    with open(fd, "rb") as file:
        if os.fstat(fd).st_mode & stat.S_IROTH:
            raise ConfigError(f"{path} can be read by everybody; have its mode be 0600 or 0640.")
        token = file.read(LONGEST + 2).decode("latin-1").strip()
    if not (SHORTEST <= len(token) <= LONGEST and token.isascii() and _isWord(token)):
        raise ConfigError(
            f"{path} is no token: a word of {SHORTEST} to {LONGEST} letters, digits and signs; "
            "remove it, and a restart makes one."
        )
    return token


def _isWord(token: str) -> bool:
    return token.isprintable() and " " not in token


def _make(directory: str, name: str) -> str:
    """Made under another name first, so that a crash leaves no half of it."""
    token = secrets.token_urlsafe(SIZE)
    path = os.path.join(directory, name)
    fresh = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="ascii") as file:
        file.write(f"{token}\n")
    os.rename(fresh, path)
    return token
