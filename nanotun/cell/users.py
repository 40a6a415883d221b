"""
Who a command is run as: C{--user NAME} or C{--user UID}.
"""

from __future__ import annotations

import os
import pwd

from nanotun.cell.command import CommandUser
from nanotun.errors import ConfigError


def findUser(text: str) -> CommandUser:
    """
    Look up a user, with all groups.

    @param text: a name or a number.
    @raise ConfigError: there is none.
    """
    try:
        try:
            entry = pwd.getpwnam(text)
        except KeyError:
            if not (text.isascii() and text.isdigit()):
                raise
            entry = pwd.getpwuid(int(text))
    except (KeyError, OverflowError):
        raise ConfigError(
            f"--user: this machine has no user {text[:64]!a}; give a name or a number from "
            "/etc/passwd."
        ) from None
    variables = {
        "HOME": entry.pw_dir,
        "LOGNAME": entry.pw_name,
        "SHELL": entry.pw_shell or "/bin/sh",
        "USER": entry.pw_name,
    }
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return CommandUser(entry.pw_uid, entry.pw_gid, groups, variables)
