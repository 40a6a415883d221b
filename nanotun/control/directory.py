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

#: Everybody may list the directory: that nanotun runs is no secret.
MODE = 0o755

#: A file that says that nanotun made the directory.  Of several that start at once, one may
#: make it and another one, which is the last to leave, get the lock.
MADE = ".made"


def makeRunDir(path: str, uid: int) -> None:
    """
    Make the directory and its parents, unless it exists.

    @param uid: of the user that the daemon runs as.
    @raise ConfigError: it cannot be made, or others may write to it.
    """
    try:
        if not os.path.isdir(path):
            # Another start may be doing the same.
            os.makedirs(path, MODE, exist_ok=True)
            # The mode of makedirs is subject to the umask.
            os.chmod(path, MODE)
            os.close(os.open(os.path.join(path, MADE), os.O_CREAT | os.O_CLOEXEC, 0o644))
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


def removeRunDir(path: str) -> None:
    """Remove the directory if nanotun made it and nothing else is in it."""
    with contextlib.suppress(OSError):
        if os.listdir(path) == [MADE]:
            os.unlink(os.path.join(path, MADE))
            os.rmdir(path)
