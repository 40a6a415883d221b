"""
C{runDir}: the directory of files that exist as long as the daemon runs.

Only its owner may write there: anybody else who could might hold the daemon's lock, or
answer in its place.
"""

from __future__ import annotations

import os
import stat

from nanotun.errors import ConfigError

#: Everybody may list the directory: that nanotun runs is no secret.
MODE = 0o755


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
            os.makedirs(path, MODE)
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
