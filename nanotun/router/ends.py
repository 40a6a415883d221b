"""
Tells those who want to know how flows end.
"""

from __future__ import annotations

from functools import partial

from twisted.logger import Logger

from nanotun.flow import FlowEnd, Note, Owner
from nanotun.interfaces import IEndObserver, INames, IPacketEngine
from nanotun.router.notes import NoteTable, whole
from nanotun.router.programs import FlowPrograms


class EndObservers:
    """
    All who want to know.  While there is nobody, the engine is not asked for the ends of
    datagrams, and nothing is told.

    @param programs: knows the processes of flows, if they are looked up.
    @param names: knows the names behind fake addresses.
    """

    _log = Logger()

    def __init__(
        self, engine: IPacketEngine, notes: NoteTable, programs: FlowPrograms, names: INames
    ) -> None:
        self._engine = engine
        self._notes = notes
        self._programs = programs
        self._names = names
        self._observers: tuple[IEndObserver, ...] = ()

    @property
    def active(self) -> bool:
        """Whether anybody wants to know."""
        return bool(self._observers)

    def follow(self, observer: IEndObserver) -> None:
        """Tell somebody of each end from now on; harmless if that is so already."""
        if observer in self._observers:
            return
        if not self._observers:
            self._engine.followDatagrams(True)
        self._observers += (observer,)

    def unfollow(self, observer: IEndObserver) -> None:
        """Tell it no more; harmless if it is not told."""
        if observer not in self._observers:
            return
        self._observers = tuple(each for each in self._observers if each is not observer)
        if not self._observers:
            self._engine.followDatagrams(False)

    def set(self, observer: IEndObserver, follow: bool) -> None:
        """L{follow} or L{unfollow}."""
        if follow:
            self.follow(observer)
        else:
            self.unfollow(observer)

    def ended(self, end: FlowEnd) -> None:
        """A flow has ended.  That is told later if its process is still being looked up."""
        if self._observers:
            note = whole(self._notes.of(end.note), end.flow, None, self._names)
            self._programs.ended(end.flow, partial(self._tell, end, note))

    def _tell(self, end: FlowEnd, note: Note | None, owner: Owner | None) -> None:
        if note is not None and owner is not None:
            note = note._replace(owner=owner)
        for observer in self._observers:
            try:
                observer.flowEnded(end, note)
            except Exception:
                self._log.failure("The end of flow {flow} was told in vain", flow=end.flow.id)
