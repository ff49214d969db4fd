package conns

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what real sockets do.
const patience = 20 * time.Second

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// A site serves HTTP/1.1 and HTTP/2, without TLS or with it, under a limit.
type site struct {
	t    testing.TB
	port *Port
	addr string
	time atomic.Int64 // by how much the Limit's clock is ahead
	held atomic.Int64 // requests for /held, which end when their client leaves
	srv  *httptest.Server
}

func serve(t testing.TB, most int, secure bool) *site {
	t.Helper()
	s := &site{t: t, port: &Port{Limit: &Limit{Max: most}}}
	s.port.Limit.clock = func() time.Time { return time.Now().Add(time.Duration(s.time.Load())) }
	s.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			s.held.Add(1)
			<-r.Context().Done()
		}
		io.WriteString(w, r.Proto)
	}))
	s.addr = s.srv.Listener.Addr().String()
	s.srv.Listener = s.port.Listen(s.srv.Listener, !secure, nil)
	s.srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.port.Limit.Watch(s.srv.Config)
	s.srv.Config.Protocols = new(http.Protocols)
	s.srv.Config.Protocols.SetHTTP1(true)
	s.srv.Config.Protocols.SetUnencryptedHTTP2(!secure)
	s.srv.Config.Protocols.SetHTTP2(true)
	if secure {
		s.srv.StartTLS()
	} else {
		s.srv.Start()
	}
	t.Cleanup(s.srv.Close)
	return s
}

// dial opens a connection and, if it is to be an idle one, has a request answered on it.
func (s *site) dial(used bool) net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if used {
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || r.StatusCode != 200 {
			s.t.Fatalf("%v, %v", r, err)
		}
	}
	return c
}

// fill opens connections until there are n.
func (s *site) fill(n int) (all []net.Conn) {
	s.t.Helper()
	for range n {
		all = append(all, s.dial(false))
	}
	eventually(s.t, "connections are taken", func() bool { return s.port.Stats().Open == int64(n) })
	return all
}

func (s *site) client(set func(*http.Protocols, bool)) *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	set(tr.Protocols, true)
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// promptly does what wants to be done in a moment, a second time if it took longer, for which this process may be to blame.
func promptly(do func() error) error {
	began := time.Now()
	err := do()
	if err != nil && time.Since(began) > refusalTime/2 {
		err = do()
	}
	return err
}

// Past the limit clients get 503, which nobody keeps, in their protocol, and are served again when others have left.
func TestRefused(t *testing.T) {
	s := serve(t, 10, false)
	all := s.fill(10)
	for _, c := range []struct {
		method string
		set    func(*http.Protocols, bool)
		body   string
	}{
		{"GET", (*http.Protocols).SetHTTP1, refusalText},
		{"HEAD", (*http.Protocols).SetHTTP1, ""},
		{"GET", (*http.Protocols).SetUnencryptedHTTP2, ""},
	} {
		cl := s.client(c.set)
		var before int64
		var r *http.Response
		if err := promptly(func() (err error) {
			before = s.port.Stats().Refused
			req, _ := http.NewRequest(c.method, "http://"+s.addr+"/live/a/index.m3u8", nil)
			r, err = cl.Do(req)
			return err
		}); err != nil {
			t.Errorf("%s: %v", c.method, err)
			continue
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != 503 || r.Header.Get("Retry-After") != "1" || r.Header.Get("Cache-Control") != "private, no-store" ||
			r.Header.Get("Access-Control-Allow-Origin") != "*" || string(body) != c.body || err != nil {
			t.Errorf("%s: %s %d %v %q %v", c.method, r.Proto, r.StatusCode, r.Header, body, err)
		}
		if n := s.port.Stats().Refused; n != before+1 {
			t.Errorf("%s: %d refused, want one", c.method, n-before)
		}
	}
	if n := s.port.Stats().Open; n != 10 {
		t.Errorf("%d are open", n)
	}
	all[0].Close()
	eventually(t, "service resumes", func() bool {
		r, err := s.client((*http.Protocols).SetHTTP1).Get("http://" + s.addr)
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == 200
	})
}

// A client that goes on sending after the reply is listened to for a moment: otherwise its connection would be reset, and the
// reply, where it has not read it yet, be lost (RFC 9112 9.6).
func TestRefusalLingers(t *testing.T) {
	s := serve(t, 10, false)
	s.fill(10)
	if err := promptly(func() error {
		c := s.dial(false)
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 30000\r\n\r\n")
		b, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 503 ") || !strings.HasSuffix(string(b), refusalText) {
			return fmt.Errorf("%q, %w", b, err)
		}
		for range 10 {
			if _, err := c.Write(make([]byte, 1000)); err != nil {
				return err
			}
			time.Sleep(5 * time.Millisecond) // for a reset to come
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	busy := s.srv.Listener.(*Listener).busy
	eventually(t, "that is over", func() bool { return len(busy) == 0 })
}

// With TLS they are closed, before a handshake.
func TestRefusedTLS(t *testing.T) {
	s := serve(t, 10, true)
	all := s.fill(10)
	c, err := net.Dial("tcp", s.addr)
	if err == nil {
		c.SetDeadline(time.Now().Add(patience))
		var n int
		if n, err = c.Read(make([]byte, 1)); n != 0 {
			t.Error("it is told something")
		}
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
	for _, c := range all {
		c.Close()
	}
	eventually(t, "service resumes", func() bool {
		r, err := s.client((*http.Protocols).SetHTTP1).Get("https://" + s.addr)
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == 200
	})
}

// A flood of connections that say nothing costs no more than so many goroutines and for no longer than a moment, and the
// connections are closed.
func TestRefusalsAreBounded(t *testing.T) {
	s := serve(t, 10, false)
	s.fill(10)
	before := runtime.NumGoroutine()
	const flood = 600
	var open []net.Conn
	most := 0
	for range flood {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			if !errors.Is(err, syscall.ECONNRESET) { // before it was seen to be open
				t.Fatal(err)
			}
			continue
		}
		defer c.Close()
		open = append(open, c)
		most = max(most, runtime.NumGoroutine())
	}
	eventually(t, "all are refused", func() bool { return s.port.Stats().Refused >= flood })
	if most > before+maxRefusals+5 {
		t.Errorf("%d goroutines, %d before", most, before)
	}
	for _, c := range open {
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("not closed: %v", err)
		}
	}
	eventually(t, "refusals end", func() bool { return runtime.NumGoroutine() <= before+5 })
}

// Connections that are idle make room, the longest idle first; those with a request, or fresh ones, do not.
func TestIdleMakeRoom(t *testing.T) {
	const most = 64 // 60 before room is made, down to 56
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) {
			s := serve(t, most, secure)
			use := func() net.Conn { return s.dial(true) }
			if secure {
				use = func() net.Conn {
					c := tls.Client(s.dial(false), &tls.Config{InsecureSkipVerify: true})
					io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
					if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 200 {
						t.Fatalf("%v, %v", r, err)
					}
					return c
				}
			}
			busy := use()
			io.WriteString(busy, "GET /held HTTP/1.1\r\nHost: a.test\r\n\r\n")
			eventually(t, "it is held", func() bool { return s.held.Load() == 1 })
			var idle []net.Conn
			for i := range 20 {
				idle = append(idle, use())
				eventually(t, "it is idle", func() bool { return s.idle() == i+1 })
				s.time.Add(int64(time.Minute))
			}
			fresh := s.fill2(39)
			if n := s.port.Stats(); n.Open != 60 || n.IdleClosed != 0 {
				t.Fatalf("%+v", n)
			}
			use()
			eventually(t, "room is made", func() bool { return s.port.Stats().IdleClosed == 5 && s.port.Stats().Open == 56 })
			for i, c := range idle {
				closed := isClosed(c, i < 5)
				if closed != (i < 5) {
					t.Errorf("connection %d: closed is %v", i, closed)
				}
			}
			if isClosed(fresh[0], false) {
				t.Error("one that has not had its request was closed")
			}
			if isClosed(busy, false) {
				t.Error("one with a request was closed")
			}
			busy.Close()
			if s.port.Stats().Refused != 0 {
				t.Error("refused")
			}
		})
	}
}

// fill2 opens n connections more.
func (s *site) fill2(n int) (all []net.Conn) {
	have := s.port.Stats().Open
	for range n {
		all = append(all, s.dial(false))
	}
	eventually(s.t, "connections are taken", func() bool { return s.port.Stats().Open == have+int64(n) })
	return all
}

func (s *site) idle() (n int) {
	l := s.port.Limit
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		if c.idle.Load() != 0 {
			n++
		}
	}
	return n
}

// isClosed says whether the other side has closed; it waits for that only if it is expected.
func isClosed(c net.Conn, expected bool) bool {
	wait := 20 * time.Millisecond
	if expected {
		wait = patience
	}
	c.SetReadDeadline(time.Now().Add(wait))
	_, err := c.Read(make([]byte, 1))
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// HTTP/2 connections are idle when they have no stream.
func TestIdleHTTP2(t *testing.T) {
	s := serve(t, 64, false)
	c := s.client((*http.Protocols).SetUnencryptedHTTP2)
	get := func() bool {
		r, err := c.Get("http://" + s.addr)
		if err != nil {
			t.Log(err)
			return false
		}
		io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if r.ProtoMajor != 2 {
			t.Fatal(r.Proto)
		}
		return true
	}
	if !get() {
		t.Fatal("it is not served")
	}
	eventually(t, "it is idle", func() bool { return s.idle() == 1 })
	s.time.Add(int64(time.Minute))
	s.fill2(59)
	s.dial(false)
	eventually(t, "it makes room", func() bool { return s.port.Stats().IdleClosed == 1 })
	eventually(t, "it is served again", get) // a request that crosses with the end of the connection is lost
}

// failing is a listener whose Accept fails a few times.
type failing struct {
	net.Listener
	mu   sync.Mutex // protects left
	left int
	err  error
}

func (f *failing) Accept() (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left != 0 {
		f.left--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", f.err)}
	}
	return f.Listener.Accept()
}

// What is wrong with accepting passes, and is logged once; net/http by itself would end for some of it.
func TestAcceptErrors(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EPERM} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		p := &Port{Limit: &Limit{Max: 10}}
		l := p.Listen(&failing{Listener: ln, left: 3, err: errno}, true, slog.New(slog.NewTextHandler(&log, nil)))
		go func() {
			if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
				defer c.Close()
				io.Copy(io.Discard, c)
			}
		}()
		c, err := l.Accept()
		if err != nil {
			t.Fatalf("%v: %v", errno, err)
		}
		if n := p.Stats(); n.Open != 1 || n.AcceptErrors != 3 || strings.Count(log.String(), "level=ERROR") != 1 {
			t.Errorf("%v: %+v\n%s", errno, n, &log)
		}
		if _, ok := c.(io.ReaderFrom); !ok {
			t.Error("files would not go out by sendfile")
		}
		if n := testing.AllocsPerRun(10, func() { c.Close() }); n > 5 || p.Stats().Open != 0 {
			t.Errorf("a connection that is closed more than once leaves more than once: %+v", p.Stats())
		}
		l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
}

// Close does not wait for the next try.
func TestCloseWhileWaiting(t *testing.T) {
	var took time.Duration
	for range 3 { // unless this process has to wait
		if took = closeWhileWaiting(t); took <= maxDelay/2 {
			return
		}
	}
	t.Errorf("it ends %v after Close", took)
}

func closeWhileWaiting(t *testing.T) time.Duration {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Port{Limit: &Limit{Max: 1}}
	l := p.Listen(&failing{Listener: ln, left: -1, err: syscall.EMFILE}, true, nil)
	ended := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	eventually(t, "it waits for a second", func() bool { return p.Stats().AcceptErrors >= 9 })
	began := time.Now()
	l.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
	return time.Since(began)
}

// FuzzRefusal: whatever comes first is answered with 503 or not at all.
func FuzzRefusal(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\nGET / HTTP/1.1\n\n", "HEAD / HTTP/1.1\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n",
		http2Preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x01\x01\x05\x00\x00\x00\x01\x82",
		http2Preface + "\xff\xff\xff\x01\x05\x00\x00\x00\x01", http2Preface[:20], "GET", "\r\n\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		b := refusal(bufio.NewReaderSize(bytes.NewReader(in), refusalBuffer))
		switch {
		case b == nil, bytes.HasPrefix(b, []byte("\x00\x00\x00\x04")):
		default:
			if r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil); err != nil || r.StatusCode != 503 {
				t.Errorf("%v of %q", err, b)
			}
		}
	})
}

// What a connection costs more than without a limit.
func BenchmarkEnter(b *testing.B) {
	p := &Port{Limit: &Limit{Max: 1000}}
	b.ReportAllocs()
	for b.Loop() {
		if p.Enter() {
			p.Leave()
		}
	}
}

// What a request costs more on a connection that is watched.
func BenchmarkWatch(b *testing.B) {
	p := &Port{Limit: &Limit{Max: 1000}}
	srv := &http.Server{}
	p.Limit.Watch(srv)
	c := &conn{port: p}
	b.ReportAllocs()
	for b.Loop() {
		srv.ConnState(c, http.StateActive)
		srv.ConnState(c, http.StateIdle)
	}
}
