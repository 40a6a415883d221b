"""
Finds out whether segmentation offload works on a device, by trying it.

Some kernels (Linux 6.6.44 and the LTS releases of its day) accept the offload flags and
then corrupt the segments, so there is no other way to tell.
"""

from __future__ import annotations

from socket import AF_INET, inet_pton

from nanotun.addresses import GATEWAY4
from nanotun.engine import abi
from nanotun.interfaces import ITunDevice

#: Milliseconds for two tries.  A try takes 3 ms on a quiet machine; on a busy machine a
#: hasty no would cost most of the speed until the next start.
PROBE_TIMEOUT = 2000


def offloadWorks(device: ITunDevice, library: abi.NativeLibrary | None = None) -> bool:
    """
    Send a TCP stream each way through the device.  Blocks for at most 2 s.

    @param device: open with virtio-net headers, configured and up; nothing else may read
        it meanwhile.
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
