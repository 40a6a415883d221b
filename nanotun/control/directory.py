"""
C{runDir}: the directory of files that exist as long as the daemon runs.

Only its owner may write there: anybody else who could might hold the daemon's lock, or
answer in its place.
"""

from __future__ import annotations

import contextlib
import os
import stat

from nanotun.errors import ConfigError
from nanotun.rundir import LOCK

#: Everybody may list the directory: that nanotun runs is no secret.
MODE = 0o755

#: A file that leaves the removal of the directory to the process that holds the lock: of
#: several that start at once, one may make the directory and another one get the lock.
MADE = ".made"


def makeRunDir(path: str, uid: int) -> bool:
    """
    Make the directory and its parents, unless it exists.

    @param uid: of the user that the daemon runs as.
    @return: whether it was made.
    @raise ConfigError: it cannot be made, or others may write to it.
    """
    made = False
    try:
        if not os.path.isdir(path):
            # Another start may be doing the same.
            os.makedirs(path, MODE, exist_ok=True)
            # The mode of makedirs is subject to the umask.
            os.chmod(path, MODE)
            made = True
        status = os.stat(path)
    except OSError as error:
        raise ConfigError(
            f"The directory {path} cannot be made ({error.strerror}); set runDir to one that can."
        ) from None
    if status.st_uid not in (0, uid) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"The directory {path} can be written to by others, who could steer nanotun; set "
            "runDir to one that only root writes to."
        )
    return made


def removeRunDir(path: str, made: bool) -> None:
    """
    Remove the directory if it was made for the daemon and nothing else is in it.

    @param made: whether this process made it.  If another one uses it, that one is to
        remove it.
    """
    marker = os.path.join(path, MADE)
    with contextlib.suppress(OSError):
        left = set(os.listdir(path))
        if made and LOCK in left:
            os.close(os.open(marker, os.O_CREAT | os.O_CLOEXEC, 0o644))
        elif left == {MADE} or (made and not left):
            if left:
                os.unlink(marker)
            os.rmdir(path)
