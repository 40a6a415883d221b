"""
A real DNS server, unbound, and real clients: kdig and dnsperf.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import LabError, waitUntil
from tests.e2e.lab.servers import START_SECONDS, Server
from tests.e2e.lab.tlsfront import Certificate

PORT = 53
TLS_PORT = 853
HTTPS_PORT = 443
PATH = "/dns-query"
"""That of DNS over HTTPS (RFC 8484)."""

TTL = 300
"""The TTL in seconds of every record, unless a test says otherwise."""

UDP_SIZE = 4096
"""The largest answer in bytes that the server sends over UDP, if the client accepts it."""

HUGE_RECORDS = 230
"""The number of TXT records, of 255 letters each: an answer of about 60 KB."""

_BEGUN = "start of service"
"""Unbound's log says so when it answers."""

_TLS = f"""\
  tls-port: {TLS_PORT}
  https-port: {HTTPS_PORT}
  http-endpoint: "{PATH}"
  http-nodelay: yes
  incoming-num-tcp: 200
  pad-responses: yes
"""

_CONFIG = """\
server:
{interfaces}
  port: {port}
{tls}
  chroot: ""
  username: ""
  directory: "{directory}"
  pidfile: ""
  use-syslog: no
  log-queries: {log}
  access-control: 0.0.0.0/0 allow
  access-control: ::/0 allow
  module-config: "iterator"
  max-udp-size: {size}
  edns-buffer-size: {size}
  so-rcvbuf: 1m
  local-zone: "lab." static
  local-data: "host.lab. {ttl} IN A 10.1.2.3"
  local-data: "host.lab. {ttl} IN AAAA fd00::123"
  local-data: "short.lab. 2 IN A 10.1.2.4"
  local-data: 'svc.lab. {ttl} IN HTTPS 1 . alpn="h2" ipv4hint=10.1.2.3 ech="AEX+DQ=="'
  local-data: "web.lab. {ttl} IN HTTPS 1 . alpn=h2 ipv4hint=10.1.2.5 ech=AEUAAA== ipv6hint=fd00::5"
{texts}
  local-zone: "any.lab." redirect
  local-data: "any.lab. {ttl} IN A 10.9.9.9"
"""


def _texts(name: str, count: int) -> str:
    """C{count} different TXT records of 255 letters."""
    return "\n".join(
        f"  local-data: '{name} {TTL} IN TXT \"{number:04}{'x' * 251}\"'" for number in range(count)
    )


class Unbound(Server):
    """
    Unbound, for the zone C{lab.}: C{host} (A and AAAA), C{short} (a TTL of 2 s), C{svc} (an
    HTTPS record), C{web} (one with more hints), C{big} (2.7 KB of TXT), C{huge} (60 KB of TXT),
    and every name below C{any}.
    """

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        hosts: Sequence[str],
        log: bool = True,
        shown: Certificate | None = None,
        plain: bool = True,
        more: str = "",
    ) -> None:
        """
        @param hosts: the addresses to listen on.
        @param log: whether L{queries} is needed; it costs time.
        @param shown: the certificate, to answer over TLS and HTTPS as well.
        @param plain: whether it answers over UDP and TCP.
        @param more: further lines of its configuration, which begin with that of a section.
        """
        ports = [PORT] if plain else []
        tls = ""
        if shown is not None:
            ports += [TLS_PORT, HTTPS_PORT]
            tls = f'{_TLS}  tls-service-pem: "{shown.cert}"\n  tls-service-key: "{shown.key}"\n'
        config = directory / f"unbound-{hosts[0]}.conf"
        config.write_text(
            _CONFIG.format(
                interfaces="\n".join(
                    f"  interface: {host}@{port}" for port in ports for host in hosts
                ),
                tls=tls,
                port=PORT,
                directory=directory,
                log="yes" if log else "no",
                size=UDP_SIZE,
                ttl=TTL,
                texts="\n".join([_texts("big.lab.", 10), _texts("huge.lab.", HUGE_RECORDS)]),
            )
            + more
        )
        journal = directory / f"unbound-{hosts[0]}.log"
        earlier = journal.read_text().count(_BEGUN) if journal.exists() else 0
        super().__init__(namespace, ["unbound", "-d", "-c", str(config)], ports[-1], journal)
        # Another server of the namespace may have listened on this port already.
        waitUntil(lambda: self.output().count(_BEGUN) > earlier, START_SECONDS, "unbound answers")

    def queries(self, name: str = "") -> list[tuple[str, str]]:
        """Client and name of every query so far, or of those for C{name}."""
        found = re.findall(r" info: ([0-9a-f.:]+) (\S+)\. [A-Z]+ IN", self.output())
        return [(asker, asked) for asker, asked in found if name in ("", asked)]


class Record(NamedTuple):
    """One record of an answer; C{ttl} in seconds."""

    name: str
    ttl: int
    kind: str
    data: str


class Answer(NamedTuple):
    """
    An answer, as kdig printed it.

    @ivar server: C{ADDRESS@PORT(TRANSPORT)} that it came from.
    @ivar size: bytes.
    """

    status: str
    flags: set[str]
    records: list[Record]
    server: str
    size: int

    @property
    def data(self) -> list[str]:
        """The data of the records."""
        return [record.data for record in self.records]


_RECORD = re.compile(r"^([^;\s]\S*)\s+(\d+)\s+IN\s+(\S+)\s+(.*)$", re.MULTILINE)


def _field(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else ""


def parse(output: str) -> list[Answer]:
    """Parse what kdig printed; unanswered queries are not in the list."""
    return [
        Answer(
            _field(r"status: (\w+)", part),
            set(_field(r";; Flags: ([a-z ]*);", part).split()),
            [
                Record(name.rstrip("."), int(ttl), kind, data)
                for name, ttl, kind, data in _RECORD.findall(part)
            ],
            _field(r";; From (\S+)", part),
            int(_field(r";; Received (\d+) B", part) or 0),
        )
        for part in output.split(";; ->>HEADER<<- ")[1:]
    ]


def kdig(
    namespace: Namespace, server: str, *arguments: str, wait: int = 30, retries: int = 0
) -> list[Answer]:
    """
    Query a server.

    @param arguments: those of kdig: options, then names and types, perhaps several.
    @param wait: seconds for each attempt.
    @return: the answers in order; empty if there were none.
    """
    argv = ["kdig", f"@{server}", f"+time={wait}", f"+retry={retries}", *arguments]
    queries = max(1, sum("." in argument for argument in arguments))
    done = namespace.run(argv, timeout=wait * (retries + 1) * queries * 2 + 10, check=False)
    return parse(done.stdout)


def ask(namespace: Namespace, server: str, *arguments: str, wait: int = 30) -> Answer:
    """
    Ask one question.

    @raise LabError: there was not exactly one answer.
    """
    answers = kdig(namespace, server, *arguments, wait=wait)
    if len(answers) != 1:
        raise LabError(f"{len(answers)} answers from {server} for {' '.join(arguments)}")
    return answers[0]


class Performance(NamedTuple):
    """The result of dnsperf; C{rate} in queries per second."""

    sent: int
    completed: int
    rate: float
    output: str

    @property
    def loss(self) -> float:
        """Share of the queries that got no answer, 0 to 1."""
        return 1 - self.completed / self.sent if self.sent else 1.0


def dnsperf(
    namespace: Namespace, server: str, data: Path, seconds: float, *arguments: str
) -> Performance:
    """
    Put load on a server.

    @param data: a file with lines of name and type.
    @param seconds: for how long; it waits up to 20 s more for answers.
    @param arguments: further ones of dnsperf, such as C{-Q}, queries per second.
    @raise LabError: dnsperf failed.
    """
    argv = ["dnsperf", "-s", server, "-d", str(data), "-l", f"{seconds:g}", "-t", "20", *arguments]
    output = namespace.run(argv, timeout=seconds + 60).stdout
    sent = re.search(r"Queries sent:\s+(\d+)", output)
    completed = re.search(r"Queries completed:\s+(\d+)", output)
    rate = re.search(r"Queries per second:\s+([\d.]+)", output)
    if sent is None or completed is None or rate is None:
        raise LabError(f"dnsperf said only {output.strip()[-300:]!r}")
    return Performance(int(sent[1]), int(completed[1]), float(rate[1]), output)


def writeQueries(path: Path, names: int, label: str = "n") -> Path:
    """
    Write a file for L{dnsperf} with that many different names, all of which exist.

    @param label: what the names begin with.
    """
    path.write_text("".join(f"{label}-{number}.any.lab A\n" for number in range(names)))
    return path
