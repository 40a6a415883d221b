"""
A zone that is signed (DNSSEC), for unbound to validate.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

ZONE = "signed.example"
RIGHT = "192.0.2.7"
"""The address of C{host} in the zone."""

FORGED = "192.0.2.66"
"""That of C{forged}, whose signature is for another one."""

PROGRAMS = ("ldns-keygen", "ldns-signzone")

_RECORDS = f"""\
$ORIGIN {ZONE}.
$TTL 300
@ IN SOA ns hostmaster 1 3600 600 86400 300
@ IN NS ns
ns IN A 192.0.2.53
host IN A {RIGHT}
forged IN A 192.0.2.8
"""

_CONFIG = """\
server:
  module-config: "validator iterator"
  trust-anchor-file: "{key}"
auth-zone:
  name: "{zone}."
  zonefile: "{signed}"
  for-upstream: yes
  for-downstream: no
  fallback-enabled: no
"""


def signedZone(directory: Path) -> str:
    """
    Make the zone.

    @return: the lines of a configuration with which unbound has the zone, and validates it.
    """
    plain = directory / "zone"
    plain.write_text(_RECORDS)
    algorithm = ["-a", "ECDSAP256SHA256", "-k"]
    key = _run(directory, "ldns-keygen", *algorithm, ZONE)
    _run(directory, "ldns-signzone", plain.name, key)
    signed = directory / "zone.signed"
    signed.write_text(signed.read_text().replace("192.0.2.8\n", f"{FORGED}\n"))
    return _CONFIG.format(key=directory / f"{key}.key", zone=ZONE, signed=signed)


def _run(directory: Path, *argv: str) -> str:
    done = subprocess.run(argv, cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()
