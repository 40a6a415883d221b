"""
Checks of other programs that affect the network, and of a nanotun that runs or ran.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from zope.interface import implementer

from nanotun.addresses import isLoopback
from nanotun.config.settings import Settings
from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.doctor.machine import Machine
from nanotun.interfaces import ProxyURL
from nanotun.linux.network import MachineNetwork
from nanotun.rundir import JOURNAL, LOCK, command


def isRunning(machine: Machine, settings: Settings) -> bool:
    """Whether a nanotun holds the lock of this C{runDir}."""
    return machine.locked(f"{settings.runDir}/{LOCK}")


def cureOf(machine: Machine, proxy: ProxyURL) -> str:
    """
    What to do if a proxy cannot be reached; empty for nothing in particular.  C{ssh -D}
    connects before it listens, and until then is recognised by its command line only.
    """
    isSocks = proxy.scheme.name.startswith("socks")
    if not isSocks or not isLoopback(proxy.host) or not machine.runs("ssh"):
        return ""
    return (
        "If ssh is to listen there (DynamicForward in its configuration file), start it with "
        f"-D {proxy.port} on the command line, or add excludedProcesses: [ssh]."
    )


@implementer(ICheck)
class DaemonCheck:
    """Whether another nanotun runs, or a killed one left changes behind."""

    name = "nanotun"

    def __init__(self, machine: Machine, settings: Settings) -> None:
        self._machine = machine
        self._settings = settings

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        runDir = self._settings.runDir
        if isRunning(self._machine, self._settings):
            return [
                Finding(
                    self.name,
                    Level.INFO,
                    f"A nanotun runs already, with the runDir {runDir}.",
                    f"'{command('status', runDir)}' shows what it does.",
                )
            ]
        text = self._machine.read(f"{runDir}/{JOURNAL}")
        boot = self._machine.read("/proc/sys/kernel/random/boot_id")
        journal = _parse(text)
        if text and journal.get("killSwitch") and journal.get("boot") == boot:
            return [
                Finding(
                    self.name,
                    Level.WARN,
                    "A nanotun that does not run any more keeps this machine's traffic in: its "
                    "killSwitch was on.",
                    f"Start it again, or run '{command('recover', runDir)}' to let traffic out.",
                )
            ]
        if text and journal.get("boot", "") in ("", boot):
            return [
                Finding(
                    self.name,
                    Level.WARN,
                    "A nanotun that was killed has left routes or rules behind "
                    f"({runDir}/{JOURNAL}).",
                    f"Run '{command('recover', runDir)}'; the next start does the same.",
                )
            ]
        return [Finding(self.name, Level.OK, "None runs, and none has left anything behind.")]


def _parse(journal: str) -> dict[str, Any]:
    """
    A journal's fields; none if it is damaged.  C{boot} identifies the boot in which it was
    written: a reboot undoes all changes.
    """
    try:
        fields = json.loads(journal)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


@implementer(ICheck)
class FirewallCheck:
    """Whether there is a program with which C{autoDefaultRoute} can redirect DNS."""

    name = "nft, iptables"

    def __init__(self, machine: Machine, settings: Settings) -> None:
        self._machine = machine
        self._needed = settings.autoDefaultRoute

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        if self._machine.program("nft"):
            return [Finding(self.name, Level.OK, "nft is there.")]
        if self._machine.program("iptables"):
            return [
                Finding(
                    self.name,
                    Level.INFO,
                    "There is no nft, and iptables serves in its place: its rules stay when "
                    "nanotun is killed, until the next start.",
                    "Install the package nftables.",
                )
            ]
        return [
            Finding(
                self.name,
                Level.FAIL if self._needed else Level.INFO,
                "There is neither nft nor iptables, which autoDefaultRoute redirects DNS with.",
                "Install the package nftables.",
            )
        ]


@implementer(ICheck)
class ResolverCheck:
    """
    Whether a program looks names up in the clear for those of C{onlyProcesses}.

    @param namesLeft: see L{nanotun.daemon.localresolvers.LocalResolvers.namesLeft}.
    """

    name = "resolvers"

    def __init__(self, namesLeft: Callable[[], Sequence[str]]) -> None:
        self._namesLeft = namesLeft

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        found = [Finding(self.name, Level.WARN, each) for each in self._namesLeft()]
        fine = "What resolvers on this machine ask for onlyProcesses goes to the relay."
        return found or [Finding(self.name, Level.OK, fine)]


@implementer(ICheck)
class ManagerCheck:
    """NetworkManager, systemd-resolved and Docker: harmless, but they explain much."""

    name = "other managers"

    def __init__(
        self, survey: Callable[[], MachineNetwork], machine: Machine, settings: Settings
    ) -> None:
        self._survey = survey
        self._machine = machine
        self._settings = settings

    def run(self) -> list[Finding]:
        """See L{ICheck.run}."""
        found = []
        tun = self._settings.tunName
        if self._machine.exists("/run/NetworkManager"):
            found.append(
                Finding(
                    self.name,
                    Level.INFO,
                    f"NetworkManager runs: it lists {tun} as a device of somebody else's and "
                    "should leave it alone.",
                    f"If it does not, add 'unmanaged-devices=interface-name:{tun}' to its "
                    "[keyfile] section.",
                )
            )
        if self._machine.exists("/run/systemd/resolve/stub-resolv.conf"):
            found.append(
                Finding(
                    self.name,
                    Level.INFO,
                    "systemd-resolved answers this machine's DNS queries: without "
                    "autoDefaultRoute it asks its own servers, past the proxy.",
                    "With autoDefaultRoute its queries are redirected too.",
                )
            )
        if any(link.kind == "bridge" and _isDocker(link.name) for link in self._survey().links):
            found.append(
                Finding(
                    self.name,
                    Level.INFO,
                    "Docker runs: containers' packets are forwarded by its rules, and follow "
                    "autoDefaultRoute like this machine's own.",
                    "A container's own DNS server (127.0.0.11) asks from this machine.",
                )
            )
        return found or [Finding(self.name, Level.OK, "None that nanotun would have to heed.")]


def _isDocker(name: str) -> bool:
    return name == "docker0" or name.startswith("br-")
