package rtmp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"headwater/ingest"
	"headwater/ingest/amf0"
	"headwater/segmenter/media"
)

// A call is what a recorder was asked to do.
type call struct {
	Kind string
	TS   int64
	Body string
}

// A recorder is the Publisher, the Writer and the Demuxer of a test. It keeps what it gets and fails as it is told.
type recorder struct {
	mu       sync.Mutex
	requests []ingest.Request
	calls    []call
	arrived  []int64
	closed   []error
	refuse   error
	fail     func(kind string, body []byte) error
}

func (r *recorder) Publish(ctx context.Context, req ingest.Request) (ingest.Writer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, req)
	return r, r.refuse
}

// target is Publish in the form of a Gate's Target.
func (r *recorder) target(ctx context.Context, _ string, req ingest.Request) (ingest.Writer, error) {
	return r.Publish(ctx, req)
}

func (r *recorder) SetTracks([]media.Track) error        { return nil }
func (r *recorder) WriteSample(int, *media.Sample) error { return nil }
func (r *recorder) Close(reason error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = append(r.closed, reason)
	return nil
}

func (r *recorder) add(kind string, ts, arrived int64, body []byte) error {
	r.mu.Lock()
	r.calls = append(r.calls, call{kind, ts, string(body)})
	r.arrived = append(r.arrived, arrived)
	fail := r.fail
	r.mu.Unlock()
	clear(body) // it is the demuxer's to modify
	if fail != nil {
		return fail(kind, []byte(r.calls[len(r.calls)-1].Body))
	}
	return nil
}

func (r *recorder) Audio(ts, arrived int64, body []byte) error {
	return r.add("audio", ts, arrived, body)
}
func (r *recorder) Video(ts, arrived int64, body []byte) error {
	return r.add("video", ts, arrived, body)
}
func (r *recorder) Data(ts int64, body []byte) error { return r.add("data", ts, 0, body) }

// recorded is a recorder as the Demuxer of a publication.
type recorded struct {
	*recorder
	w ingest.Writer
}

func (r recorded) Close(reason error) error { return r.w.Close(reason) }

// A buffer is an io.Writer for logs.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A testServer is a server with its recorder and log.
type testServer struct {
	*Server
	rec *recorder
	log *buffer
}

func newServer() testServer {
	rec, log := &recorder{}, &buffer{}
	return testServer{&Server{
		Publisher: rec,
		Demux:     func(w ingest.Writer) Demuxer { return recorded{rec, w} },
		Log:       slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}, rec, log}
}

// A peer is an encoder made by hand, at the other end of a net.Pipe.
type peer struct {
	t       testing.TB
	nc      net.Conn
	replies chan string   // as text; closed at the end of the server's output
	ended   chan struct{} // closed when the server is through with the connection
	kick    context.CancelFunc
}

// dial connects a peer to s. All that the server says after the handshake goes to replies.
func dial(t testing.TB, s *Server) *peer {
	here, there := net.Pipe()
	return start(t, s, here, there)
}

// dialTCP is dial over a real connection, which can be closed in one direction.
func dialTCP(t testing.TB, s *Server) *peer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	here, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	there, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, s, here, there)
}

func start(t testing.TB, s *Server, here, there net.Conn) *peer {
	ctx, cancel := context.WithCancel(context.Background())
	p := &peer{t: t, nc: here, replies: make(chan string, 100_000), ended: make(chan struct{}), kick: cancel}
	go func() {
		defer close(p.ended)
		s.serveConn(ctx, there, "")
	}()
	return p
}

// hello shakes hands.
func (p *peer) hello() *peer {
	p.t.Helper()
	p.send(hello(3, simpleC1())[:1+handshakeSize])
	var s [1 + 2*handshakeSize]byte
	if _, err := io.ReadFull(p.nc, s[:]); err != nil {
		p.t.Fatal(err)
	}
	p.send(s[1 : 1+handshakeSize])
	go p.listen()
	return p
}

func (p *peer) listen() {
	defer close(p.replies)
	r := newChunkReader(p.nc, MaxCommand)
	for {
		m, err := r.next()
		if err != nil {
			return
		}
		p.replies <- text(m)
	}
}

// text is a reply as tests compare it.
func text(m message) string {
	if m.typ != typeCommandAMF0 {
		return fmt.Sprintf("%d %x", m.typ, m.payload)
	}
	vs, err := amf0.DecodeAll(m.payload)
	if err != nil {
		return err.Error()
	}
	s := fmt.Sprintf("%d:%v %v", m.stream, vs[0], vs[1])
	for _, v := range vs[2:] {
		if o, ok := v.(amf0.Object); ok && o["code"] != nil {
			v = o["level"].(string) + " " + o["code"].(string)
		}
		s += fmt.Sprintf(" %v", v)
	}
	return s
}

// send writes bytes; the server may have hung up.
func (p *peer) send(b []byte) {
	p.nc.SetWriteDeadline(time.Now().Add(30 * time.Second))
	p.nc.Write(b)
}

func (p *peer) pieces(ps ...piece) { p.send(wire(ps...)) }

// command sends one command in chunks of the size that applies at first.
func (p *peer) command(stream uint32, values ...any) {
	p.send(commandBytes(stream, values...))
}

func commandBytes(stream uint32, values ...any) []byte {
	var b []byte
	for _, v := range values {
		b = amf0.Append(b, v)
	}
	return appendMessage(nil, 3, typeCommandAMF0, stream, b, defaultChunkSize)
}

var connectObject = amf0.Object{"app": "live", "tcUrl": "rtmp://h/live", "type": "nonprivate", "flashVer": "FMLE/3.0"}

// expect reads the next replies.
func (p *peer) expect(want ...string) {
	p.t.Helper()
	for _, w := range want {
		select {
		case got, ok := <-p.replies:
			if !ok {
				p.t.Fatalf("connection ended, want %q", w)
			}
			if !strings.Contains(got, w) {
				p.t.Fatalf("reply %q, want %q", got, w)
			}
		case <-time.After(30 * time.Second):
			p.t.Fatalf("no reply, want %q", w)
		}
	}
}

const (
	resultConnect = "0:_result 1 map[capabilities:127 fmsVer:FMS/3,5,3,824 mode:1] status NetConnection.Connect.Success"
	startOnStream = "1:onStatus 0 <nil> status NetStream.Publish.Start"
)

// connect connects and waits for the answer.
func (p *peer) connect() *peer {
	p.t.Helper()
	p.command(0, "connect", 1, connectObject)
	p.expect("5 002625a0", "6 002625a002", "1 00001000", resultConnect)
	return p
}

// publish goes on from connect to a publication.
func (p *peer) publish(name string) *peer {
	p.t.Helper()
	p.command(0, "createStream", 2, nil)
	p.expect("0:_result 2 <nil> 1")
	p.command(1, "publish", 3, nil, name, "live")
	p.expect(startOnStream)
	return p
}

// end waits until the server is through.
func (p *peer) end() {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		p.t.Fatal("the connection does not end")
	}
	p.nc.Close()
}

// hangUp closes the peer's side and waits for the server.
func (p *peer) hangUp() {
	p.t.Helper()
	p.nc.Close()
	p.end()
}

var errTest = errors.New("test")
