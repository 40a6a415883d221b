"""
TLS in front of a proxy: stunnel, and its certificates.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import run
from tests.e2e.lab.servers import Server
from tests.e2e.lab.topology import IPV4, IPV6

_STUNNEL = """\
foreground = yes
pid =
syslog = no
debug = err
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[proxy]
accept = :::{port}
connect = 127.0.0.1:{behind}
cert = {cert}
key = {key}
"""

RIGHT_NAMES = (f"IP:{IPV4.proxy}", f"IP:{IPV6.proxy}")
#: What `openssl ca` needs.
_SIGNING = """
[ca]
default_ca = lab
[lab]
database = {directory}/expired.index
serial = {directory}/expired.serial
new_certs_dir = {directory}
default_md = sha256
policy = any
copy_extensions = copy
[any]
commonName = supplied
"""

WRONG_NAMES = ("DNS:proxy.invalid", "IP:10.77.1.77")


class Certificate(NamedTuple):
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


def _make(directory: Path, name: str, *options: str) -> Certificate:
    made = Certificate(directory / f"{name}.pem", directory / f"{name}.key")
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-days", "2", "-subj", f"/CN={name}"]
    run([*argv, "-keyout", str(made.key), "-out", str(made.cert), *options])
    return made


def authority(directory: Path, name: str = "lab-ca") -> Certificate:
    """A CA that only signs what L{certificate} makes."""
    return _make(directory, name)


def certificate(
    directory: Path,
    ca: Certificate | None,
    names: tuple[str, ...] = RIGHT_NAMES,
    name: str = "",
) -> Certificate:
    """
    Make a server's certificate.

    @param ca: the CA that signs it; L{None} for a self-signed one.
    @param names: what it is valid for, in the form of C{subjectAltName}.
    @param name: that of its files, for a test with more than one.
    """
    signer = [] if ca is None else ["-CA", str(ca.cert), "-CAkey", str(ca.key)]
    return _make(
        directory,
        name or ("self-signed" if ca is None else "lab-proxy"),
        *signer,
        "-addext",
        f"subjectAltName={','.join(names)}",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    )


def expired(directory: Path, ca: Certificate, names: tuple[str, ...] = RIGHT_NAMES) -> Certificate:
    """Make a server's certificate whose time was over before it was made."""
    made = Certificate(directory / "expired.pem", directory / "expired.key")
    asked = directory / "expired.csr"
    argv = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-subj", "/CN=expired", "-addext", f"subjectAltName={','.join(names)}"]
    run([*argv, "-keyout", str(made.key), "-out", str(asked)])
    # x509 makes none that has ended in OpenSSL 3.4, and takes no dates before.
    (directory / "expired.index").touch()
    config = directory / "expired.conf"
    config.write_text(_SIGNING.format(directory=directory))
    now = datetime.now(UTC)
    began, ended = (f"{now - timedelta(days):%Y%m%d%H%M%SZ}" for days in (2, 1))
    argv = ["openssl", "ca", "-batch", "-notext", "-config", str(config), "-create_serial"]
    argv += ["-cert", str(ca.cert), "-keyfile", str(ca.key), "-in", str(asked)]
    run([*argv, "-startdate", began, "-enddate", ended, "-out", str(made.cert)])
    return made


class Stunnel(Server):
    """Stunnel, in front of the proxy on TCP port C{behind} of the same namespace."""

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        behind: int,
        shown: Certificate,
        port: int = 4430,
    ) -> None:
        # On a busy machine the kernel repeats a FIN early (a tail loss probe, RFC 8985).  Its
        # acknowledgement meets a socket that the proxy has closed, the answer is a reset, and
        # stunnel then throws away what it has not read yet.
        namespace.run(["sysctl", "-qw", "net.ipv4.tcp_early_retrans=0"])
        config = directory / f"stunnel-{port}.conf"
        config.write_text(_STUNNEL.format(port=port, behind=behind, cert=shown.cert, key=shown.key))
        super().__init__(
            namespace, ["stunnel", str(config)], port, directory / f"stunnel-{port}.log"
        )
