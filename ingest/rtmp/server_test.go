package rtmp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yapingcat/gomedia/go-codec"
	gortmp "github.com/yapingcat/gomedia/go-rtmp"
	"go.uber.org/goleak"

	"headwater/ingest"
)

// serve runs s on a loopback listener until the test ends, or stop is called.
func serve(t testing.TB, s *Server) (addr string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	stop = func() error {
		cancel()
		err := <-done
		done <- err
		return err
	}
	t.Cleanup(func() { stop() })
	return ln.Addr().String(), stop
}

// dialAddr connects a peer to a server that is served.
func dialAddr(t testing.TB, addr string) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &peer{t: t, nc: nc, replies: make(chan string, 100), ended: make(chan struct{})}
}

// When the server stops, publications are closed with that reason and Serve returns nil, with nothing left behind.
func TestStop(t *testing.T) {
	defer goleak.VerifyNone(t)
	s := newServer()
	addr, stop := serve(t, s.Server)
	p := dialAddr(t, addr).hello().connect().publish("demo")
	idle := dialAddr(t, addr)
	if err := stop(); err != nil {
		t.Error(err)
	}
	for range p.replies {
	}
	if _, err := idle.nc.Read(make([]byte, 1)); err == nil {
		t.Error("a connection stays open")
	}
	if len(s.rec.closed) != 1 || s.rec.closed[0] != ErrStopping {
		t.Errorf("closed with %v", s.rec.closed)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("still listening")
	}
	if s.Stats().Active != 0 {
		t.Errorf("%+v", s.Stats())
	}
}

func TestListenerFails(t *testing.T) {
	s := newServer()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// Connections that are live then are ended: Serve does not wait for them.
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), ln) }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for s.Stats().Connections == 0 {
		runtime.Gosched()
	}
	ln.Close()
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(3 * time.Second): // the handshake's time is 5 s
		t.Error("Serve hangs when its listener has failed")
	}
	s.Addr = "256.0.0.1:bad"
	if err := s.ListenAndServe(t.Context()); err == nil {
		t.Error("listens")
	}
}

// flaky is a listener that fails to accept a few times.
type flaky struct {
	net.Listener
	left atomic.Int32
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, errTest
	}
	return nil, net.ErrClosed
}

func (f *flaky) Close() error { return nil }

// A failing accept is tried again, more and more slowly.
func TestAcceptFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		ln := &flaky{}
		ln.left.Store(10)
		start := time.Now()
		if err := s.Serve(t.Context(), ln); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if d := time.Since(start); d != (5+10+20+40+80+160+320+640+1000+1000)*time.Millisecond {
			t.Error(d)
		}
	})
}

func TestMaxConns(t *testing.T) {
	s := newServer()
	s.MaxConns = 1
	addr, _ := serve(t, s.Server)
	p := dialAddr(t, addr).hello()
	if _, err := dialAddr(t, addr).nc.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	p.connect().publish("demo")
	if st := s.Stats(); st.Refused != 1 || st.Connections != 2 {
		t.Errorf("%+v", st)
	}
}

// A kick ends a connection that would never write again, with the kick's reason; more kicks change nothing.
func TestKick(t *testing.T) {
	s := newServer()
	p := dial(t, s.Server).hello().connect().publish("demo")
	kick := s.rec.requests[0].Kick
	kick(ingest.ErrKicked)
	kick(errTest)
	p.end()
	if len(s.rec.closed) != 1 || s.rec.closed[0] != ingest.ErrKicked {
		t.Error(s.rec.closed)
	}
	if !strings.Contains(s.log.String(), "another publisher took over") {
		t.Error(s.log)
	}
}

// An encoder that reconnects while its old connection is half open takes over with its first key frame, when the Gate is set so.
func TestTakeover(t *testing.T) {
	d := newDesk()
	s := newTrackServer(d, &ingest.Gate{Takeover: true, Keys: []string{"k"}})
	addr, _ := serve(t, s.Server)
	old := dialAddr(t, addr).hello().connect().publish("cam?key=k")
	d.expect(t, beganFirst)
	p := dialAddr(t, addr).hello().connect().publish("cam?key=k")
	old.media(typeAudio, "af001190")
	d.expect(t, "live/cam: [mp4a.40.2]")
	p.media(typeVideo, oneVideo)
	old.media(typeAudio, "af0121")
	d.expect(t, "live/cam: 0 at 0")
	p.media(typeVideo, onePicture)
	d.expect(t, "live/cam: ended: "+ingest.ErrKicked.Error(), beganFirst, "live/cam: [avc1.42c00d]", "live/cam: 0 at 0")
	p.media(typeVideo, onePicture)
	d.expect(t, "live/cam: 0 at 1")
}

// Where the old publication does not end, the new one is told so with what it sends next.
func TestTakeoverOfTheStuck(t *testing.T) {
	d := newDesk()
	g := &ingest.Gate{Takeover: true, TakeoverWait: time.Millisecond}
	s := newTrackServer(d, g)
	addr, _ := serve(t, s.Server)
	if _, err := g.Publish(t.Context(), ingest.Request{Name: "live/cam"}); err != nil {
		t.Fatal(err)
	}
	p := dialAddr(t, addr).hello().connect().publish("cam")
	p.media(typeVideo, oneVideo)
	p.media(typeVideo, onePicture)
	for deadline := time.Now().Add(30 * time.Second); g.Stats().InUse == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not refused")
		}
	}
	p.media(typeVideo, onePicture)
	p.expect("1:onStatus 0 <nil> error NetStream.Publish.BadName")
	for s.Stats().Refused == 0 { // it is counted when all is over
		time.Sleep(time.Millisecond)
	}
}

// Whoever speaks TLS or HTTP to the port is told apart in the log.
func TestOtherProtocols(t *testing.T) {
	s := newServer()
	p := dialTCP(t, s.Server)
	if err := tls.Client(p.nc, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("TLS")
	}
	p.hangUp()
	p = dialTCP(t, s.Server)
	p.send([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
	b, err := io.ReadAll(p.nc)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 400 ") || !strings.Contains(string(b), "This port speaks RTMP") {
		t.Errorf("%q, %v", b, err)
	}
	p.hangUp()
	p = dialTCP(t, s.Server)
	p.send([]byte{6})
	io.Copy(io.Discard, p.nc)
	p.hangUp()
	for _, want := range []string{"TLS on the plain RTMP port", "HTTP on the RTMP port", "RTMPE"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, s.log)
		}
	}
	if st := s.Stats(); st.UnsupportedErrors != 3 {
		t.Errorf("%+v", st)
	}
}

// A health check that connects and goes is not worth a line at the usual level.
func TestPortScan(t *testing.T) {
	s := newServer()
	dial(t, s.Server).hangUp()
	if !strings.Contains(s.log.String(), "level=DEBUG") {
		t.Error(s.log)
	}
}

// gomedia's client, in each of its handshakes, is a peer that we did not write.
func TestGomediaClient(t *testing.T) {
	for name, options := range map[string][]func(*gortmp.RtmpClient){
		"simple":           nil,
		"digest, layout 0": {gortmp.WithComplexHandshake(), gortmp.WithComplexHandshakeSchema(0)},
		"digest, layout 1": {gortmp.WithComplexHandshake(), gortmp.WithComplexHandshakeSchema(1)},
		"small chunks":     {gortmp.WithChunkSize(128)},
		"large chunks":     {gortmp.WithChunkSize(60_000)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer()
			addr, stop := serve(t, s.Server)
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			c := gortmp.NewRtmpClient(append(options, gortmp.WithEnablePublish())...)
			c.SetOutput(func(b []byte) error { _, err := nc.Write(b); return err })
			c.OnError(func(code, description string) { t.Error(code, description) })
			started := false
			c.OnStateChange(func(st gortmp.RtmpState) { started = st == gortmp.STATE_RTMP_PUBLISH_START })
			c.Start("rtmp://" + addr + "/live/demo?key=k")
			nc.SetReadDeadline(time.Now().Add(30 * time.Second))
			for b := make([]byte, 4096); !started; {
				n, err := nc.Read(b)
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Input(b[:n]); err != nil {
					t.Fatal(err)
				}
			}
			adts := []byte{0xff, 0xf1, 0x4c, 0x80, 0x02, 0x1f, 0xfc, 1, 2, 3, 4, 5, 6, 7, 8, 9}
			for i := range uint32(100) {
				if err := c.WriteAudio(codec.CODECID_AUDIO_AAC, adts, 0xfffff0+i*21, 0xfffff0+i*21); err != nil {
					t.Fatal(err)
				}
			}
			nc.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, nc)
			stop()
			r := s.rec.requests[0]
			if r.Name != "live/demo" || r.Key != "k" {
				t.Errorf("%+v", r)
			}
			if n := len(s.rec.calls); n < 100 || s.rec.calls[n-1].TS != 0xfffff0+99*21 {
				t.Errorf("%d messages, the last %+v", n, s.rec.calls[n-1])
			}
			if len(s.rec.closed) != 1 || s.rec.closed[0] != errLost {
				t.Error(s.rec.closed)
			}
		})
	}
}

// Codecs that are not taken, and configurations that are garbage, through the demuxer that is used by default: each ends
// the connection with its reason told in RTMP.
func TestMediaRefused(t *testing.T) {
	for _, c := range []struct {
		name, want string
		typ        uint8
		body       string
	}{
		{"PCM", "PCM", 8, "\x3e\x00\x00\x00"},
		{"MP3", "MP3", 8, "\x2f\xff\xfb\x90"},
		{"Speex", "Speex", 8, "\xb6\x00"},
		{"legacy Opus", "Opus", 8, "\xdf\x00"},
		{"H.263", "H.263", 9, "\x12\x00"},
		{"unknown video", "", 9, "\x1f\x00"},
		{"avcC of 3 bytes", "", 9, "\x17\x00\x00\x00\x00\x01\x64\x00"},
		{"avcC of no bytes", "", 9, "\x17\x00\x00\x00\x00"},
		{"AudioSpecificConfig of 0 bytes", "", 8, "\xaf\x00"},
		{"AudioSpecificConfig of 1 byte", "", 8, "\xaf\x00\x11"},
	} {
		s := newServer()
		s.Demux = nil
		p := dialTCP(t, s.Server).hello().connect().publish("demo")
		p.pieces(whole(c.typ, 1, c.body))
		p.expect("1:onStatus 0 <nil> error NetStream.Publish.Rejected")
		p.hangUp()
		if st := s.Stats(); st.UnsupportedErrors+st.FormatErrors != 1 || !strings.Contains(s.log.String(), c.want) {
			t.Errorf("%s: %+v %s", c.name, st, s.log)
		}
	}
}
