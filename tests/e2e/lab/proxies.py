"""
The real SOCKS servers: dante and microsocks, from Debian; and one of the laboratory's own
where the release has no dante.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, LabError, waitUntil
from tests.e2e.lab.servers import Server
from tests.e2e.lab.topology import IPV4, IPV6, Family

USER = "nanotunlab"
PASSWORD = "p@ss/w:rd %41"
"""A password with every character that a URL has to escape."""

# `openssl passwd -6 -salt nanotunlab` of PASSWORD; Python 3.13 has no crypt(3) any more.
_SHADOW = (
    "$6$nanotunlab$I9uONVN.RkQ1mdnW5TXbx2vf4j4GOrOBs3EH"
    "EQsJjtc8js7tfID5jvv9s/ePxDrHG34M4GJQIsK3D3zhZsLtT."
)

_DANTE = """\
logoutput: {log}
{internal}
{external}
clientmethod: none
socksmethod: {method}
user.privileged: root
user.unprivileged: nobody
timeout.connect: 30
client pass {{ from: 0/0 to: 0/0 }}
socks pass {{ from: 0/0 to: 0/0{lines} }}
"""


class Proxy(Server):
    """
    A SOCKS5 server.

    @ivar user: the user name that it requires, or C{""}.
    """

    user = ""

    def url(self, family: Family = IPV4, password: str = PASSWORD) -> str:
        """Its URL, with the credentials that it requires."""
        host = f"[{family.proxy}]" if ":" in family.proxy else family.proxy
        credentials = f"{self.user}:{quote(password, safe='')}@" if self.user else ""
        return f"socks5://{credentials}{host}:{self.port}"


class Dante(Proxy):
    """
    Dante, or where that is not installed, as Debian 13 has none, L{tests.e2e.lab.socks}, which
    takes the same options and writes the same journal.  Dante checks passwords of the system's
    users, and both ask the system for the addresses of names, so with C{auth} or C{hosts} it
    runs in a mount namespace of its own, where the files have one more user, or those names; the
    machine's own files do not change.

    @ivar shown: what it is, for people.
    """

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        auth: bool = False,
        port: int = 1080,
        log: bool = True,
        internal: tuple[str, ...] = (IPV4.proxy, IPV6.proxy),
        external: tuple[str, ...] = (IPV4.proxyOutside, IPV6.proxyOutside),
        hosts: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """
        @param hosts: the names that it knows, and no others, with their addresses.
        @param log: whether L{connects} is needed; it costs time.
        @param internal: addresses to listen on; names of interfaces would include link-local
            addresses, which dante cannot bind.
        """
        self.user = USER if auth else ""
        self.journal = directory / f"dante-{port}.journal"
        config = directory / f"dante-{port}.conf"
        files: dict[str, str] = {}
        if self.installed():
            self.shown = "dante"
            config.write_text(
                _DANTE.format(
                    log=self.journal,
                    internal="\n".join(f"internal: {each} port = {port}" for each in internal),
                    external="\n".join(f"external: {each}" for each in external),
                    method="username" if auth else "none",
                    lines=" log: connect" if log else "",
                )
            )
            argv = ["danted", "-N", "2", "-f", str(config)]
            if auth:
                files |= _withUser()
        else:
            self.shown = "a SOCKS server of the tests"
            settings: dict[str, object] = {"listen": internal, "port": port, "external": external}
            settings["journal"] = str(self.journal) if log else ""
            settings |= {"user": self.user, "password": PASSWORD}
            config.write_text(json.dumps(settings))
            argv = [sys.executable, "-m", "tests.e2e.lab.socks", str(config)]
        if hosts is not None:
            files |= withHosts(hosts)
        if files:
            argv = withFiles(directory, argv, files)
        self._namespace = namespace
        super().__init__(namespace, argv, port, directory / f"dante-{port}.log")

    @staticmethod
    def installed() -> bool:
        """Whether it is dante itself."""
        return shutil.which("danted") is not None

    def output(self) -> str:
        """See L{Server.output}; dante writes to its journal what is wrong."""
        told = self.journal.read_text(errors="replace") if self.journal.exists() else ""
        return super().output() + told

    def stop(self) -> None:
        """See L{Server.stop}."""
        super().stop()
        # Its children accept connections for a moment yet, and answer none.
        with contextlib.suppress(LabError):
            waitUntil(lambda: not self._namespace.listening(self.port), PATIENCE, "nobody listens")

    def connects(self) -> list[str]:
        """The log's lines about connections that it opened."""
        lines = self.journal.read_text(errors="replace").splitlines()
        return [line for line in lines if "tcp/connect [:" in line or "tcp/connect [" in line]


def _withUser() -> dict[str, str]:
    """The files of a system that has L{USER}."""
    user = f"{USER}:x:64999:64999::/nonexistent:/usr/sbin/nologin\n"
    return {
        "/etc/passwd": Path("/etc/passwd").read_text() + user,
        "/etc/shadow": f"{USER}:{_SHADOW}:19000:0:99999:7:::\n",
    }


def withHosts(hosts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The files of a system that knows these names and asks no server."""
    lines = (f"{each} {name}\n" for name, addresses in hosts.items() for each in addresses)
    return {"/etc/hosts": "".join(lines), "/etc/nsswitch.conf": "hosts: files\n"}


def withFiles(directory: Path, argv: list[str], files: Mapping[str, str]) -> list[str]:
    """The command that runs C{argv} on a system with these files."""
    script = []
    for place, text in files.items():
        path = directory / place.rpartition("/")[2]
        path.touch(mode=0o600 if place == "/etc/shadow" else 0o644)
        path.write_text(text)
        script.append(f"mount --bind {shlex.quote(str(path))} {place}")
    script.append(f"exec {shlex.join(argv)}")
    unshare = ["unshare", "--mount", "--propagation", "private"]
    return [*unshare, "sh", "-c", " && ".join(script)]


class Microsocks(Proxy):
    """Microsocks: small and slow (1 KB at a time), and a second implementation besides dante."""

    def __init__(
        self, namespace: Namespace, directory: Path, auth: bool = False, port: int = 1081
    ) -> None:
        self.user = USER if auth else ""
        argv = ["microsocks", "-i", "::", "-p", str(port)]
        if auth:
            argv += ["-u", USER, "-P", PASSWORD]
        super().__init__(namespace, argv, port, directory / f"microsocks-{port}.log")
