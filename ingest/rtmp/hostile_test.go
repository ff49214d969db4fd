package rtmp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"headwater/ingest"
	"headwater/ingest/amf0"
)

func join(bs ...[]byte) []byte { return bytes.Join(bs, nil) }

func raw(typ uint8, stream uint32, payload string) []byte {
	return appendMessage(nil, 3, typ, stream, []byte(payload), defaultChunkSize)
}

var (
	connected = commandBytes(0, "connect", 1, connectObject)
	published = join(connected, commandBytes(0, "createStream", 2, nil), commandBytes(1, "publish", 3, nil, "demo", "live"))
)

// connectWith is a connect whose object has one more member, given as its bytes.
func connectWith(member string) []byte {
	p := amf0.Append(amf0.Append(nil, "connect"), 1)
	p = append(p, "\x03\x00\x03app\x02\x00\x04live\x00\x01x"+member+"\x00\x00\x09"...)
	return appendMessage(nil, 3, typeCommandAMF0, 0, p, defaultChunkSize)
}

func randomBytes() []byte {
	b := make([]byte, 64<<10)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// hostile are inputs after the handshake that each end no more than their own connection. reason is what the log says;
// "" are those that are taken, and go on.
var hostile = []struct {
	name   string
	in     []byte
	reason string
}{
	{"zero-length message, then any byte", join(published, wire(piece{csid: 4, typ: 9, stream: 1}), []byte{0x45}), ""},
	{"zero-length command", join(connected, wire(piece{csid: 4, typ: 20})), "nothing in it"},
	{"Set Chunk Size 0", join(connected, raw(1, 0, "\x00\x00\x00\x00")), "chunk size 0x0"},
	{"Set Chunk Size 1", join(connected, raw(1, 0, "\x00\x00\x00\x01"), wire(piece{csid: 4, length: 1, typ: 9, data: "x"})), ""},
	{"Set Chunk Size, high bit", join(connected, raw(1, 0, "\x80\x00\x00\x80")), "chunk size 0x80000080"},
	{"empty audio", join(published, wire(piece{csid: 4, typ: 8, stream: 1})), ""},
	{"empty video", join(published, wire(piece{csid: 4, typ: 9, stream: 1})), ""},
	{"AMF date in connect", connectWith("\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), ""},
	{"AMF strict array in connect", connectWith("\x0a\x00\x00\x00\x02\x05\x05"), ""},
	{"AMF strict array of four billion in connect", connectWith("\x0a\xff\xff\xff\xff\x05\x05"), "array of 4294967295 values"},
	{"AMF object in connect", connectWith("\x03\x00\x01a\x05\x00\x00\x09"), ""},
	{"AMF object 10,000 deep in connect", connectWith(strings.Repeat("\x03\x00\x01a", 10_000)), "nested deeper than 16"},
	{"AMF reference in connect", connectWith("\x07\x00\x00"), "reference"},
	{"string longer than its message", raw(20, 0, "\x02\xff\xffconnect"), "string of 65535 bytes"},
	{"string longer than its message, in connect", connectWith("\x02\xff\xffabc"), "string of 65535 bytes"},
	{"command name a number", raw(20, 0, "\x00\x3f\xf0\x00\x00\x00\x00\x00\x00"), "its name is not a string"},
	{"command name null", raw(20, 0, "\x05"), "its name is not a string"},
	{"command without transaction", raw(20, 0, "\x02\x00\x07connect"), "connect names no application"},
	{"transaction a string", commandBytes(0, "connect", "one", connectObject), ""},
	{"unknown command with arguments that do not decode", join(connected, raw(20, 0, "\x02\x00\x03foo\x11\x01")), ""},
	{"publish without arguments", join(connected, commandBytes(1, "publish", 3)), "not a valid stream name"},
	{"publish before connect", commandBytes(1, "publish", 3, nil, "demo"), "publish before connect"},
	{"connect twice", join(connected, connected), "connect a second time"},
	{"publish twice", join(published, commandBytes(1, "publish", 3, nil, "demo")), "publishing live/demo already"},
	{"app not a string", commandBytes(0, "connect", 1, amf0.Object{"app": []any{"live"}}), "connect names no application"},
	{"16 MB announced before publishing", join(connected, wire(piece{csid: 4, length: 0xffffff, typ: 9, data: a128})), "message of 16777215 bytes"},
	{"16 MB announced while publishing", join(published, wire(piece{csid: 4, length: 0xffffff, typ: 9, data: a128})), "message of 16777215 bytes"},
	{"65,000 chunk streams", join(published, wire(manyStreams()...)), "more than 64 chunk streams"},
	{"type 3 chunk first", []byte{0xc5, 1, 2, 3}, "compressed header first"},
	{"streams without end", join(connected, bytes.Repeat(commandBytes(0, "createStream", 2, nil), maxStreams+1)), "streams created"},
	{"name with dots", join(connected, commandBytes(1, "publish", 3, nil, "../../etc/passwd")), "not a valid stream name"},
	{"name with percent escapes", join(connected, commandBytes(1, "publish", 3, nil, "%2e%2e")), "percent"},
	{"name with control characters", join(connected, commandBytes(1, "publish", 3, nil, "a\x00\nb")), "control character"},
	{"name of 10 KB", join(connected, commandBytes(1, "publish", 3, nil, strings.Repeat("a", 10<<10))), "10245 bytes"},
	{"random bytes", randomBytes(), "rtmp chunk: "},
	{"AMF 3 command that is empty", join(connected, raw(17, 0, "")), "nothing in it"},
	{"AMF 3 values in earnest", join(connected, raw(17, 0, "\x11\x06\x0fconnect")), "AMF 3 value"},
	{"Window Acknowledgement Size, short", join(connected, raw(5, 0, "\x00")), "control message 5 of 1 bytes"},
	{"Set Peer Bandwidth, short", join(connected, raw(6, 0, "")), "control message 6 of 0 bytes"},
	{"Window Acknowledgement Size 0", join(connected, raw(5, 0, "\x00\x00\x00\x00"), raw(8, 1, a128)), ""},
	{"unpublish of nothing", join(connected, commandBytes(0, "FCUnpublish", 2, nil, "x"), commandBytes(0, "deleteStream", 3, nil, 1)), ""},
	{"deleteStream of a name", join(published, commandBytes(0, "deleteStream", 3, nil, "demo")), ""},
	{"aggregate of garbage", join(published, raw(22, 1, a128)), "rtmp aggregate"},
}

func manyStreams() []piece {
	ps := make([]piece, 65_000)
	for i := range ps {
		ps[i] = piece{csid: 2 + i, length: 1 << 20, typ: 9, stream: 1, data: a128}
	}
	return ps
}

// gated is a server behind a real Gate.
func gated() testServer {
	s := newServer()
	s.Publisher = &ingest.Gate{Target: s.rec.target}
	return s
}

func TestHostile(t *testing.T) {
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			s := gated()
			p := dialTCP(t, s.Server).hello()
			p.send(c.in)
			p.nc.(*net.TCPConn).CloseWrite()
			p.end()
			log := s.log.String()
			if strings.Count(log, "\n") != 1 || len(log) > 1000 {
				t.Errorf("logged %q", log)
			}
			ok := strings.Contains(log, errLost.Error()) || strings.Contains(log, errNothing.Error()) || strings.Contains(log, "unpublished")
			if c.reason == "" && !ok || c.reason != "" && !strings.Contains(log, c.reason) {
				t.Errorf("logged %q, want %q", log, c.reason)
			}
			if n := s.Stats().FormatErrors + s.Stats().Refused; (n == 1) != (c.reason != "") || s.Stats().Recovered != 0 {
				t.Errorf("%+v", s.Stats())
			}
			if len(s.rec.closed) > len(s.rec.requests) || s.Publisher.(*ingest.Gate).Stats().Live != 0 {
				t.Errorf("%+v", s.rec.closed)
			}
			dial(t, s.Server).hello().connect().publish("demo").hangUp()
		})
	}
}

// Who stalls, at whatever point, is through after the time allowed for that, and so is who keeps one byte a second coming.
func TestTimeouts(t *testing.T) {
	announce := wire(piece{csid: 4, length: MaxMessage, typ: 9, stream: 1, data: a128})
	trickle := bytes.Repeat(append([]byte{0xc4}, a128...), 10)
	idle := DefaultIdleTimeout
	for _, c := range []struct {
		name    string
		in      []byte // at once
		trickle []byte // a byte a second
		phase   string
		min     time.Duration
		max     time.Duration
	}{
		{"nothing", nil, nil, "handshake", DefaultHandshakeTimeout, DefaultHandshakeTimeout},
		{"handshake byte by byte", nil, hello(3, simpleC1()), "handshake", DefaultHandshakeTimeout, DefaultHandshakeTimeout},
		{"nothing after the handshake", hello(3, simpleC1()), nil, "publish request", idle, idle},
		{"connect byte by byte", hello(3, simpleC1()), connected, "publish request", idle, idle},
		{"pings but no publish", hello(3, simpleC1()), bytes.Repeat([]byte{2, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0}, 9), "publish request", idle, idle},
		{"nothing after publish", join(hello(3, simpleC1()), published), nil, "message", idle, idle + idle/8},
		{"message announced and stalled", join(hello(3, simpleC1()), published, announce), nil, "message", idle, idle + idle/8},
		{"message byte by byte", join(hello(3, simpleC1()), published, announce), trickle, "message", idle, idle + idle/4},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := gated()
				p := dial(t, s.Server)
				start := time.Now()
				go func() {
					b := make([]byte, 4096)
					for {
						if _, err := p.nc.Read(b); err != nil {
							return
						}
					}
				}()
				p.send(c.in)
				var trickling sync.WaitGroup
				defer trickling.Wait()
				trickling.Go(func() {
					for _, b := range c.trickle {
						time.Sleep(time.Second)
						if _, err := p.nc.Write([]byte{b}); err != nil {
							return
						}
					}
				})
				p.endWithin(c.max + time.Second)
				if d := time.Since(start); d < c.min || d > c.max {
					t.Errorf("took %v, want %v to %v", d, c.min, c.max)
				}
				if st := s.Stats(); st.Timeouts != 1 || !strings.Contains(s.log.String(), "no "+c.phase+" in time") {
					t.Errorf("%+v %s", st, s.log)
				}
			})
		})
	}
}

func (p *peer) endWithin(d time.Duration) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(d):
		p.t.Error("the connection does not end")
	}
	p.nc.Close()
	<-p.ended
}

// A publisher that sends slowly, but whole messages, goes on for as long as it likes.
func TestSlowPublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		p := dial(t, s.Server).hello().connect().publish("demo")
		for range 100 {
			time.Sleep(DefaultIdleTimeout - time.Second)
			p.pieces(whole(8, 1, "x"))
		}
		p.hangUp()
		if len(s.rec.calls) != 100 || !errors.Is(s.rec.closed[0], errLost) {
			t.Errorf("%d messages, %v", len(s.rec.calls), s.rec.closed)
		}
		if a := s.rec.arrived; a[1]-a[0] != int64(DefaultIdleTimeout-time.Second) {
			t.Errorf("arrived at %d and %d", a[0], a[1])
		}
	})
}

// A peer that takes no replies does not hold the connection longer than the write timeout.
func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		p := dial(t, s.Server)
		p.send(hello(3, simpleC1())[:1+handshakeSize])
		start := time.Now()
		p.endWithin(time.Minute)
		if d := time.Since(start); d != DefaultWriteTimeout || s.Stats().Timeouts != 1 {
			t.Errorf("%v %s", d, s.log)
		}
	})
}

// We acknowledge often enough for a sender that stops at its window, and the count wraps.
func TestAcknowledgement(t *testing.T) {
	s := newServer()
	p := dial(t, s.Server).hello().connect()
	const window = 20_000
	p.pieces(whole(5, 0, string(binary.BigEndian.AppendUint32(nil, window))))
	p.publish("demo")
	acked, sent := 0, 0
	for sent < 10*window {
		p.pieces(whole(9, 1, a128))
		sent += len(a128) + 12
		if sent-acked > window-200 {
			p.expect("3 ")
			acked += window / 2
		}
	}
	p.hangUp()

	c := newConn(s.Server, nil)
	c.received = 1<<32 + 5
	c.control(typeAcknowledgement, uint32(c.received))
	if !bytes.HasSuffix(c.out, []byte{0, 0, 0, 5}) {
		t.Errorf("%x", c.out)
	}
}

// A thousand connections that each stall in a message hold a bounded amount.
func TestMemoryOfStalledConnections(t *testing.T) {
	const n = 200
	s := newServer()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peers := make([]*peer, n)
	for i := range peers {
		p := dial(t, s.Server)
		p.replies = nil
		go func() { // a quiet reader: what it holds must not count
			var b [64]byte
			for {
				if _, err := p.nc.Read(b[:]); err != nil {
					return
				}
			}
		}()
		p.send(hello(3, simpleC1()))
		p.send(connected)
		p.send(wire(piece{csid: 4, length: MaxCommand, typ: 9, data: a128}))
		peers[i] = p
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if per := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n; per > 32<<10 {
		t.Errorf("%d bytes a connection", per)
	}
	for _, p := range peers {
		p.hangUp()
	}
}

// A flood ends its connection, what an encoder may send does not, however long it goes on.
func TestMaxRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := gated()
		s.MaxRate = 3000
		p := dial(t, s.Server).hello().connect().publish("demo")
		second := wire(piece{csid: 4, length: 1500, typ: 8, stream: 1, data: "\xaf\x01" + strings.Repeat("x", 126)})
		for range 11 {
			second = append(second, 0xc4)
			second = append(second, strings.Repeat("x", 128)...)
		}
		second = second[:len(second)-(128*12-1500)]
		for range 60 {
			p.send(second)
			time.Sleep(time.Second)
		}
		if len(s.rec.closed) > 0 {
			t.Fatalf("ended: %s", s.log)
		}
		for range 16 {
			p.send(second)
		}
		p.end()
		if log := s.log.String(); !strings.Contains(log, "no encoder sends so much") || s.Stats().FormatErrors != 1 {
			t.Errorf("logged %q", log)
		}
	})
}
