package listing

import (
	"sync"
	"time"
)

// fresh is how old a list may be when a page of it is given out.
const fresh = time.Second

// Pages gives out a list page by page: all tables are walked for the first one, and not again
// for the others if they are asked for soon enough.
type Pages struct {
	mu    sync.Mutex
	rest  []Flow // what is to come, after the flow of the id last
	last  uint64
	timer *time.Timer
}

// Page returns the flows with the lowest ids above after, limit of them at most. list makes
// the list of all that are above after.
func (p *Pages) Page(after uint64, limit int, list func() []Flow) []Flow {
	if limit <= 0 {
		return nil
	}
	rest := p.take(after)
	if rest == nil {
		rest = list()
		if len(rest) > limit {
			p.expire(fresh)
		}
	}
	if len(rest) <= limit {
		return rest
	}
	p.keep(rest[limit:], rest[limit-1].ID)
	return rest[:limit]
}

// take returns what is to come after a flow; nil says that this is not known.
func (p *Pages) take(after uint64) (rest []Flow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rest != nil && p.last == after {
		rest, p.rest = p.rest, nil
	}
	return rest
}

func (p *Pages) keep(rest []Flow, last uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest, p.last = rest, last
}

// expire has what is to come be dropped after a while.
func (p *Pages) expire(after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil {
		p.timer = time.AfterFunc(after, p.Drop)
		return
	}
	p.timer.Reset(after)
}

// Drop gives up what is to come.
func (p *Pages) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = nil
}

// Close ends the timer.
func (p *Pages) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
}
