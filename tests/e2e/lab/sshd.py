"""
C{ssh -D}: OpenSSH as a SOCKS server.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import run
from tests.e2e.lab.servers import Server
from tests.e2e.lab.topology import Family

_SSHD = """\
Port {port}
HostKey {directory}/host
AuthorizedKeysFile {directory}/user.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
AllowTcpForwarding yes
"""


class Sshd(Server):
    """
    The server.  It runs in a mount namespace of its own, where its directory exists and root
    may log in; the machine's own files do not change.

    @param addresses: where it listens.
    """

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        port: int = 2222,
        addresses: Sequence[str] = ("127.0.0.1",),
    ) -> None:
        self.own = directory / f"sshd-{port}"
        self.own.mkdir()
        for name in ("host", "user"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.own / name)])
        config = self.own / "sshd_config"
        listen = "".join(f"ListenAddress {address}\n" for address in addresses)
        config.write_text(listen + _SSHD.format(port=port, directory=self.own))
        shadow = self.own / "shadow"
        shadow.touch(mode=0o600)
        script = (
            # sshd treats an account with '!' as its password as locked.
            f"sed 's/^root:[^:]*:/root:*:/' /etc/shadow >{shlex.quote(str(shadow))} && "
            f"mount --bind {shlex.quote(str(shadow))} /etc/shadow && "
            "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && "
            f"exec /usr/sbin/sshd -D -e -f {shlex.quote(str(config))}"
        )
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        super().__init__(namespace, argv, port, directory / f"sshd-{port}.log")


class SshD(Server):
    """
    The client, C{ssh -D}: SOCKS4 and 5.  If a destination cannot be reached, it closes the
    connection without an answer.

    @param host: an address of the server.
    @param more: further options of the command line.
    """

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        server: Sshd,
        port: int = 1082,
        host: str = "127.0.0.1",
        more: Sequence[str] = (),
    ) -> None:
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"]
        options += ["ExitOnForwardFailure=yes", "LogLevel=ERROR"]
        argv = ["ssh", "-F", "none", "-N", "-D", f"*:{port}", "-i", str(server.own / "user")]
        for option in options:
            argv += ["-o", option]
        argv += [*more, "-p", str(server.port), f"root@{host}"]
        super().__init__(namespace, argv, port, directory / f"ssh-{port}.log")

    def url(self, family: Family) -> str:
        """Its URL on the loopback, over either IP version."""
        return f"socks5://127.0.0.1:{self.port}"
