"""
Prints what L{nanotun.linux.conntrack.originalOf} says of two redirected connections.  For a
network namespace of its own, which it changes.
"""

from __future__ import annotations

import socket
import subprocess

from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.linux.conntrack import originalOf

_COMMANDS = """
ip link set lo up
ip address add 198.18.0.1/32 dev lo
ip address add 10.9.9.9/32 dev lo
ip address add fd00::1/128 dev lo
ip address add fd00::9/128 dev lo
nft -f - <<END
table inet test {
chain sent {
type nat hook output priority -99
ip daddr 10.9.9.9 dnat ip to 198.18.0.1
ip6 daddr fd00::9 dnat ip6 to fd00::1
}
}
END
"""


def main() -> None:
    """See the module."""
    subprocess.run(["sh", "-ec", _COMMANDS], check=True)
    for family, gateway, asked in (
        (socket.AF_INET, "198.18.0.1", "10.9.9.9"),
        (socket.AF_INET6, "fd00::1", "fd00::9"),
    ):
        with socket.socket(family) as listening:
            listening.bind((gateway, 53))
            listening.listen()
            with socket.create_connection((asked, 53)), listening.accept()[0] as accepted:
                source = Endpoint(*accepted.getpeername()[:2])
                flow = Flow(1, Protocol.TCP, source, Endpoint(gateway, 53))
                found = originalOf(flow)
                assert originalOf(flow._replace(source=Endpoint(source.host, 1))) is None
                print(found and found.destination)


if __name__ == "__main__":
    main()
