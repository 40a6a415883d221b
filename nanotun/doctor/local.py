"""
Checks of the program and its privileges.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence

from zope.interface import implementer

from nanotun import __version__
from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.doctor.machine import Machine

PYTHON_MIN = (3, 11)

#: Open files that are enough.  A connection takes one, and a UDP association of SOCKS5 two;
#: a browser and a few apps need hundreds.
FILES_MIN = 4096

DEVICE_NODE = "/dev/net/tun"


@implementer(ICheck)
class ProgramCheck:
    """
    Whether Python is recent enough and the native library loads.

    @param load: loads the library, or raises an C{EngineError}.
    """

    name = "program"

    def __init__(
        self, load: Callable[[], object], version: tuple[int, ...] = sys.version_info[:3]
    ) -> None:
        self._load = load
        self._version = version

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        if self._version[:2] < PYTHON_MIN:
            return [
                Finding(
                    self.name,
                    Level.FAIL,
                    f"This Python is {'.'.join(map(str, self._version[:3]))}, and nanotun needs "
                    f"{'.'.join(map(str, PYTHON_MIN))} or newer.",
                    "Make the virtual environment anew with a newer one: 'make clean', then "
                    "'make build PYTHON=python3.12'.",
                )
            ]
        self._load()
        return [
            Finding(
                self.name,
                Level.OK,
                f"nanotun {__version__}, Python {platform.python_version()}, and the native "
                "library fits.",
            )
        ]


@implementer(ICheck)
class PrivilegeCheck:
    """Whether this is root, with the capabilities that a container may withhold."""

    name = "privileges"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        if self._machine.geteuid() != 0:
            return [
                Finding(
                    self.name,
                    Level.FAIL,
                    "This is not root, who alone may make a TUN device; some checks need root too.",
                    "Run it with sudo.",
                )
            ]
        if self._machine.missing("CAP_NET_ADMIN"):
            return [
                Finding(
                    self.name,
                    Level.FAIL,
                    "Root lacks CAP_NET_ADMIN here, so that nanotun can make no device and mark no "
                    "socket.",
                    "Give it to the container (--cap-add NET_ADMIN --device /dev/net/tun) or to "
                    "the unit (CapabilityBoundingSet).",
                )
            ]
        if self._machine.missing("CAP_SYS_ADMIN"):
            return [
                Finding(
                    self.name,
                    Level.INFO,
                    "Root lacks CAP_SYS_ADMIN here: the daemon works, 'nanotun run' does not.",
                    "For that, give the container --privileged.",
                )
            ]
        return [Finding(self.name, Level.OK, "This is root, with the capabilities it takes.")]


@implementer(ICheck)
class DeviceNodeCheck:
    """Whether F{/dev/net/tun} exists and opens."""

    name = "/dev/net/tun"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        why = self._machine.openDevice(DEVICE_NODE)
        if not why:
            return [Finding(self.name, Level.OK, "The device node is there and opens.")]
        if not self._machine.exists(DEVICE_NODE):
            return [
                Finding(
                    self.name,
                    Level.FAIL,
                    f"There is no {DEVICE_NODE}.",
                    "Run 'modprobe tun', or give the container that device "
                    "(--device /dev/net/tun).",
                )
            ]
        return [
            Finding(
                self.name,
                Level.FAIL,
                f"{DEVICE_NODE} does not open ({why}).",
                "Run it as root; if this is root, load the module ('modprobe tun') and allow the "
                "container that device.",
            )
        ]


@implementer(ICheck)
class DescriptorCheck:
    """Whether enough files may be open."""

    name = "open files"

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        # The native library raises the soft limit to the hard one.
        _, hard = self._machine.fileLimits()
        if 0 <= hard < FILES_MIN:
            return [
                Finding(
                    self.name,
                    Level.WARN,
                    f"At most {hard} files may be open, and each connection takes one.",
                    "Raise the hard limit: LimitNOFILE=65536 in the unit, or "
                    "/etc/security/limits.conf.",
                )
            ]
        return [Finding(self.name, Level.OK, f"{'No limit' if hard < 0 else hard} is enough.")]


@implementer(ICheck)
class ClockCheck:
    """
    Whether the clock is behind the build time of this program: if so, the certificates of
    HTTPS proxies seem not yet valid.

    @param now: returns seconds since the epoch.
    @param built: when the native library was built, in seconds since the epoch.
    """

    name = "clock"

    def __init__(self, now: Callable[[], float], built: float) -> None:
        self._now = now
        self._built = built

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        if self._now() < self._built - 86400:
            return [
                Finding(
                    self.name,
                    Level.WARN,
                    "The clock is behind: nanotun was installed in its future, and certificates "
                    "of https proxies may seem not yet valid.",
                    "Set the clock, for instance by 'timedatectl set-ntp true'.",
                )
            ]
        return [Finding(self.name, Level.OK, "The clock is not behind.")]


@implementer(ICheck)
class ConfigurationCheck:
    """
    Reports the configuration's error and warnings.

    @param notices: sentences with their cure after a semicolon.
    @param wrong: another such sentence: why a start fails; empty if it does not.
    """

    name = "configuration"

    def __init__(self, notices: Sequence[str], wrong: str = "") -> None:
        self._notices = notices
        self._wrong = wrong

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        found = [Finding(self.name, Level.FAIL, self._wrong)] if self._wrong else []
        found += [Finding(self.name, Level.WARN, notice) for notice in self._notices]
        well = "The settings are complete, and nothing in them is risky."
        return found or [Finding(self.name, Level.OK, well)]
