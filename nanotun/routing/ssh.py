"""
Where SSH is served on this machine, so that whoever is logged in stays so.

Read from proc(5): the ports at which an SSH server listens or has sessions, port 22
if anything listens there (systemd may, for a server that it starts at need), and the
session that nanotun was started in.  A server also holds what its users forward:
connections that it has opened itself, which do not count, and ports of the loopback.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

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
    listening = {port for port, state in sockets.values() if state == _LISTEN}
    ports |= {SSH_PORT} & listening
    held = (sockets[inode] for inode in _heldBy(proc) if inode in sockets)
    ports.update(port for port, _ in held if port == SSH_PORT or port in listening)
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
            host, _, port = fields[1].rpartition(":")
            if fields[3] in (_ESTABLISHED, _LISTEN) and not _isLoopback(host):
                yield fields[9], (int(port, 16), fields[3])


def _isLoopback(host: str) -> bool:
    """Of an address as in these tables: words of four bytes in the machine's own order."""
    words = (int(host[at : at + 8], 16) for at in range(0, len(host), 8))
    address = ip_address(b"".join(struct.pack("=I", word) for word in words))
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


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
