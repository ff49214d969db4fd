package rtmp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"headwater/ingest"
	"headwater/ingest/amf0"
	"headwater/segmenter/media"
)

// The whole conversation of FMLE, Wirecast, OBS and ffmpeg, answer by answer.
func TestFMLESequence(t *testing.T) {
	s := newServer()
	p := dial(t, s.Server).hello()
	p.command(0, "connect", 1, connectObject)
	p.expect("5 002625a0", "6 002625a002", "1 00001000", resultConnect)
	p.command(0, "releaseStream", 2, nil, "demo?key=Ab")
	p.expect("0:_result 2 <nil> <nil>")
	p.command(0, "FCPublish", 3, nil, "demo?key=Ab")
	p.expect("0:_result 3 <nil> <nil>")
	p.command(0, "createStream", 4, nil)
	p.expect("0:_result 4 <nil> 1")
	p.command(0, "_checkbw", 5, nil)
	p.command(0, "getStreamLength", 6, nil, "demo")
	p.expect("0:_error 6 <nil> error NetConnection.Call.Failed")
	p.command(0, "nobodyKnowsThis", 0, nil)
	p.command(1, "publish", 7, nil, "demo?key=Ab", "live")
	p.expect("0:onFCPublish 0 <nil> status NetStream.Publish.Start", startOnStream)
	p.pieces(
		whole(18, 1, string(amf0.Append(amf0.Append(nil, "@setDataFrame"), "onMetaData"))),
		piece{csid: 4, time: 10, length: 3, typ: 9, stream: 1, data: "vid"},
		piece{csid: 5, time: 12, length: 3, typ: 8, stream: 1, data: "aud"},
		piece{csid: 5, time: 13, length: 3, typ: 8, stream: 9, data: "not this stream"[:3]},
		piece{csid: 5, time: 13, typ: 8, stream: 1}, // empty
		piece{csid: 5, time: 13, typ: 9, stream: 1},
	)
	p.command(0, "FCUnpublish", 8, nil, "demo")
	p.expect("0:onFCUnpublish 0 <nil> status NetStream.Unpublish.Success", "0:_result 8 <nil> <nil>",
		"1:onStatus 0 <nil> status NetStream.Unpublish.Success")
	p.command(0, "deleteStream", 9, nil, 1)
	p.pieces(piece{csid: 4, time: 50, length: 3, typ: 9, stream: 1, data: "too late"[:3]})
	p.hangUp()

	if d := cmp.Diff([]call{
		{"data", 0, "\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData"}, {"video", 10, "vid"}, {"audio", 12, "aud"},
	}, s.rec.calls); d != "" {
		t.Error(d)
	}
	if len(s.rec.closed) != 1 || s.rec.closed[0] != nil {
		t.Errorf("closed with %v", s.rec.closed)
	}
	r := s.rec.requests[0]
	if r.Protocol != "rtmp" || r.Name != "live/demo" || r.Key != "Ab" || r.Remote != "pipe" || r.Kick == nil {
		t.Errorf("%+v", r)
	}
	log := s.log.String()
	if strings.Contains(log, "Ab") || strings.Count(log, "\n") != 1 || !strings.Contains(log, "level=INFO") ||
		!strings.Contains(log, "stream=live/demo") || !strings.Contains(log, "reason=unpublished") {
		t.Error(log)
	}
	if st := s.Stats(); st.Connections != 1 || st.Active != 0 || st.Messages != 17 || st.Bytes < 3073 || st.FormatErrors+st.Refused != 0 {
		t.Errorf("%+v", st)
	}
}

// How publications end, and what the Writer is told.
func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(p *peer)
		want error
	}{
		{"deleteStream", func(p *peer) { p.command(0, "deleteStream", 0, nil, 1) }, nil},
		{"closeStream", func(p *peer) { p.command(1, "closeStream", 0, nil) }, nil},
		{"FCUnpublish", func(p *peer) { p.command(0, "FCUnpublish", 0, nil, "demo") }, nil},
		{"lost", func(p *peer) {}, errLost},
		{"deleteStream of another", func(p *peer) { p.command(0, "deleteStream", 0, nil, 2) }, errLost},
		{"cut off in a message", func(p *peer) { p.pieces(piece{csid: 4, length: 9, typ: 9, stream: 1, data: "x"}) }, errLost},
	} {
		s := newServer()
		p := dial(t, s.Server).hello().connect().publish("demo")
		c.do(p)
		p.hangUp()
		if len(s.rec.closed) != 1 || s.rec.closed[0] != c.want {
			t.Errorf("%s: closed with %v, want %v", c.name, s.rec.closed, c.want)
		}
	}
}

// A connection may publish again after it has unpublished, under another name and on another stream.
func TestPublishAgain(t *testing.T) {
	s := newServer()
	p := dial(t, s.Server).hello().connect().publish("one")
	p.command(0, "deleteStream", 0, nil, 1)
	p.expect("1:onStatus 0 <nil> status NetStream.Unpublish.Success")
	p.command(0, "createStream", 5, nil)
	p.expect("0:_result 5 <nil> 2")
	p.command(2, "publish", 6, nil, "two")
	p.expect("2:onStatus 0 <nil> status NetStream.Publish.Start")
	p.pieces(piece{csid: 4, time: 1, length: 1, typ: 9, stream: 2, data: "v"})
	p.hangUp()
	if len(s.rec.requests) != 2 || s.rec.requests[1].Name != "live/two" || len(s.rec.calls) != 1 || len(s.rec.closed) != 2 {
		t.Errorf("%+v", s.rec)
	}
}

// Refusals come in RTMP's terms, before anything that sounds like success, and end the connection.
func TestRefusals(t *testing.T) { synctest.Test(t, testRefusals) }

func testRefusals(t *testing.T) {
	for _, c := range []struct {
		name    string
		publish []any
		err     error
		want    string
	}{
		{"wrong key", []any{"publish", 3, nil, "demo?key=bad", "live"}, ingest.ErrDenied, "1:onStatus 0 <nil> error NetStream.Publish.Denied"},
		{"in use", []any{"publish", 3, nil, "demo", "live"}, fmt.Errorf("x: %w", ingest.ErrInUse), "1:onStatus 0 <nil> error NetStream.Publish.BadName"},
		{"bad name", []any{"publish", 3, nil, "..", "live"}, ingest.ErrBadName, "1:onStatus 0 <nil> error NetStream.Publish.BadName"},
		{"other", []any{"publish", 3, nil, "demo", "live"}, errTest, "1:onStatus 0 <nil> error NetStream.Publish.Denied"},
		{"no arguments", []any{"publish", 3}, nil, "1:onStatus 0 <nil> error NetStream.Publish.BadName"},
		{"no name", []any{"publish", 3, nil}, nil, "1:onStatus 0 <nil> error NetStream.Publish.BadName"},
		{"name not a string", []any{"publish", 3, nil, 7}, nil, "1:onStatus 0 <nil> error NetStream.Publish.BadName"},
		{"play", []any{"play", 3, nil, "demo"}, nil, "1:onStatus 0 <nil> error NetStream.Play.Failed"},
	} {
		s := newServer()
		s.rec.refuse = c.err
		p := dial(t, s.Server).hello().connect()
		p.command(0, "FCPublish", 0, nil, "demo")
		p.command(1, c.publish...)
		p.expect(c.want)
		p.end()
		if more, ok := <-p.replies; ok {
			t.Errorf("%s: then %q", c.name, more)
		}
		if st := s.Stats(); st.Refused != 1 || len(s.rec.closed) != 0 {
			t.Errorf("%s: %+v", c.name, st)
		}
		if strings.Contains(s.log.String(), "key=bad") || strings.Count(s.log.String(), "\n") != 1 {
			t.Errorf("%s: %s", c.name, s.log)
		}
	}
}

func TestConnectRejected(t *testing.T) { synctest.Test(t, testConnectRejected) }

func testConnectRejected(t *testing.T) {
	for name, o := range map[string]any{
		"app not a string": amf0.Object{"app": 1}, "no app": amf0.Object{"tcUrl": "rtmp://h/live"}, "no object": nil, "a string": "live",
	} {
		s := newServer()
		p := dial(t, s.Server).hello()
		p.command(0, "connect", 1, o)
		p.expect("0:_error 1 <nil> error NetConnection.Connect.Rejected")
		p.end()
		if st := s.Stats(); st.Refused != 1 {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

// Only what is taken is offered, and only to those who ask (Enhanced RTMP v2).
func TestEnhancedConnect(t *testing.T) {
	s := newServer()
	p := dial(t, s.Server).hello()
	o := amf0.Object{"fourCcList": []any{"av01", "hvc1", "avc1"}, "capsEx": 3, "objectEncoding": 3}
	for k, v := range connectObject {
		o[k] = v
	}
	p.command(0, "connect", 1, o)
	p.expect("5 ", "6 ", "1 ", "audioFourCcInfoMap:map[mp4a:4] capabilities:127 capsEx:14 fmsVer:FMS/3,5,3,824 fourCcList:[avc1 hvc1 mp4a] mode:1 videoFourCcInfoMap:map[avc1:4 hvc1:4]]")
	p.hangUp()
}

// AMF 3 commands and data carry AMF 0 behind one byte.
func TestAMF3Messages(t *testing.T) {
	s := newServer()
	p := dial(t, s.Server).hello().connect()
	amf3 := func(stream uint32, typ uint8, values ...any) {
		b := []byte{0}
		for _, v := range values {
			b = amf0.Append(b, v)
		}
		p.send(appendMessage(nil, 3, typ, stream, b, defaultChunkSize))
	}
	amf3(0, typeCommandAMF3, "createStream", 2, nil)
	p.expect("0:_result 2 <nil> 1")
	amf3(1, typeCommandAMF3, "publish", 3, nil, "demo", "live")
	p.expect(startOnStream)
	amf3(1, typeDataAMF3, "onMetaData")
	p.hangUp()
	if d := cmp.Diff([]call{{"data", 0, "\x02\x00\x0aonMetaData"}}, s.rec.calls); d != "" {
		t.Error(d)
	}
}

func TestAggregate(t *testing.T) {
	tag := func(typ byte, ts uint32, body string) string {
		n := len(body)
		return string([]byte{typ, 0, 0, byte(n), byte(ts >> 16), byte(ts >> 8), byte(ts), byte(ts >> 24), 0, 0, 0}) + body +
			string([]byte{0, 0, 0, byte(n + 11)})
	}
	in := tag(9, 0x01000010, "v1") + tag(8, 0x01000015, "a1") + tag(18, 0x01000015, "d") + tag(9, 0x01000031, "v2")
	for _, c := range []struct {
		name, in string
		want     []call
		err      bool
	}{
		{"four tags", in, []call{{"video", 100, "v1"}, {"audio", 105, "a1"}, {"data", 105, "d"}, {"video", 133, "v2"}}, false},
		{"no last back pointer", in[:len(in)-4], []call{{"video", 100, "v1"}, {"audio", 105, "a1"}, {"data", 105, "d"}, {"video", 133, "v2"}}, false},
		{"empty", "", nil, false},
		{"cut off in a tag header", tag(9, 0, "v") + "\x09\x00", []call{{"video", 100, "v"}}, true},
		{"tag past the end", tag(9, 0, "v") + "\x09\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00x", []call{{"video", 100, "v"}}, true},
	} {
		s := newServer()
		p := dial(t, s.Server).hello().connect().publish("demo")
		p.pieces(piece{csid: 6, time: 100, length: len(c.in), typ: 22, stream: 1, data: c.in})
		if c.err {
			p.expect("1:onStatus 0 <nil> error NetStream.Publish.Rejected")
		}
		p.hangUp()
		if d := cmp.Diff(c.want, s.rec.calls); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
		if got := s.Stats().FormatErrors == 1; got != c.err {
			t.Errorf("%s: %v", c.name, s.rec.closed)
		}
	}
}

// Control messages: a ping is answered, a changed bandwidth with our window, others with nothing.
func TestControl(t *testing.T) {
	s := newServer()
	p := dial(t, s.Server).hello().connect()
	p.pieces(whole(4, 0, "\x00\x03\x00\x00\x00\x01\x00\x00\x03\xe8")) // Set Buffer Length
	p.pieces(whole(4, 0, "\x00\x06\x01\x02\x03\x04"))
	p.expect("4 000701020304")
	p.pieces(whole(4, 0, ""), whole(4, 0, "\x00\x06"), whole(3, 0, "\x00\x00\x00\x00"))
	p.pieces(whole(6, 0, "\x00\x00\x10\x00\x02"))
	p.expect("5 002625a0")
	p.pieces(whole(6, 0, "\x00\x26\x25\xa0\x02"), whole(16, 0, "shared object"), whole(99, 0, "?"))
	p.pieces(whole(4, 0, "\x00\x06\x00\x00\x00\x00"))
	p.expect("4 000700000000")
	p.hangUp()
	if st := s.Stats(); st.FormatErrors != 0 {
		t.Errorf("%+v %s", st, s.log)
	}
}

// An error of the demuxer ends the publication, with the reason told to the peer when it is the peer's to mend.
func TestDemuxerErrors(t *testing.T) { synctest.Test(t, testDemuxerErrors) }

func testDemuxerErrors(t *testing.T) {
	mp3 := &media.UnsupportedError{What: "audio codec MP3", Hint: "send AAC"}
	bad := media.Formatf("avcC", "short")
	for _, c := range []struct {
		name, kind string
		err        error
		told, ends bool
	}{
		{"unsupported", "audio", mp3, true, true},
		{"garbage", "video", bad, true, true},
		{"ours", "video", errTest, false, true},
		{"unsupported, announced", "data", mp3, true, true},
		{"garbage in metadata", "data", bad, false, false},
		{"ours, while reading metadata", "data", errTest, false, true},
	} {
		s := newServer()
		s.rec.fail = func(kind string, _ []byte) error {
			if kind == c.kind {
				return c.err
			}
			return nil
		}
		p := dial(t, s.Server).hello().connect().publish("demo")
		p.pieces(whole(map[string]uint8{"audio": 8, "video": 9, "data": 18}[c.kind], 1, "x"))
		if c.told {
			p.expect("1:onStatus 0 <nil> error NetStream.Publish.Rejected")
		}
		if c.ends {
			p.end()
		} else {
			p.hangUp()
		}
		if len(s.rec.closed) != 1 || errors.Is(s.rec.closed[0], c.err) != c.ends {
			t.Errorf("%s: %v", c.name, s.rec.closed)
		}
	}
}

// A panic ends its own connection, is counted, and closes the Writer.
func TestPanic(t *testing.T) { synctest.Test(t, testPanic) }

func testPanic(t *testing.T) {
	s := newServer()
	s.rec.fail = func(string, []byte) error { panic("oops") }
	p := dial(t, s.Server).hello().connect().publish("demo")
	p.pieces(whole(9, 1, "x"))
	p.end()
	var pe *panicError
	if len(s.rec.closed) != 1 || !errors.As(s.rec.closed[0], &pe) || s.Stats().Recovered != 1 {
		t.Errorf("%v %+v", s.rec.closed, s.Stats())
	}
	if log := s.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "panic: oops") {
		t.Error(log)
	}
}

// A memConn is a connection whose peer has said everything already and listens to nothing.
type memConn struct {
	net.Conn
	in *bytes.Reader
}

func (c *memConn) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *memConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *memConn) Close() error                     { return nil }
func (c *memConn) RemoteAddr() net.Addr             { return nil }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

// FuzzSession throws bytes at a session that has shaken hands; the seeds are its commands, good and bad.
func FuzzSession(f *testing.F) {
	connect := commandBytes(0, "connect", 1, connectObject)
	f.Add(connect)
	f.Add(append(connect[:len(connect):len(connect)], commandBytes(1, "publish", 2, nil, "demo", "live")...))
	f.Add(append(connect[:len(connect):len(connect)], commandBytes(0, "createStream", 2, nil)...))
	for _, c := range hostile {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s := newServer()
		s.Log = nil
		s.serveConn(t.Context(), &memConn{in: bytes.NewReader(append(hello(3, simpleC1()), in...))}, "")
		if st := s.Stats(); st.Recovered != 0 {
			t.Fatal("panic")
		}
		if n := len(s.rec.closed); n > len(s.rec.requests) {
			t.Fatalf("%d publications, closed %d times", len(s.rec.requests), n)
		}
	})
}
