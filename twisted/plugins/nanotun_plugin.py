"""
What nanotun shows to Twisted: the C{twistd nanotun} command, and one factory
for each packet engine.  Every twistd and trial on the machine may read this
file, so it names things and imports next to nothing.
"""

from twisted.application.service import ServiceMaker

from nanotun.engine.plugin import EngineFactory

nanotun = ServiceMaker(
    "nanotun", "nanotun.daemon.tap", "Send what arrives on a TUN device through a proxy.", "nanotun"
)

nanotunGVisor = EngineFactory("gvisor")
nanotunSimple = EngineFactory("simple")
