"""
The addresses and the mark that nanotun owns, named once.

198.18.0.0/15 is reserved for benchmarks (RFC 2544, section C.2.2) and
fdfe:dcba:9876::/48 is a unique local prefix (RFC 4193): neither is on the
Internet.  The gateway's addresses exist only inside the stack.  If the kernel
had them, it would answer for them itself, and a route by way of them would be
refused.
"""

from __future__ import annotations

#: The kernel's addresses on the device, with the prefix length.
KERNEL4 = "198.18.0.2/30"
KERNEL6 = "fdfe:dcba:9876::2/126"

#: What the stack answers ping for and where routes point.
GATEWAY4 = "198.18.0.1"
GATEWAY6 = "fdfe:dcba:9876::1"

#: SO_MARK of every socket that nanotun opens, so that a rule can keep them out
#: of the tunnel.  "nt" in ASCII.
SOCKET_MARK = 0x6E74
