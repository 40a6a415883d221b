"""
The zones of names behind private addresses (RFC 6303; RFC 7793; RFC 1918).

Nobody else has anything to do with them: whoever is asked learns which addresses there are in
the user's own networks, and can say nothing about them.
"""

from __future__ import annotations

from nanotun.gateway.dns.addresses import packName

_V4 = (
    "0",
    "10",
    "127",
    *(f"{number}.172" for number in range(16, 32)),
    "168.192",
    "254.169",
    *(f"{number}.100" for number in range(64, 128)),
    "2.0.192",
    "100.51.198",
    "113.0.203",
    "18.198",
    "19.198",
    "255.255.255.255",
)
_V6 = (
    "0." * 31 + "0",
    "1." + "0." * 30 + "0",
    "d.f",
    "c.f",
    "8.e.f",
    "9.e.f",
    "a.e.f",
    "b.e.f",
    "8.b.d.0.1.0.0.2",
)

#: The zones' labels, in lower case and without the root.
ZONES = frozenset(
    packName(f"{each}.{top}.arpa")[:-1]
    for zones, top in ((_V4, "in-addr"), (_V6, "ip6"))
    for each in zones
)


def privateZone(labels: bytes) -> bytes:
    """
    The zone that a name is in, or that it is the name of.

    @param labels: of the name, in lower case and without the root.
    @return: the zone's labels; empty for none.
    """
    if not labels.endswith(b"\4arpa"):
        return b""
    while labels:
        if labels in ZONES:
            return labels
        labels = labels[1 + labels[0] :]
    return b""
