"""
Where SSH is served on this machine, so that whoever is logged in stays so.

Read from proc(5): the ports of all sockets that an SSH server holds, port 22 if
anything listens there (systemd may, for a server that it starts at need), and the
session that nanotun was started in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

#: The names of servers, as in /proc/PID/comm: OpenSSH's, which calls its parts
#: sshd-session and sshd-auth since 9.8, Dropbear and tinysshd.
SERVERS = re.compile(r"(sshd(-\w+)?|dropbear|tinysshd)")

SSH_PORT = 22

#: States of /proc/net/tcp in which a socket matters: ESTABLISHED and LISTEN.
_ESTABLISHED, _LISTEN = "01", "0A"


def sessionPort(environment: Mapping[str, str]) -> int | None:
    """The server's port of the session that we run in (ssh(1), SSH_CONNECTION)."""
    fields = environment.get("SSH_CONNECTION", "").split()
    if len(fields) == 4 and fields[3].isdecimal() and 0 < int(fields[3]) < 65536:
        return int(fields[3])
    return None


def sshPorts(environment: Mapping[str, str], proc: str = "/proc") -> tuple[int, ...]:
    """
    The TCP ports, in ascending order.

    @param environment: of this process.
    @param proc: where proc(5) is.
    """
    ports: set[int] = set()
    session = sessionPort(environment)
    if session is not None:
        ports.add(session)
    sockets = dict(_sockets(proc))
    ports.update(port for port, state in sockets.values() if (port, state) == (SSH_PORT, _LISTEN))
    for inode in _heldBy(proc):
        if inode in sockets:
            ports.add(sockets[inode][0])
    return tuple(sorted(ports))


def _sockets(proc: str) -> Iterator[tuple[str, tuple[int, str]]]:
    """Inode to local port and state, of each TCP socket that matters."""
    for table in ("tcp", "tcp6"):
        try:
            with open(f"{proc}/net/{table}") as file:
                lines = file.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] in (_ESTABLISHED, _LISTEN):
                yield fields[9], (int(fields[1].rpartition(":")[2], 16), fields[3])


def _heldBy(proc: str) -> Iterator[str]:
    """The inodes of the sockets that SSH servers hold."""
    for pid in os.listdir(proc):
        if not pid.isdecimal():
            continue
        try:
            with open(f"{proc}/{pid}/comm") as file:
                if not SERVERS.fullmatch(file.read().strip()):
                    continue
            for fd in os.listdir(f"{proc}/{pid}/fd"):
                target = os.readlink(f"{proc}/{pid}/fd/{fd}")
                if target.startswith("socket:["):
                    yield target[8:-1]
        except OSError:
            # It has ended meanwhile.
            continue
