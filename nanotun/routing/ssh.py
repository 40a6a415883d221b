"""
Finds the ports where SSH is served on this machine, so that logged-in users are not cut
off.

These are, from proc(5): the ports at which an SSH server listens or has sessions; port 22
if anything listens there (systemd may, to start a server on demand); and the port of the
session in which nanotun was started.  A server also has sockets for what its users
forward: connections that it has opened itself, which do not count, and ports of the
loopback interface.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

#: The names of SSH servers in /proc/PID/comm: OpenSSH (since 9.8 with the parts sshd-session
#: and sshd-auth), Dropbear and tinysshd.
SERVERS = re.compile(r"(sshd(-\w+)?|dropbear|tinysshd)")

SSH_PORT = 22

#: The relevant states of /proc/net/tcp: ESTABLISHED and LISTEN.
_ESTABLISHED, _LISTEN = "01", "0A"


def sessionPort(environment: Mapping[str, str]) -> int | None:
    """The server's port of the SSH session that we run in (ssh(1), SSH_CONNECTION)."""
    fields = environment.get("SSH_CONNECTION", "").split()
    if len(fields) == 4 and fields[3].isdecimal() and 0 < int(fields[3]) < 65536:
        return int(fields[3])
    return None


def sshPorts(environment: Mapping[str, str], proc: str = "/proc") -> tuple[int, ...]:
    """
    The TCP ports, in ascending order.

    @param environment: of this process.
    @param proc: where proc(5) is mounted.
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
    """Inode, and local port with state, of each relevant TCP socket."""
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
    """For an address as in these tables: words of four bytes in the host's byte order."""
    words = (int(host[at : at + 8], 16) for at in range(0, len(host), 8))
    address = ip_address(b"".join(struct.pack("=I", word) for word in words))
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _heldBy(proc: str) -> Iterator[str]:
    """The inodes of SSH servers' sockets."""
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
            # The process has ended in the meantime.
            continue
