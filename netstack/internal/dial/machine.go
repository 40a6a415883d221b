package dial

import "slices"

// Limit is how many bytes a handshake may receive, what is left over included.
const Limit = 64 << 10

// State is how far a handshake is.
type State int

// The states, as ns_rehearse returns them.
const (
	More   State = 0 // more bytes are needed
	Good   State = 1 // it is over, in the good way
	Handed State = 2 // something else was received
)

// Machine runs the steps of a course on the bytes that are received, in pieces of any size.
type Machine struct {
	course  *Course
	request []byte

	state    State
	step     int    // the one whose answer is waited for
	received []byte // everything
	begins   int    // where the answer to step begins
	fixed    int    // how many of its fixed bytes were compared
	head     head
	out      []byte
}

// Begin starts with a step: what there is to send is in Take.
func (m *Machine) Begin(course *Course, request []byte, first int) {
	m.course, m.request, m.step = course, request, first
	m.enter()
}

// Take returns what is to be sent now, once. It is called after Begin and each Receive.
func (m *Machine) Take() []byte {
	out := m.out
	m.out = nil
	return out
}

// State tells how far it is.
func (m *Machine) State() State { return m.state }

// Step is the number of the step whose answer was waited for last.
func (m *Machine) Step() int { return min(m.step, max(0, len(m.course.steps)-1)) }

// Received is everything that was received.
func (m *Machine) Received() []byte { return m.received }

// Leftover is what was received after the end of the handshake, if it was good.
func (m *Machine) Leftover() []byte { return m.received[m.begins:] }

// Room is how many bytes Receive takes.
func (m *Machine) Room() int { return Limit - len(m.received) }

// Receive takes the next bytes, at most Room.
func (m *Machine) Receive(p []byte) State {
	m.received = append(m.received, p...)
	for m.state == More {
		end, complete := m.look()
		if !complete {
			break
		}
		m.begins = end
		before := m.step
		m.step++
		m.enter()
		if end < len(m.received) && len(m.out) > 0 {
			// It cannot be the answer to what was not sent yet.
			m.state, m.step, m.out = Handed, before, nil
		}
	}
	if m.state == More && m.Room() == 0 {
		m.state = Handed
	}
	return m.state
}

// enter begins with step: it sends, up to the next one that waits for an answer.
func (m *Machine) enter() {
	m.fixed, m.head = 0, head{}
	for ; m.step < len(m.course.steps); m.step++ {
		s := &m.course.steps[m.step]
		switch {
		case s.own:
			m.out = slices.Concat(m.out, s.send, m.request)
		case len(m.out) == 0:
			m.out = s.send // nobody writes to it
		default:
			m.out = slices.Concat(m.out, s.send)
		}
		if s.expects() {
			return
		}
	}
	m.state = Good
}

// look finds the end of the answer to step, if all of it is there.
func (m *Machine) look() (end int, complete bool) {
	s := &m.course.steps[m.step]
	answer := m.received[m.begins:]
	for ; m.fixed < len(s.mask); m.fixed++ {
		if m.fixed == len(answer) {
			return 0, false
		}
		if answer[m.fixed]&s.mask[m.fixed] != s.value[m.fixed] {
			m.state = Handed
			return 0, false
		}
	}
	length := m.fixed
	switch s.tail {
	case tailSocksAddress:
		length, complete = socksLength(answer)
		if length < 0 {
			m.state = Handed
		}
	case tailHTTPHead:
		length, complete = m.head.read(answer)
		if length < 0 {
			m.state = Handed
		}
	default:
		complete = true
	}
	return m.begins + length, complete
}

// The types of a SOCKS5 address (RFC 1928, section 5), and the sizes of an address with its
// port.
const (
	socksIPv4, sizeIPv4 = 1, 4 + 2
	socksName, sizePort = 3, 2
	socksIPv6, sizeIPv6 = 4, 16 + 2
)

// socksLength is how long a SOCKS5 reply is, of which the fixed bytes are there; -1 if it
// is of an unknown type.
func socksLength(reply []byte) (length int, complete bool) {
	length = socksFixed
	switch reply[socksFixed-1] {
	case socksIPv4:
		length += sizeIPv4
	case socksIPv6:
		length += sizeIPv6
	case socksName:
		length++ // of the name's length
		if len(reply) >= length {
			length += int(reply[socksFixed]) + sizePort
		} else {
			return length, false
		}
	default:
		return -1, false
	}
	return length, len(reply) >= length
}

// Rehearse runs the steps on bytes that were all received at once.
func Rehearse(course *Course, first int, request, received []byte) (state State, sent []byte, used int) {
	var m Machine
	m.Begin(course, request, first)
	sent = m.Take()
	if m.state == More && len(received) > 0 {
		if len(received) > Limit {
			received = received[:Limit]
		}
		m.Receive(received)
		sent = append(sent, m.Take()...)
	}
	if m.state == Good {
		used = m.begins
	}
	return m.state, sent, used
}
