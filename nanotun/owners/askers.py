"""
Whose programs ask for names: the user and the control group of the socket that a query came
from.
"""

from __future__ import annotations

from typing import NamedTuple

from nanotun.flow import Flow
from nanotun.owners.interfaces import ISockets


class Asker(NamedTuple):
    """
    The programs of one user in one control group.

    @ivar uid: -1 for all whose sockets are closed already.
    @ivar cgroup: the id of the control group; 0 if the kernel does not tell.
    """

    uid: int
    cgroup: int

    def __str__(self) -> str:
        return f"The programs of uid {self.uid}" if self.uid >= 0 else "Programs that have ended"


class Askers:
    """
    Finds out who asks.

    @param sockets: started here at the first question, and open to the end of the process.
    """

    def __init__(self, sockets: ISockets) -> None:
        self._sockets = sockets
        self._started = False

    def find(self, flow: Flow) -> Asker | None:
        """
        Who sends a flow from this machine.

        @return: L{None} if the kernel cannot be asked.
        """
        try:
            if not self._started:
                self._sockets.start()
                self._started = True
            for found in self._sockets.sharing(flow):
                return Asker(found.uid, found.cgroup)
        except OSError:
            return None
        return Asker(-1, 0)
