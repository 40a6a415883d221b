package engine

import "golang.org/x/sys/unix"

// End resets joined flows on both sides, and gives up those whose app has not completed
// the handshake; Closed follows for each. It returns how many there were.
func (e *Engine) End(ids []uint64) int {
	wanted := make(map[uint64]struct{}, len(ids))
	for _, id := range ids {
		wanted[id] = struct{}{}
	}
	var joined []*joinedFlow
	var opening []*handshake
	e.mu.Lock()
	for _, f := range e.joined {
		if _, ok := wanted[f.ID]; ok && f.held == nil {
			joined = append(joined, f)
		}
	}
	for _, f := range e.opening {
		if _, ok := wanted[f.ID]; ok && f.held == nil {
			if f.givenUp == 0 {
				e.half.giveUp(f, unix.ECONNABORTED)
			}
			opening = append(opening, f.handshake)
		}
	}
	e.mu.Unlock()
	for _, f := range joined {
		f.Abort()
	}
	for _, h := range opening {
		e.look(h)
	}
	return len(joined) + len(opening)
}
