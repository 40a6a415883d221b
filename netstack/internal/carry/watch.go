package carry

import (
	"golang.org/x/sys/unix"
)

// Watcher has an fd of its own, which a loop watches.
type Watcher interface {
	// Ready is called in the loop's goroutine for as long as there is something
	// to read or an error; events are epoll's. It must not block. A call may
	// come after Unwatch, in the same turn.
	Ready(events uint32)
}

// Watch begins to call the watcher.
func (l *Loop) Watch(fd int, w Watcher) error { return l.WatchFor(fd, w, unix.EPOLLIN) }

// WatchFor is Watch for these events of epoll.
func (l *Loop) WatchFor(fd int, w Watcher, events uint32) error {
	l.mu.Lock()
	l.watchers[int32(fd)] = w
	l.mu.Unlock()
	event := unix.EpollEvent{Events: events, Fd: int32(fd)}
	err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &event)
	if err != nil {
		l.Unwatch(fd)
	}
	return err
}

// Rewatch waits for other events of an fd than WatchFor was told.
func (l *Loop) Rewatch(fd int, events uint32) {
	event := unix.EpollEvent{Events: events, Fd: int32(fd)}
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, fd, &event)
}

// Dismiss is Unwatch for an fd that is not closed but goes to somebody else.
func (l *Loop) Dismiss(fd int) {
	l.Unwatch(fd)
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil)
}

// Unwatch is called before the fd is closed, which takes it out of the epoll set, or before
// a flow takes it over, see Flow.Watched.
func (l *Loop) Unwatch(fd int) {
	l.mu.Lock()
	delete(l.watchers, int32(fd))
	l.mu.Unlock()
}
