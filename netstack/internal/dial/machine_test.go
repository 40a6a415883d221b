package dial

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

var request = []byte("REQUEST")

func exactly(p string) (mask, value []byte) { return bytes.Repeat([]byte{0xff}, len(p)), []byte(p) }

func answered(send, answer string, own bool) step {
	mask, value := exactly(answer)
	return step{send: []byte(send), own: own, mask: mask, value: value}
}

// socksReply is the step whose answer is a reply of SOCKS5.
func socksReply(own bool) step {
	return step{own: own, mask: []byte{0xff, 0xff, 0, 0}, value: []byte{5, 0, 0, 0}, tail: tailSocksAddress}
}

func socks5Steps() []step {
	return []step{answered("\x05\x01\x00", "\x05\x00", false), socksReply(true)}
}

// golden is a conversation that goes well.
type golden struct {
	name  string
	steps []step
	turns []turn
}

// turn is what is sent, and what is received then.
type turn struct{ sent, answer string }

const (
	reply4    = "\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38"
	reply6    = "\x05\x00\x00\x04\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x04\x38"
	replyName = "\x05\x00\xff\x03\x07example\x04\x38"
	answer200 = "HTTP/1.1 200 Connection established\r\nVia: 1.1 x\r\nContent-Length: 0\r\nProxy-Agent:\tx y\t\r\n\r\n"
)

func goldens() []golden {
	socks4 := step{own: true, mask: []byte{0xfb, 0xff, 0, 0, 0, 0, 0, 0}, value: []byte{0, 90, 0, 0, 0, 0, 0, 0}}
	http := func(fixed string) step {
		s := answered("", fixed, true)
		s.tail = tailHTTPHead
		return s
	}
	logIn := step{send: []byte("\x01\x01u\x01p"), mask: []byte{0, 0xff}, value: []byte{0, 0}}
	all := []golden{
		{"socks5", socks5Steps(), []turn{{"\x05\x01\x00", "\x05\x00"}, {"REQUEST", reply4}}},
		{"socks5-6", socks5Steps(), []turn{{"\x05\x01\x00", "\x05\x00"}, {"REQUEST", reply6}}},
		{"socks5-name", socks5Steps(), []turn{{"\x05\x01\x00", "\x05\x00"}, {"REQUEST", replyName}}},
		{
			"socks5-login",
			[]step{answered("\x05\x02\x00\x02", "\x05\x02", false), logIn, socksReply(true)},
			[]turn{{"\x05\x02\x00\x02", "\x05\x02"}, {"\x01\x01u\x01p", "\x01\x00"}, {"REQUEST", reply4}},
		},
		{
			"socks5-pipelined",
			[]step{answered("\x05\x01\x00", "\x05\x00", true), socksReply(false)},
			[]turn{{"\x05\x01\x00REQUEST", "\x05\x00" + reply4}},
		},
		{"socks4", []step{socks4}, []turn{{"REQUEST", "\x00\x5a123456"}}},
		{"http", []step{http("")}, []turn{{"REQUEST", answer200}}},
		{"http-fixed", []step{http("HTTP/1.")}, []turn{{"REQUEST", "HTTP/1.0 299\r\n\r\n"}}},
		{"http-reason", []step{http("HTTP/1.")}, []turn{{"REQUEST", "HTTP/1.1 200 \r\n\r\n"}}},
		{"silent-end", []step{answered("a", "b", false), {send: []byte("c")}}, []turn{{"a", "b"}, {"c", ""}}},
		{"silent-begin", []step{{send: []byte("a")}, {own: true}, answered("b", "c", false)}, []turn{{"aREQUESTb", "c"}}},
	}
	return all
}

func (g *golden) course() *Course { return &Course{steps: g.steps} }

// outcome is all that can be seen of a machine.
type outcome struct {
	state    State
	sent     string
	leftover string
}

// rehearse gives a machine each answer after what is sent for it, in pieces of these sizes.
func rehearse(t *testing.T, c *Course, answers []string, size func() int) (o outcome) {
	t.Helper()
	var m Machine
	m.Begin(c, request, 0)
	o.sent = string(m.Take())
	for _, answer := range answers {
		for len(answer) > 0 && m.State() == More {
			n := min(size(), len(answer))
			m.Receive([]byte(answer[:n]))
			o.sent += string(m.Take())
			answer = answer[n:]
		}
		if m.State() != More {
			o.leftover = answer // as what is read later
		}
	}
	o.state = m.State()
	if o.state == Good {
		o.leftover = string(m.Leftover()) + o.leftover
	} else {
		o.leftover = ""
	}
	if all, got := strings.Join(answers, ""), string(m.Received()); !strings.HasPrefix(all, got) {
		t.Fatalf("received %q of %q", got, all)
	}
	return o
}

func bytewise() int { return 1 }

func whole() int { return 1 << 20 }

func (g *golden) answers(last string) (answers []string) {
	for i, turn := range g.turns {
		answers = append(answers, turn.answer)
		if i == len(g.turns)-1 {
			answers[i] += last
		}
	}
	return answers
}

// Every conversation that goes well is good, however it is cut, with what follows left over;
// and each part of one needs more.
func TestGolden(t *testing.T) {
	for _, g := range goldens() {
		if g.name == "silent-end" {
			continue // nothing may follow its last answer
		}
		sent := ""
		for _, turn := range g.turns {
			sent += turn.sent
		}
		random := rand.New(rand.NewPCG(1, 2))
		for _, last := range []string{"", "x", "left\r\nover"} {
			for name, size := range map[string]func() int{
				"bytewise": bytewise, "whole": whole, "random": func() int { return 1 + random.IntN(9) },
			} {
				got := rehearse(t, g.course(), g.answers(last), size)
				if want := (outcome{Good, sent, last}); got != want {
					t.Errorf("%s, %s: %+v, not %+v", g.name, name, got, want)
				}
			}
		}
		answers := g.answers("")
		for i, answer := range answers {
			for n := range len(answer) {
				part := append(append([]string{}, answers[:i]...), answer[:n])
				if got := rehearse(t, g.course(), part, whole); got.state != More {
					t.Errorf("%s: %d is the state after %q", g.name, got.state, part)
				}
			}
		}
	}
}

// What is sent last, without an answer, is sent before the handshake is good.
func TestSilentEnd(t *testing.T) {
	for _, g := range goldens() {
		if g.name != "silent-end" {
			continue
		}
		if got := rehearse(t, g.course(), []string{"b"}, whole); got != (outcome{Good, "ac", ""}) {
			t.Errorf("%+v", got)
		}
		if got := rehearse(t, g.course(), []string{"bx"}, whole); got != (outcome{Handed, "a", ""}) {
			t.Errorf("early bytes: %+v", got)
		}
	}
}

// A conversation with one byte changed is judged the same in one piece and byte by byte.
func TestMutations(t *testing.T) {
	for _, g := range goldens() {
		for turn := range g.turns {
			for at := range len(g.turns[turn].answer) {
				for b := range 256 {
					answers := g.answers("left over")
					if g.name == "silent-end" {
						answers = g.answers("")
					}
					changed := []byte(answers[turn])
					changed[at] = byte(b)
					answers[turn] = string(changed)
					one, many := rehearse(t, g.course(), answers, whole), rehearse(t, g.course(), answers, bytewise)
					if one != many {
						t.Fatalf("%s: %q is %+v in one piece and %+v byte by byte", g.name, answers, one, many)
					}
				}
			}
		}
	}
}

// A wrong byte is told as soon as it is there.
func TestAtOnce(t *testing.T) {
	socks, http := &Course{steps: socks5Steps()}, &Course{steps: []step{{own: true, tail: tailHTTPHead}}}
	for _, each := range []struct {
		course *Course
		answer string
	}{
		{socks, "\x04"}, {socks, "\x05\xff"}, {http, "\x15"}, {http, "HTTP/2"}, {http, "HTTP/1.1 4"}, {http, "HTTP/1.1 1"},
		{http, "HTTP/1.1 200 OK\x00"}, {http, "HTTP/1.1 2000"}, {http, "HTTP/1.1 200 OK\n"},
	} {
		all := each.answer
		for n := range len(all) {
			if got := rehearse(t, each.course, []string{all[:n]}, whole); got.state != More {
				t.Errorf("%q is %d", all[:n], got.state)
			}
		}
		if got := rehearse(t, each.course, []string{all}, whole); got.state != Handed {
			t.Errorf("%q is %d", all, got.state)
		}
	}
}

// A reply with an address of an unknown type is handed on before the address.
func TestUnknownAddress(t *testing.T) {
	c := &Course{steps: []step{socksReply(true)}}
	for kind := range 256 {
		got := rehearse(t, c, []string{"\x05\x00\x00" + string([]byte{byte(kind)})}, bytewise)
		want := pick(kind == 1 || kind == 3 || kind == 4, More, Handed)
		if got.state != want {
			t.Errorf("type %d: %d", kind, got.state)
		}
	}
}

// A head that parsers differ about is handed on, and one that they do not is good.
func TestHeads(t *testing.T) {
	c := &Course{steps: []step{{own: true, tail: tailHTTPHead}}}
	fields := func(n int) string { return "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", n) + "\r\n" }
	size := func(n int) string {
		const frame = "HTTP/1.1 200 OK\r\nA: \r\n\r\n"
		return "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", n-len(frame)) + "\r\n\r\n"
	}
	for text, want := range map[string]State{
		"HTTP/1.1 200 OK\r\nA: b\r\n\r\n":                                           Good,
		"HTTP/1.0 200\r\n\r\n":                                                      Good,
		"HTTP/1.1 206 \t~ \r\nA:\r\nB: \t \r\n!#$%&'*+-.^_`|~: x\r\n\r\n":           Good,
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n":                              Good,
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n":                      Handed,
		"HTTP/1.1 407 No\r\n\r\n":                                                   Handed,
		"HTTP/1.2 200 OK\r\n\r\n":                                                   Handed,
		"http/1.1 200 OK\r\n\r\n":                                                   Handed,
		"HTTP/1.1  200 OK\r\n\r\n":                                                  Handed,
		"HTTP/1.1 20\r\n\r\n":                                                       Handed,
		"HTTP/1.1 200\tOK\r\n\r\n":                                                  Handed,
		"HTTP/1.1 200 \x80\r\n\r\n":                                                 Handed,
		"\r\nHTTP/1.1 200 OK\r\n\r\n":                                               Handed,
		"HTTP/1.1 200 OK\n\n":                                                       Handed,
		"HTTP/1.1 200 OK\r\nA: b\n\r\n":                                             Handed,
		"HTTP/1.1 200 OK\r\nA: b\r\n\n":                                             Handed,
		"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n":                                     Handed,
		"HTTP/1.1 200 OK\r\n A: b\r\n\r\n":                                          Handed,
		"HTTP/1.1 200 OK\r\nA : b\r\n\r\n":                                          Handed,
		"HTTP/1.1 200 OK\r\n: b\r\n\r\n":                                            Handed,
		"HTTP/1.1 200 OK\r\nA\r\n\r\n":                                              Handed,
		"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n":                                        Handed,
		"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n":                                        Handed,
		"HTTP/1.1 200 OK\r\nA: \xe4\r\n\r\n":                                        Handed,
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n":                              Handed,
		"HTTP/1.1 200 OK\r\ncontent-LENGTH:\r\n\r\n":                                Handed,
		"HTTP/1.1 200 OK\r\nContent-Length: 1234567890123456789\r\n\r\n":            Handed,
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n":         Handed,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n":                        Handed,
		"HTTP/1.1 200 OK\r\nA: b\r\n" + strings.Repeat("x", 10) + "\x7f: b\r\n\r\n": Handed,
		fields(fieldLimit):                                                          Good,
		fields(fieldLimit + 1):                                                      Handed,
		size(Limit):                                                                 Good,
		size(Limit + 1):                                                             Handed,
	} {
		for _, pieces := range []func() int{whole, bytewise} {
			if pieces() > 1 && len(text) > Limit {
				continue // nobody gives a machine more than it takes
			}
			if got := rehearse(t, c, []string{text}, pieces); got.state != want {
				t.Errorf("%.60q of %d bytes is %d", text, len(text), got.state)
			}
		}
	}
}

// Bytes that come before what they should answer was sent are handed on, and the rest is
// not sent.
func TestEarlyBytes(t *testing.T) {
	c := &Course{steps: socks5Steps()}
	var m Machine
	m.Begin(c, request, 0)
	m.Take()
	if m.Receive([]byte("\x05\x00\x05")) != Handed || m.Take() != nil || m.Step() != 0 || string(m.Received()) != "\x05\x00\x05" {
		t.Errorf("%+v", m)
	}
}

// On a connection that waited, the handshake begins with a later step.
func TestFirst(t *testing.T) {
	state, sent, used := Rehearse(&Course{steps: socks5Steps()}, 1, request, []byte(reply4+"x"))
	if state != Good || string(sent) != "REQUEST" || used != len(reply4) {
		t.Errorf("%d, %q, %d", state, sent, used)
	}
}

// Without steps, a connection is enough.
func TestNoSteps(t *testing.T) {
	if state, sent, used := Rehearse(&Course{}, 0, request, []byte("x")); state != Good || len(sent) > 0 || used != 0 {
		t.Errorf("%d, %q, %d", state, sent, used)
	}
}

// No bytes make a machine panic, take more than it may or judge pieces differently from
// the whole, unless they were early.
func FuzzMachine(f *testing.F) {
	all := goldens()
	for i, g := range all {
		for _, turn := range g.turns {
			f.Add(uint8(i), uint16(3), []byte(turn.answer))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, cut uint16, received []byte) {
		c := all[int(which)%len(all)].course()
		if len(received) > Limit {
			received = received[:Limit]
		}
		var m Machine
		m.Begin(c, request, 0)
		m.Take()
		one := m.Receive(received)
		early := one == Handed && m.begins > 0
		var pieces Machine
		pieces.Begin(c, request, 0)
		pieces.Take()
		for left := received; len(left) > 0 && pieces.State() == More; {
			n := min(len(left), int(cut)%7+1)
			pieces.Receive(left[:n])
			pieces.Take()
			left = left[n:]
		}
		if pieces.State() != one && !early {
			t.Fatalf("%d in pieces, %d whole: %q", pieces.State(), one, received)
		}
		if one == Good && (pieces.begins != m.begins || m.begins > len(received)) {
			t.Fatal(fmt.Sprint(pieces.begins, m.begins))
		}
	})
}
