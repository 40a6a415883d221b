"""
The real HTTP proxies: tinyproxy and squid, from Debian.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import pwd
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import run
from tests.e2e.lab.proxies import PASSWORD, USER, withFiles, withHosts
from tests.e2e.lab.servers import Server
from tests.e2e.lab.topology import IPV4, IPV6

TINYPROXY_PASSWORD = "geheim-4711.x"
"""Only letters, digits, hyphens and dots, because tinyproxy's configuration takes no others."""

FORBIDDEN = {IPV4: "10.77.9.9", IPV6: "fd77:9::9"}
"""Addresses that the proxies of this module refuse, and that nothing has."""

REALM = "lab"

_TINYPROXY = """\
User nobody
Port {port}
MaxClients 300
Timeout 60
DisableViaHeader Yes
LogLevel Warning
Filter "{filter}"
FilterExtended On
{auth}
{ports}
"""

_SQUID = """\
http_port {port}
cache deny all
cache_mem 4 MB
memory_pools off
netdb_filename none
pinger_enable off
pid_filename none
coredump_dir none
access_log none
cache_log /dev/stderr
cache_effective_user {user}
visible_hostname lab
dns_nameservers 127.0.0.1
hosts_file hosts
max_filedescriptors 4096
shutdown_lifetime 0 seconds
connect_timeout 30 seconds
forward_max_tries 1
{auth}
{ports}
acl forbidden dst {forbidden}
http_access deny forbidden
http_access {access}
"""

#: The rules about ports of squid as it is delivered.
_SQUID_PORTS = """\
acl SSL_ports port 443
acl Safe_ports port 80 443 1025-65535
http_access deny !Safe_ports
http_access deny CONNECT !SSL_ports"""

_SQUID_AUTH = {
    "": ("", "allow all"),
    "basic": (
        "auth_param basic program /usr/lib/squid/basic_ncsa_auth users\n"
        "auth_param basic children 1 startup=1\n"
        f"auth_param basic realm {REALM}\n"
        "acl known proxy_auth REQUIRED",
        "allow known",
    ),
    "digest": (
        "auth_param digest program /usr/lib/squid/digest_file_auth -c users\n"
        "auth_param digest children 1 startup=1\n"
        f"auth_param digest realm {REALM}\n"
        "auth_param digest nonce_max_count {nonceUses}\n"
        "acl known proxy_auth REQUIRED",
        "allow known",
    ),
}

_SQUID_USER = "nobody"

_SHARED_MEMORY = Path("/dev/shm")
_SERVICE = re.compile(r"nt(\d+)s\d+-.*\.shm")
"""The files of a squid of a test, by the name that we gave it."""

_serial = itertools.count(1)


def squidFiles(service: str = "") -> Iterator[Path]:
    """
    The shared memory of a squid with this name, or of those that tests made that are gone: a
    squid that is killed leaves it behind, and one that finds it cannot start as another user.
    """
    for path in _SHARED_MEMORY.glob(f"{service or 'nt*'}-*.shm"):
        found = _SERVICE.fullmatch(path.name)
        if found and (service or not os.path.exists(f"/proc/{found.group(1)}")):
            yield path


class Tinyproxy(Server):
    """
    Tinyproxy.  It answers 500 whenever it cannot connect, for whatever reason.  With C{auth}
    it requires L{USER} and L{TINYPROXY_PASSWORD}, with C{portRule} it forbids CONNECT to all
    ports but 443.
    """

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        auth: bool = False,
        port: int = 8888,
        portRule: bool = False,
        hosts: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """
        @param hosts: the names that it knows, and no others, with their addresses.
        """
        config = directory / f"tinyproxy-{port}.conf"
        forbidden = directory / f"tinyproxy-{port}.filter"
        forbidden.write_text("".join(f"^{re.escape(host)}$\n" for host in FORBIDDEN.values()))
        config.write_text(
            _TINYPROXY.format(
                port=port,
                filter=forbidden,
                auth=f"BasicAuth {USER} {TINYPROXY_PASSWORD}" if auth else "",
                ports="ConnectPort 443" if portRule else "",
            )
        )
        argv = ["tinyproxy", "-d", "-c", str(config)]
        if hosts is not None:
            argv = withFiles(directory, argv, withHosts(hosts))
        super().__init__(namespace, argv, port, directory / f"tinyproxy-{port}.log")


class Squid(Server):
    """
    Squid without a cache.  It says why it could not connect (C{X-Squid-Error}), and treats
    the end of one direction as the end of both.  With C{auth} it requires L{USER} and
    L{PASSWORD}.
    """

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        auth: str = "",
        port: int = 3128,
        nonceUses: int = 50,
        portRule: bool = False,
        hosts: str = "",
    ) -> None:
        """
        @param auth: C{"basic"}, C{"digest"} or nothing.
        @param portRule: whether it forbids CONNECT to port 80, as it does by default.
        @param hosts: the names that it knows, as in hosts(5).
        @param nonceUses: number of requests for which one Digest nonce is valid.
        """
        own = directory / f"squid-{port}"
        own.mkdir()
        settings, access = _SQUID_AUTH[auth]
        (own / "squid.conf").write_text(
            _SQUID.format(
                port=port,
                user=_SQUID_USER,
                auth=settings.format(nonceUses=nonceUses),
                forbidden=" ".join(FORBIDDEN.values()),
                access=access,
                ports=_SQUID_PORTS if portRule else "",
            )
            + "http_access deny all\n"
        )
        (own / "hosts").write_text(hosts)
        users = own / "users"
        users.write_text(_users(auth))
        account = pwd.getpwnam(_SQUID_USER)
        for path in (own, users):
            os.chown(path, account.pw_uid, account.pw_gid)
        for path in squidFiles():
            path.unlink(missing_ok=True)
        # Its shared memory is called after it, and must be no other squid's.
        self._service = f"nt{os.getpid()}s{next(_serial)}"
        # Started in its own directory, with relative names: it drops root, and others may not
        # be able to read the parent directories.
        argv = ["env", "-C", str(own), "squid", "-N", "-n", self._service]
        argv += ["-f", str(own / "squid.conf")]
        super().__init__(namespace, argv, port, directory / f"squid-{port}.log")

    def stop(self) -> None:
        """Kill it, as an orderly end takes it two seconds; its helpers end, too."""
        self._child.stop(signal.SIGKILL)
        for path in squidFiles(self._service):
            path.unlink(missing_ok=True)


def _users(auth: str) -> str:
    """The password file for squid's helper."""
    if auth == "digest":
        secret = hashlib.md5(f"{USER}:{REALM}:{PASSWORD}".encode()).hexdigest()
        return f"{USER}:{REALM}:{secret}\n"
    if auth == "basic":
        return f"{USER}:{run(['openssl', 'passwd', '-6', '-stdin'], stdin=PASSWORD).stdout}"
    return ""
