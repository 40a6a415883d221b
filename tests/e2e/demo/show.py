"""
What both forms of the demonstration print about a daemon.
"""

from __future__ import annotations

import re
import signal
import sys

from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import LabError
from tests.e2e.lab.topology import FAMILIES, TUN_NAME

ENGINES = ("gvisor", "simple")

DIM, BOLD, PLAIN = ("\033[2m", "\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def say(text: str = "") -> None:
    """Print one line for the user at once."""
    print(text, flush=True)


def pings(namespace: Namespace) -> None:
    """
    Ping both gateways and print how long an answer took.

    @raise LabError: an answer is missing.
    """
    for family in FAMILIES:
        argv = [
            "ping",
            family.option,
            "-n",
            "-q",
            "-c",
            "10",
            "-i",
            "0.02",
            "-W",
            "1",
        ]
        output = namespace.run([*argv, family.gateway]).stdout
        found = re.search(r"= [\d.]+/([\d.]+)/", output)
        if found is None or " 0% packet loss" not in output:
            raise LabError(f"the gateway {family.gateway} did not answer every ping")
        say(f"  ping {family.gateway:<22} {float(found.group(1)):.2f} ms, answered by the stack")


def carried(namespace: Namespace) -> str:
    """The bytes that the device has carried, as counted by the kernel."""
    output = namespace.run(["ip", "-s", "link", "show", "dev", TUN_NAME]).stdout
    received, sent = (int(line.split()[0]) for line in output.splitlines()[3:6:2])
    return f"{sent / 1e6:,.1f} MB up, {received / 1e6:,.1f} MB down"


def started(daemon: Daemon, stackMode: str) -> None:
    """Print that the daemon is up."""
    offload = "on" if "offload on" in daemon.log() else "off"
    say(
        f"{BOLD}{stackMode}{PLAIN}: twistd nanotun up after {daemon.startSeconds:.1f} s, "
        f"segmentation offload {offload}"
    )


def stopped(daemon: Daemon, namespace: Namespace) -> None:
    """
    Stop the daemon as a user would.

    @raise LabError: it did not end in order, or its device still exists.
    """
    status, seconds = daemon.stop()
    if status not in (0, -signal.SIGTERM):
        raise LabError(f"the daemon ended with status {status}\n{daemon.log()}")
    if TUN_NAME in namespace.interfaces():
        raise LabError("the device is still there after the stop")
    say(f"  SIGTERM: ended after {seconds:.2f} s, and the device is gone")
