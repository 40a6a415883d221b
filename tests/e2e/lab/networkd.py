"""
systemd-networkd in a namespace: the real one with a D-Bus of its own, without udev.
"""

from __future__ import annotations

from pathlib import Path

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, Child, run, waitUntil

PROGRAM = "/lib/systemd/systemd-networkd"

#: All that is needed.
PROGRAMS = (
    PROGRAM,
    "/usr/bin/dbus-daemon",
    "/usr/bin/networkctl",
    "/usr/share/dbus-1/system.conf",
)

#: For links that have no file of their own: with a pattern that is too wide, nano0 as well.
_REST = """\
[Match]
Name=*
[Network]
LinkLocalAddressing=no
IPv6AcceptRA=no
"""

# It waits for udev, unless /sys is read-only as in a container, where Ubuntu's waits as well: until
# udev has written what it knows about a link.
_SCRIPT = """\
mount --make-rprivate /
mount --bind "$1" /run
mkdir -p /run/dbus /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
mkdir -p /run/udev/data
for link in $(seq 99); do echo I:1 >"/run/udev/data/n$link"; done
chmod -R a+rwX /run/systemd
mount -o remount,ro /sys
dbus-daemon --system --fork --nopidfile
exec "$2"
"""


class Networkd:
    """
    One that manages all links of a namespace.

    @param directory: for its files.
    """

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self._namespace = namespace
        self._directory = directory
        self._run = directory / "networkd"
        self._files = self._run / "systemd" / "network"
        self._files.mkdir(parents=True)
        (self._files / "90-rest.network").write_text(_REST)
        self._child: Child | None = None

    def configure(self, link: str, addresses: tuple[str, ...], gateways: tuple[str, ...]) -> None:
        """What a link has from the next L{start} or L{reconfigure} on."""
        lines = [f"Address={each}\n" for each in addresses]
        lines += [f"Gateway={each}\n" for each in gateways]
        text = f"[Match]\nName={link}\n[Network]\n{''.join(lines)}IPv6AcceptRA=no\n"
        (self._files / f"10-{link}.network").write_text(text)

    def start(self) -> None:
        """Start it; return once it has made its changes."""
        log = self._directory / "networkd.log"
        script = ["sh", "-ec", _SCRIPT, "sh", str(self._run), PROGRAM]
        argv = ["env", "SYSTEMD_LOG_LEVEL=debug", "unshare", "--mount", *script]
        child = self._child = Child(self._namespace.argv(argv), log)
        waitUntil(
            lambda: "Routes set" in child.output(), PATIENCE, "systemd-networkd has set its routes"
        )

    def reconfigure(self, *links: str) -> None:
        """
        Have it set links up as its files say now: it removes all rules, and all addresses and
        routes of these links, that it does not know.
        """
        assert self._child is not None
        inside = ["nsenter", "-t", str(self._child.pid), "--mount", "--net"]
        run([*inside, "networkctl", "reload"])
        run([*inside, "networkctl", "reconfigure", *links])

    def stop(self) -> None:
        """End it; may be called twice."""
        if self._child is not None:
            self._child.stop()
            self._child = None
