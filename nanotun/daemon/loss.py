"""
What happens when the device is lost: the daemon ends.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from twisted.logger import Logger

from nanotun.daemon.ending import Ending


class DeviceLoss:
    """
    Ends the daemon when its TUN device is gone for good, with an error, so that a supervisor
    starts it again.  Whoever notices reports it.

    In another network namespace the device is gone only for nanotun's own routes.  Without any,
    somebody has put it where it is wanted, such as into a container.

    @ivar happened: whether it was lost since L{watch}.
    @param name: the device's.
    @param ending: is told how the daemon ends.
    @param exitWith: stops the reactor and lets the process end with this status.
    @param routed: whether nanotun's own routes lead into the device.
    """

    _log = Logger()

    def __init__(
        self, name: str, ending: Ending, exitWith: Callable[[int], None], routed: bool
    ) -> None:
        self.happened = False
        self._name = name
        self._ending = ending
        self._exitWith = exitWith
        self._routed = routed
        self._matters = False

    def watch(self) -> None:
        """From now on the daemon needs its device."""
        self._matters, self.happened = True, False

    def ignore(self) -> None:
        """The daemon stops anyway."""
        self._matters = False

    def report(self, error: int) -> None:
        """
        The device is gone.  Said once.

        @param error: errno; C{ENODEV} if it has been moved to another network namespace.
        """
        if not self._matters:
            return
        if error == errno.ENODEV and not self._routed:
            self._log.warn(
                "The device {name} is in another network namespace now, where nanotun serves it "
                "as before, but does not look after its name and addresses.",
                name=self._name,
            )
            return
        self._matters, self.happened = False, True
        self._ending.fail()
        if error == errno.ENODEV:
            line = (
                "The device {name} is in another network namespace now; nanotun stops. "
                "Start it again to get the device back."
            )
        elif error in (errno.EBADFD, errno.EBADF):
            line = (
                "The device {name} is gone ({error}): somebody removed it; nanotun stops. "
                "Start it again to get the device back."
            )
        else:
            line = (
                "The packet engine failed on {name} ({error}); nanotun stops. "
                "Start it again, and please report this."
            )
        self._log.error(line, name=self._name, error=errno.errorcode.get(error, error))
        self._exitWith(1)
