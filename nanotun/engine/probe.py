"""
Whether segmentation offload works on a device, tried on the device itself.

Some kernels (Linux 6.6.44 and LTS siblings of its day) accept the offload
flags and then corrupt what they carry, so that only a try tells.
"""

from __future__ import annotations

from socket import AF_INET, inet_pton

from nanotun.addresses import GATEWAY4
from nanotun.engine import abi
from nanotun.interfaces import ITunDevice

#: Milliseconds for two tries.  A try takes three on a quiet machine; on one that
#: is busy a hasty no would cost most of the speed until the next start.
PROBE_TIMEOUT = 2000


def offloadWorks(device: ITunDevice, library: abi.NativeLibrary | None = None) -> bool:
    """
    Send a TCP stream each way through the device.  Blocks for at most 2 s.

    @param device: open with virtio-net headers, configured and up; nothing
        else reads it meanwhile.
    @raise EngineError: the library cannot be loaded.
    @raise OSError: the probe itself failed.
    """
    if library is None:
        library = abi.NativeLibrary.load()
    result = library.ns_probe(
        device.fileno(),
        device.vnetHeader,
        device.mtu,
        device.name.encode(),
        abi.bytes4(inet_pton(AF_INET, GATEWAY4)),
        PROBE_TIMEOUT,
    )
    return abi.check(result, "ns_probe") == 1
