package sniff

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"math/rand"
	"strings"
	"testing"

	"nanotun/netstack/internal/snifftest"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The keys and the header's protection are those of RFC 9001, appendix A, and of RFC
// 9369, appendix A.
func TestKeys(t *testing.T) {
	destination := unhex(t, "8394c8f03e515708")
	secret := expand(unhex(t, "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea"), "quic key", 16)
	if got := hex.EncodeToString(secret); got != "1f369613dd76d5467730efcbe3b1a22d" {
		t.Errorf("key %s", got)
	}
	for version, want := range map[uint32][2]string{
		version1: {"fa044b2f42a3fd3b46fb255c", "437b9aec36"},
		version2: {"91f73e2351d8fa91660e909f", ""},
	} {
		o := newOpener(version, destination)
		if got := hex.EncodeToString(o.iv); got != want[0] {
			t.Errorf("version %x: iv %s", version, got)
		}
		var mask [aes.BlockSize]byte
		o.header.Encrypt(mask[:], unhex(t, "d1b1c98dd7689fb8ec11d242b123dc9b"))
		if got := hex.EncodeToString(mask[:5]); want[1] != "" && got != want[1] {
			t.Errorf("version %x: mask %s", version, got)
		}
	}
}

// exampleFrame is the CRYPTO frame of RFC 9001, A.2.
const exampleFrame = "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868" +
	"04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578" +
	"616d706c652e636f6dff01000100000a00080006001d00170018001000070005" +
	"04616c706e000500050100000000003300260024001d00209370b2c9caa47fba" +
	"baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b000302030400" +
	"0d0010000e0403050306030203080408050806002d00020101001c0002400100" +
	"3900320408ffffffffffffffff05048000ffff07048000ffff08011001048000" +
	"75300901100f088394c8f03e51570806048000ffff"

// seal makes an Initial packet.
func seal(version, number uint32, payload []byte) []byte {
	return snifftest.Initial{Version: version, Key: snifftest.Connection, Number: number, Payload: payload}.Seal()
}

// The packet of RFC 9001, A.2, names example.com.
func TestExample(t *testing.T) {
	payload := make([]byte, 1162)
	copy(payload, unhex(t, exampleFrame))
	packet := seal(version1, 2, payload)
	// So the packet that is made here is the one that is printed there.
	if got := hex.EncodeToString(packet[:34]); got != "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242" {
		t.Fatalf("%s", got)
	}
	var q QUIC
	if found, done := q.Add(packet); found.Name != "example.com" || !done {
		t.Errorf("%v, done: %t", found, done)
	}
	for i := range packet {
		var q QUIC
		if found, _ := q.Add(packet[:i]); found != (Finding{}) {
			t.Fatalf("%d of %d bytes: %v", i, len(packet), found)
		}
		changed := bytes.Clone(packet)
		changed[i] ^= 0x10
		if found, _ := new(QUIC).Add(changed); found != (Finding{}) {
			t.Fatalf("changed at %d: %v", i, found)
		}
	}
}

// A ClientHello is put together whatever the order of its pieces, with other frames
// between them, over datagrams and packets of either version.
func TestPieces(t *testing.T) {
	hello := snifftest.QUICHello(t, "quic.corp.example")
	for seed := range int64(200) {
		r := rand.New(rand.NewSource(seed))
		version := []uint32{version1, version2}[r.Intn(2)]
		var frames [][]byte
		for from := 0; from < len(hello); {
			to := min(len(hello), from+1+r.Intn(500))
			frames = append(frames, snifftest.Crypto(hello, from, to))
			from = to
		}
		frames = append(frames, []byte{framePing}, make([]byte, 30), []byte{frameACK, 5, 1, 1, 1, 0, 2}, []byte{frameACKECN, 5, 1, 0, 1, 1, 1, 1}, snifftest.Crypto(hello, 3, 40))
		r.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
		packets := make([][]byte, 1+r.Intn(3))
		for i, frame := range frames {
			k := i * len(packets) / len(frames)
			packets[k] = append(packets[k], frame...)
		}
		together := r.Intn(2) == 0
		var datagrams [][]byte
		for i, payload := range packets {
			packet := seal(version, uint32(i), payload)
			if together && i > 0 {
				datagrams[0] = append(datagrams[0], packet...)
				continue
			}
			datagrams = append(datagrams, packet)
		}
		var q QUIC
		for i, datagram := range datagrams {
			found, done := q.Add(datagram)
			switch last := i == len(datagrams)-1; {
			case done && found.Name != "quic.corp.example":
				t.Fatalf("seed %d: %v", seed, found)
			case last && !done:
				t.Fatalf("seed %d: more than all is asked for", seed)
			}
			if done {
				break
			}
		}
	}
}

// The keys are those of the first packet, though the server's answer brings another
// connection ID.
func TestLaterPackets(t *testing.T) {
	hello := snifftest.QUICHello(t, "quic.corp.example")
	var q QUIC
	if found, done := q.Add(seal(version1, 0, snifftest.Crypto(hello, 0, 100))); done {
		t.Fatalf("%v", found)
	}
	if found, done := q.Add(snifftest.Initial{
		Version: version1, Key: snifftest.Connection, Destination: []byte("other"), Number: 1,
		Payload: snifftest.Crypto(hello, 100, len(hello)),
	}.Seal()); found.Name != "quic.corp.example" || !done {
		t.Errorf("%v, done: %t", found, done)
	}
}

// What follows the Initial packet in its datagram does not matter.
func TestCoalesced(t *testing.T) {
	hello := snifftest.QUICHello(t, "quic.corp.example")
	packet := seal(version1, 0, snifftest.Crypto(hello, 0, len(hello)))
	zeroRTT := append([]byte{0b11010000}, packet[1:]...)
	for _, after := range [][]byte{zeroRTT, make([]byte, 100), []byte("\x40"), {0xc0}} {
		if found, done := new(QUIC).Add(append(bytes.Clone(packet), after...)); found.Name != "quic.corp.example" || !done {
			t.Errorf("%x: %v, done: %t", after[:1], found, done)
		}
	}
}

// Everything else has no name, and nothing more is waited for.
func TestNoQUIC(t *testing.T) {
	hello := snifftest.QUICHello(t, "quic.corp.example")
	whole := snifftest.Crypto(hello, 0, len(hello))
	sealed := func(payload []byte) []byte { return seal(version1, 0, payload) }
	server := bytes.Clone(hello)
	server[0] = 2
	for what, datagram := range map[string][]byte{
		"nothing":          {},
		"a DNS query":      []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01"),
		"a short header":   append([]byte{0x43}, sealed(whole)[1:]...),
		"0-RTT":            append([]byte{0xd3}, sealed(whole)[1:]...),
		"another version":  append([]byte("\xc3\x00\x00\x00\x02"), sealed(whole)[5:]...),
		"no packet number": []byte("\xc3\x00\x00\x00\x01\x00\x00\x00\x00"),
		"other keys":       snifftest.Initial{Version: version1, Key: []byte("other"), Destination: snifftest.Connection, Payload: whole}.Seal(),
		"a STREAM frame":   sealed(append([]byte{8}, whole...)),
		"a cut frame":      sealed(whole[:len(whole)-1]),
		"far too long":     sealed([]byte("\x06\x80\xff\xff\xff\x01a")),
		"a ServerHello":    sealed(snifftest.Crypto(server, 0, len(server))),
		"16 MB":            sealed([]byte("\x06\x00\x04\x01\xff\xff\xff")),
		"noise":            []byte(strings.Repeat("\xff", 1200)),
	} {
		if found, done := new(QUIC).Add(datagram); found != (Finding{}) || !done {
			if what == "nothing" && !done {
				continue
			}
			t.Errorf("%s: %v, done: %t", what, found, done)
		}
	}
}

// A client that never ends its ClientHello is not waited for.
func TestEndless(t *testing.T) {
	hello := snifftest.QUICHello(t, "quic.corp.example")
	var q QUIC
	for i := range maxDatagrams {
		found, done := q.Add(seal(version1, uint32(i), snifftest.Crypto(hello, 0, 100)))
		if found != (Finding{}) || done != (i == maxDatagrams-1) {
			t.Errorf("datagram %d: %v, done: %t", i, found, done)
		}
	}
}

// Nothing that an app can send makes it panic, encrypted or not.
func FuzzQUIC(f *testing.F) {
	hello := snifftest.QUICHello(f, "quic.corp.example")
	f.Add(snifftest.Crypto(hello, 0, len(hello)), true)
	f.Add(seal(version1, 0, snifftest.Crypto(hello, 0, len(hello))), false)
	f.Add([]byte{frameACK, 0xff, 0xff, 0xff}, true)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if sealed {
			if len(b) > 1<<13 {
				return
			}
			b = seal(version1, 0, b)
		}
		new(QUIC).Add(b)
	})
}
