"""
Looks up the user that a command runs as: C{--user NAME} or C{--user UID}.
"""

from __future__ import annotations

import os

from nanotun.cell.command import CommandUser
from nanotun.errors import ConfigError
from nanotun.linux.users import nearUser, userEntry


def findUser(text: str) -> CommandUser:
    """
    Look up a user with all groups.

    @param text: a name or a number.
    @raise ConfigError: there is no such user.
    """
    try:
        entry = userEntry(text)
    except KeyError:
        near = nearUser(text)
        advice = f"did you mean {near}?" if near else "give a name or a number from /etc/passwd."
        raise ConfigError(f"--user: this machine has no user {text[:64]!a}; {advice}") from None
    variables = {
        "HOME": entry.pw_dir,
        "LOGNAME": entry.pw_name,
        "SHELL": entry.pw_shell or "/bin/sh",
        "USER": entry.pw_name,
    }
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return CommandUser(entry.pw_uid, entry.pw_gid, groups, variables)
