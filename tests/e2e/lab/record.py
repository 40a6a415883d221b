"""
Whether this machine's kernel can tell a daemon who makes a socket (L{nanotun.owners.recorder}).
"""

from __future__ import annotations

import os

from twisted.trial.unittest import SkipTest

from nanotun.linux.cgroups import cgroupMount

#: The inode of the first pid namespace (PROC_PID_INIT_INO of linux/proc_ns.h).  A container has
#: another.
INITIAL_PIDS = 0xEFFFFFFC


def whyNoRecord() -> str:
    """Why not; empty if it can."""
    if os.stat("/proc/self/ns/pid").st_ino != INITIAL_PIDS:
        return "the kernel's record has the pids of another namespace than ours"
    return "" if cgroupMount() else "there are no cgroups of version 2"


def needRecord() -> None:
    """@raise SkipTest: it cannot."""
    if reason := whyNoRecord():
        raise SkipTest(reason)
