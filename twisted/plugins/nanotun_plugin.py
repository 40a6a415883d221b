"""
nanotun's Twisted plugins: the C{twistd nanotun} command, and one factory for each packet
engine.  Every twistd and trial on the machine may import this file, so it only names
things.  nanotun's own schemes are not here: they are found without a search for plugins.
"""

from twisted.application.service import ServiceMaker

from nanotun.engine.plugin import ENGINES

nanotun = ServiceMaker(
    "nanotun", "nanotun.daemon.tap", "Send what arrives on a TUN device through a proxy.", "nanotun"
)

nanotunGVisor, nanotunSimple = ENGINES
