package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"headwater/web/conns"
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
		time.Sleep(time.Millisecond) // the network is real
	}
}

// A site is a handler that is served here, or, to compare, by net/http alone.
type site struct {
	t    testing.TB
	addr string
	port *conns.Port
	srv  *Server
	log  lockedBuffer
	end  func()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func serve(t testing.TB, ours bool, h http.Handler, change func(*http.Server)) *site {
	t.Helper()
	return serveBy(t, ours, h, change, func(ln net.Listener) net.Listener { return ln })
}

// A spied connection tells what is done with it.
type spied struct {
	Unreader
	read            atomic.Int64 // bytes
	readBy, writeBy atomic.Bool  // there is a deadline
}

func (s *spied) Read(b []byte) (int, error) {
	n, err := s.Unreader.Read(b)
	s.read.Add(int64(n))
	return n, err
}

func (s *spied) SetReadDeadline(t time.Time) error {
	s.readBy.Store(!t.IsZero())
	return s.Unreader.SetReadDeadline(t)
}

func (s *spied) SetWriteDeadline(t time.Time) error {
	s.writeBy.Store(!t.IsZero())
	return s.Unreader.SetWriteDeadline(t)
}

// A spy is a listener of spied connections.
type spy struct {
	net.Listener
	mu  sync.Mutex // protects all
	all []*spied
}

func (s *spy) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, &spied{Unreader: c.(Unreader)})
	return s.all[len(s.all)-1], nil
}

// last is the latest connection; nil before the first.
func (s *spy) last() *spied {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) == 0 {
		return nil
	}
	return s.all[len(s.all)-1]
}

// read is how many bytes have been, on all connections.
func (s *spy) read() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.all {
		n += c.read.Load()
	}
	return n
}

// serveSpied is serve with a spy.
func serveSpied(t testing.TB, h http.Handler, change func(*http.Server)) (*site, *spy) {
	t.Helper()
	watch := &spy{}
	return serveBy(t, true, h, change, func(ln net.Listener) net.Listener {
		watch.Listener = ln
		return watch
	}), watch
}

func serveBy(t testing.TB, ours bool, h http.Handler, change func(*http.Server), by func(net.Listener) net.Listener) *site {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, addr: ln.Addr().String(), port: &conns.Port{Limit: &conns.Limit{Max: 20_000}}}
	base, cancel := context.WithCancel(context.Background())
	hs := &http.Server{
		Handler: h, ReadHeaderTimeout: patience, IdleTimeout: patience, MaxHeaderBytes: 16 << 10, DisableGeneralOptionsHandler: true,
		BaseContext: func(net.Listener) context.Context { return base }, ErrorLog: log.New(&s.log, "", 0), Protocols: new(http.Protocols),
	}
	hs.RegisterOnShutdown(cancel)
	hs.Protocols.SetHTTP1(true)
	hs.Protocols.SetUnencryptedHTTP2(true)
	if change != nil {
		change(hs)
	}
	s.port.Limit.Watch(hs)
	s.srv = &Server{HTTP: hs}
	run, end := s.srv.Serve, s.srv.Close
	if !ours {
		run, end = hs.Serve, hs.Close
	}
	done := make(chan error, 1)
	go func() { done <- run(by(s.port.Listen(ln, true, nil))) }()
	s.end = sync.OnceFunc(func() {
		end()
		cancel()
		if err := <-done; err != http.ErrServerClosed {
			t.Errorf("it ended with %v", err)
		}
		eventually(t, "connections are closed", func() bool { return s.port.Stats().Open == 0 })
	})
	t.Cleanup(s.end)
	return s
}

func (s *site) dial() *net.TCPConn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// ours is how many connections are served here and not by net/http.
func (s *site) ours() int { return len(s.srv.all()) }

// An answer is what can be told of a reply, but for its date.
type answer struct {
	Status int
	Proto  string
	Header http.Header
	Coding []string
	Length int64
	Body   string
	Close  bool // it says that it is the last
	Broken bool // it ended before its time
}

// exchange sends in and returns the replies to those requests, whose methods are given.
func exchange(t testing.TB, addr, in string, asked ...string) (all []answer) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	go io.WriteString(c, in) // it may be more than is read
	r := bufio.NewReader(c)
	for _, method := range asked {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return append(all, answer{Broken: true})
		}
		body, err := io.ReadAll(resp.Body)
		a := answer{resp.StatusCode, resp.Proto, resp.Header, resp.TransferEncoding, resp.ContentLength, string(body), resp.Close, err != nil}
		for _, d := range a.Header["Date"] { // net/http's own refusals have none
			if at, err := http.ParseTime(d); err != nil || time.Since(at).Abs() > patience {
				t.Errorf("date %q", d)
			}
			a.Header["Date"] = []string{"now"}
		}
		if a.Status >= 400 && a.Close {
			a.Body, a.Broken = "", false // what has not been read of the request may have reset the connection
		}
		if a.Broken {
			a.Body = "" // as much as has been sent
		}
		all = append(all, a)
		if a.Close || err != nil {
			break
		}
	}
	return all
}

// behaviour is what a handler does, by path.
func behaviour(file string) http.Handler {
	mux := http.NewServeMux()
	on := func(path string, f func(w http.ResponseWriter, r *http.Request)) { mux.HandleFunc(path, f) }
	text := strings.Repeat("0123456789", 5000)
	on("/nothing", func(http.ResponseWriter, *http.Request) {})
	on("/short", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	on("/html", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<!DOCTYPE html><p>hello") })
	on("/long", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) })
	on("/pieces", func(w http.ResponseWriter, r *http.Request) {
		for i := range 300 {
			fmt.Fprintf(w, "piece %d of several\n", i)
		}
	})
	on("/flushed", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		io.WriteString(w, "one")
		w.(http.Flusher).Flush()
		w.Write(nil)
		io.WriteString(w, "two")
	})
	on("/flushed/sized", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "6")
		w.(http.Flusher).Flush()
		io.WriteString(w, "onetwo")
	})
	on("/flushed/typed", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/x")
		io.WriteString(w, "one")
		w.(http.Flusher).Flush()
		io.WriteString(w, text)
	})
	on("/sized/nil", func(w http.ResponseWriter, r *http.Request) { w.Header()["Content-Length"] = nil })
	on("/sized/empty", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Length"] = []string{}
		io.WriteString(w, "hello")
	})
	on("/status/1", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(1) })
	for _, n := range []int{0, 1, 5000, replyBuffer - 200, replyBuffer, 49_999} {
		on("/sized/"+strconv.Itoa(n), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(n))
			w.Header().Set("Content-Type", "video/mp4")
			w.Header()["Etag"] = []string{`"a"`}
			io.WriteString(w, text[:n])
		})
	}
	on("/sized/pieces", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "45000")
		for i := 0; i < 45_000; i += 9000 {
			io.WriteString(w, text[i:i+9000])
		}
	})
	on("/sized/untyped", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		w.WriteHeader(200)
		io.WriteString(w, "<html")
	})
	on("/sized/early", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		io.WriteString(w, "hel")
	})
	on("/sized/late", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		io.WriteString(w, "hello")
		if n, err := io.WriteString(w, "more"); n != 0 || err != http.ErrContentLength {
			panic(err)
		}
	})
	on("/file", func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(file)
		if err != nil {
			panic(err)
		}
		defer f.Close()
		w.Header().Set("Content-Type", "video/mp4")
		w.Header().Set("Content-Length", "100000")
		f.Seek(1000, io.SeekStart)
		if n, err := io.Copy(w, io.LimitReader(f, 100_000)); r.Method == "GET" && (n != 100_000 || err != nil) {
			panic(fmt.Sprint(n, err))
		}
	})
	on("/file/unsized", func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(file)
		if err != nil {
			panic(err)
		}
		defer f.Close()
		io.Copy(w, f)
	})
	for _, status := range []int{204, 304, 404, 206, 503, 599, 999} {
		on("/status/"+strconv.Itoa(status), func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Etag"] = []string{`"a"`}
			w.Header().Set("Content-Type", "text/x")
			w.Header().Set("Cache-Control", "private, no-store")
			w.WriteHeader(status)
			w.WriteHeader(200) // too late
			w.Header().Set("Cache-Control", "public")
			w.Header().Set("X-Late", "1")
			if status != 204 && status != 304 {
				fmt.Fprintln(w, "no")
			} else if n, err := w.Write([]byte("no")); n != 0 || err != http.ErrBodyNotAllowed {
				panic(err)
			} else if _, err := w.Write(nil); err != nil {
				panic(err)
			}
		})
	}
	on("/headers", func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["X-Many"] = []string{"a", "b", ""}
		h["X-None"] = nil
		h["lower"] = []string{"kept"}
		h["X-Evil"] = []string{"a\r\nX-More: b\nc"}
		h["X Bad: "] = []string{"a"}
		h[""] = []string{"a"}
		h["X-Space"] = []string{"  a "}
		h["Content-Encoding"] = []string{"gzip"}
		for i := range 40 {
			h.Set("X-"+strconv.Itoa(i), strings.Repeat("v", i))
		}
		io.WriteString(w, "zipped")
	})
	on("/headers/huge", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Huge", text)
		io.WriteString(w, text)
	})
	for name, c := range map[string]struct {
		status, length int
		fields         []Field
	}{
		"whole":   {200, 5, []Field{{"Content-Type", "text/x"}, {"Etag", `"a"`}, {"Content-Length", "5"}, {"X-Evil", "a\r\nX-More: b"}}},
		"long":    {200, 40_000, []Field{{"Content-Type", "text/x"}, {"Content-Length", "40000"}}},
		"unknown": {200, -1, []Field{{"Content-Type", "text/x"}}},
		"nothing": {304, 40_000, []Field{{"Etag", `"a"`}}},
		"error":   {503, 5, []Field{{"Content-Type", "text/x"}, {"Content-Length", "5"}, {"Retry-After", "1"}}},
	} {
		on("/fields/"+name, func(w http.ResponseWriter, r *http.Request) {
			if to, ok := w.(interface {
				WriteFields(status int, fields []Field, length int)
			}); ok {
				to.WriteFields(c.status, c.fields, c.length)
			} else {
				for _, f := range c.fields {
					w.Header().Set(f.Name, f.Value)
				}
				w.WriteHeader(c.status)
			}
			if to, ok := w.(interface {
				WriteFields(status int, fields []Field, length int)
			}); ok {
				to.WriteFields(500, nil, 0) // too late
			}
			if r.Method != "HEAD" && c.status != 304 {
				io.WriteString(w, text[:max(c.length, 0)])
			}
		})
	}
	on("/dated", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	})
	on("/close", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		io.WriteString(w, "bye")
	})
	on("/abort", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	on("/abort/late", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "50000")
		io.WriteString(w, text[:40_000])
		panic(http.ErrAbortHandler)
	})
	on("/panic", func(w http.ResponseWriter, r *http.Request) { panic("secret of the handler") })
	on("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		_, served := r.Context().Value(http.ServerContextKey).(*http.Server)
		fmt.Fprint(w, r.Method, r.RequestURI, r.URL, r.Proto, r.Host, r.Header, r.ContentLength, r.TransferEncoding, string(b), err,
			addr.Network(), served, r.Context().Err(), r.RemoteAddr != "", r.TLS)
	})
	on("/echo/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.URL.Path) })
	return mux
}

// Whatever a handler does, the reply is the one that net/http would send; and so it is to whatever is asked, by whom ever it is answered.
func TestLikeNetHTTP(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, bytes.Repeat([]byte("0123456789abcdef"), 10_000), 0o600); err != nil {
		t.Fatal(err)
	}
	h := behaviour(file)
	ours, theirs := serve(t, true, h, nil), serve(t, false, h, nil)
	compare := func(name, in string, asked ...string) {
		t.Helper()
		got, want := exchange(t, ours.addr, in, asked...), exchange(t, theirs.addr, in, asked...)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s:\n%.3000q\nnet/http:\n%.3000q", name, fmt.Sprint(got), fmt.Sprint(want))
		}
	}
	request := func(method, path string) string { return method + " " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }
	paths := []string{"/nothing", "/short", "/html", "/long", "/pieces", "/flushed", "/flushed/sized", "/flushed/typed", "/status/1", "/file", "/file/unsized", "/sized/0", "/sized/1", "/sized/5000",
		"/sized/16184", "/sized/16384", "/sized/49999", "/sized/pieces", "/sized/untyped", "/sized/early", "/sized/late", "/status/204", "/status/304", "/status/404",
		"/status/206", "/status/503", "/status/599", "/status/999", "/headers", "/headers/huge", "/fields/whole", "/fields/long", "/fields/unknown", "/fields/nothing", "/fields/error", "/dated", "/close", "/abort", "/abort/late", "/panic", "/echo", "/unknown"}
	for _, p := range paths {
		for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
			if method == "HEAD" && slices.Contains([]string{"/long", "/pieces", "/flushed", "/flushed/sized", "/flushed/typed", "/file/unsized", "/headers/huge", "/abort/late"}, p) {
				continue // of what it has not sent yet net/http knows less
			}
			// The one after shows where the reply ended.
			compare(method+" "+p, request(method, p)+request("GET", "/short"), method, "GET")
		}
	}
	for _, p := range []string{"/sized/nil", "/sized/empty"} { // net/http sends them in chunks
		if got := exchange(t, ours.addr, request("GET", p)+request("GET", "/short"), "GET", "GET"); len(got) != 2 || got[0].Status != 200 || got[1].Body != "hello" {
			t.Errorf("%s: %+v", p, got)
		}
	}
	if !strings.Contains(ours.log.String(), "secret of the handler") {
		t.Error("a panic is not logged")
	}
	for _, in := range slices.Concat(served, passed) {
		if in = strings.ReplaceAll(in, "\r\n\r\n", "\r\nX-Echo: 1\r\n\r\n"); strings.HasPrefix(in, "PRI") || strings.HasPrefix(in, "\x16") {
			continue
		}
		method, _, _ := strings.Cut(in, " ")
		compare(in, in+request("GET", "/echo"), method, "GET")
	}
	for _, c := range []struct {
		name, in string
		asked    []string
	}{
		{"bodies", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + request("GET", "/echo"), []string{"POST", "GET"}},
		{"chunks", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + request("GET", "/echo"), []string{"POST", "GET"}},
		{"a body of GET", "GET /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 36\r\n\r\n" + request("GET", "/stolen") + request("GET", "/echo"), []string{"GET", "GET"}},
		{"an old one", "GET /echo HTTP/1.0\r\n\r\n", []string{"GET", "GET"}},
		{"an old one that stays", "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + request("GET", "/short"), []string{"GET", "GET"}},
		{"many at once", request("GET", "/echo/1") + request("HEAD", "/echo/2") + request("GET", "/long") + "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi" +
			request("GET", "/echo/3") + request("OPTIONS", "/echo/4"), []string{"GET", "HEAD", "GET", "POST", "GET", "OPTIONS"}},
		{"the last", "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n" + request("GET", "/short"), []string{"GET", "GET"}},
		{"a long header", "GET /short HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 15<<10) + "\r\n\r\n" + request("GET", "/echo"), []string{"GET", "GET"}},
		{"too long a header", "GET /short HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 30<<10) + "\r\n\r\n", []string{"GET", "GET"}},
		{"too long a line", "GET /" + strings.Repeat("x", 30<<10), []string{"GET", "GET"}},
	} {
		compare(c.name, c.in, c.asked...)
	}
	// However it comes.
	for _, n := range []int{1, 3, 100} {
		c := ours.dial()
		in := strings.Repeat(request("GET", "/echo/1"), 3)
		for i := 0; i < len(in); i += n {
			io.WriteString(c, in[i:min(i+n, len(in))])
			runtime.Gosched()
		}
		r := bufio.NewReader(c)
		for range 3 {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(resp.Body); string(b) != "/echo/1" || err != nil {
				t.Errorf("%d bytes at a time: %q, %v", n, b, err)
			}
		}
		c.Close()
	}
}

// HTTP/2 by prior knowledge is net/http's.
func TestHTTP2(t *testing.T) {
	s := serve(t, true, behaviour(""), nil)
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	r, err := (&http.Client{Transport: tr, Timeout: patience}).Get("http://" + s.addr + "/short")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if b, err := io.ReadAll(r.Body); r.ProtoMajor != 2 || string(b) != "hello" || err != nil {
		t.Errorf("%s %q %v", r.Proto, b, err)
	}
}

// A waiting is a handler that holds /held until it is told, or the client leaves.
type waiting struct {
	held, left atomic.Int64
	tell       chan struct{}
}

func (h *waiting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/held":
		done := r.Context().Done()
		h.held.Add(1)
		select {
		case <-h.tell:
		case <-done:
			h.left.Add(1)
			if r.Context().Err() == nil {
				panic("it has ended and has no error")
			}
			panic(http.ErrAbortHandler)
		}
	case "/derived": // by which a context is asked after its request too
		ctx, cancel := context.WithTimeout(r.Context(), time.Hour)
		defer cancel()
		if ctx.Err() != nil {
			panic(ctx.Err())
		}
	}
	w.Header().Set("Content-Length", "2")
	io.WriteString(w, "ok")
}

func read200(t testing.TB, r *bufio.Reader) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(b) != "ok" || err != nil {
		t.Fatalf("%d %q %v", resp.StatusCode, b, err)
	}
	return resp
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }

// A client that leaves, or says that it will send no more, ends its request's context, the first one and later ones; one that stays is answered, and asks
// again.
func TestHeld(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn){
		"close": func(c *net.TCPConn) { c.Close() },
		"half":  func(c *net.TCPConn) { c.CloseWrite() },
		"reset": func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
	} {
		for before := range 4 {
			t.Run(fmt.Sprint(name, before), func(t *testing.T) {
				h := &waiting{tell: make(chan struct{})}
				s := serve(t, true, h, nil)
				c := s.dial()
				r := bufio.NewReader(c)
				for i := range before {
					io.WriteString(c, get([]string{"/held", "/derived", "/"}[i%3]))
					if i%3 == 0 {
						h.tell <- struct{}{}
					}
					read200(t, r)
				}
				held := h.held.Load()
				io.WriteString(c, get("/held"))
				eventually(t, "it is held", func() bool { return h.held.Load() == held+1 })
				leave(c)
				eventually(t, "it has left", func() bool { return h.left.Load() == 1 && s.port.Stats().Open == 0 })
			})
		}
	}
}

// What is sent while a request is held is answered after it, in its order, also what is not for this package.
func TestHeldPipeline(t *testing.T) {
	h := &waiting{tell: make(chan struct{})}
	s, watch := serveSpied(t, h, nil)
	for _, more := range []string{
		get("/"), get("/held"), get("/") + get("/held") + get("/"), strings.Repeat(get("/"), 500), get("/derived") + get("/held"),
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + get("/"), "GET /nonsense\n\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 9000) + "\r\n\r\n" + get("/"),
	} {
		for _, slowly := range []bool{false, true} {
			c := s.dial()
			r := bufio.NewReader(c)
			held := h.held.Load()
			if slowly {
				io.WriteString(c, get("/held"))
				eventually(t, "it is held", func() bool { return h.held.Load() == held+1 })
				go io.WriteString(c, more)
				eventually(t, "some of it is read", func() bool { return watch.last().read.Load() > int64(len(get("/held"))) })
			} else {
				go io.WriteString(c, get("/held")+more)
			}
			replies := 1 + strings.Count(more, " HTTP/1.1\r\n")
			go func() {
				for range 1 + strings.Count(more, "/held") {
					h.tell <- struct{}{}
				}
			}()
			for range replies {
				read200(t, r)
			}
			if strings.Contains(more, "\n\n") {
				if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 400 {
					t.Errorf("%.100q: %v, %v", more, resp, err)
				}
			}
			if h.left.Load() != 0 {
				t.Fatalf("%.100q: it is said to have left", more)
			}
			c.Close()
		}
	}
	eventually(t, "all are gone", func() bool { return s.port.Stats().Open == 0 })
}

// Connections end when nothing comes in time: at first, between requests, and in the middle of a header; not while they are answered.
func TestTimeouts(t *testing.T) {
	const short = 300 * time.Millisecond
	for name, c := range map[string]struct {
		set  func(*http.Server)
		send []string
	}{
		"nothing":                  {func(s *http.Server) { s.ReadHeaderTimeout = short }, nil},
		"half a header":            {func(s *http.Server) { s.ReadHeaderTimeout = short }, []string{"GET / HT"}},
		"half of a second":         {func(s *http.Server) { s.ReadHeaderTimeout = short }, []string{get("/"), "GET / HT"}},
		"half of a second at once": {func(s *http.Server) { s.ReadHeaderTimeout = short }, []string{get("/") + "GET / HT"}},
		"half after a held one":    {func(s *http.Server) { s.ReadHeaderTimeout = short }, []string{get("/held"), "GET / HT"}},
		"idle":                     {func(s *http.Server) { s.IdleTimeout = short }, []string{get("/")}},
		"idle after a held one":    {func(s *http.Server) { s.IdleTimeout = short }, []string{get("/held")}},
		"idle after another":       {func(s *http.Server) { s.IdleTimeout = short }, []string{get("/held"), get("/")}},
	} {
		t.Run(name, func(t *testing.T) {
			h := &waiting{tell: make(chan struct{})}
			s, watch := serveSpied(t, h, c.set)
			k := s.dial()
			r := bufio.NewReader(k)
			for _, in := range c.send {
				io.WriteString(k, in)
				if in == get("/held") {
					eventually(t, "it is held", func() bool { return h.held.Load() == 1 })
					if watch.last().readBy.Load() {
						t.Error("there is a time by which the next request has to come")
					}
					h.tell <- struct{}{}
				}
				if strings.HasPrefix(in, get("/")) || in == get("/held") {
					read200(t, r)
				}
			}
			began := time.Now()
			if b, err := io.ReadAll(r); err != nil || len(b) > 0 {
				t.Errorf("%q, %v", b, err)
			}
			if took := time.Since(began); took > patience/2 {
				t.Errorf("after %v", took)
			}
			if h.left.Load() != 0 {
				t.Error("it is said to have left")
			}
		})
	}
}

// Shutdown closes what is idle, has what is held end, finishes what is being answered, and takes nobody any more.
func TestShutdown(t *testing.T) {
	for _, again := range []bool{false, true} { // on connections that have been used before
		h := &waiting{tell: make(chan struct{})}
		s := serve(t, true, h, nil)
		idle, held, post := s.dial(), s.dial(), s.dial()
		for _, c := range []net.Conn{idle, held} {
			if c == idle || again {
				io.WriteString(c, get("/held"))
				h.tell <- struct{}{}
				read200(t, bufio.NewReader(c))
			}
		}
		io.WriteString(post, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
		read200(t, bufio.NewReader(post))
		n := h.held.Load()
		io.WriteString(held, get("/held"))
		eventually(t, "one is held", func() bool { return h.held.Load() == n+1 })
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- s.srv.Shutdown(ctx) }()
		for _, c := range []net.Conn{idle, held, post} {
			if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if c, err := net.Dial("tcp", s.addr); err == nil {
			c.Close()
			t.Error("somebody is let in")
		}
		if h.left.Load() != 1 {
			t.Error("what was held has not been told")
		}
		s.end()
	}
}

// What is being sent when Shutdown begins is finished, and is the last on its connection; a new connection's first request is waited for.
func TestShutdownFinishes(t *testing.T) {
	writing, more := make(chan struct{}), make(chan struct{})
	s := serve(t, true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "200000")
		w.Write(make([]byte, 100_000))
		if r.URL.Path == "/" {
			close(writing)
			<-more
		}
		w.Write(make([]byte, 100_000))
	}), nil)
	busy, fresh := s.dial(), s.dial()
	io.WriteString(busy, get("/"))
	<-writing
	eventually(t, "the other is there", func() bool { return s.ours() == 2 })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.srv.Shutdown(ctx) }()
	eventually(t, "it ends", func() bool { return s.srv.draining.Load() })
	io.WriteString(fresh, get("/2"))
	if resp, err := http.ReadResponse(bufio.NewReader(fresh), nil); err != nil || !resp.Close {
		t.Errorf("%v, %v", resp, err)
	} else if n, err := io.Copy(io.Discard, resp.Body); n != 200_000 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	close(more)
	resp, err := http.ReadResponse(bufio.NewReader(busy), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); n != 200_000 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Shutdown does not wait for longer than it may, and Close for nobody.
func TestShutdownInTime(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000000")
		for {
			if _, err := w.Write(make([]byte, 100_000)); err != nil {
				return
			}
		}
	})
	s := serve(t, true, h, nil)
	c := s.dial()
	io.WriteString(c, get("/"))
	if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	s.end()
}

// A reader that stalls is given up at the handler's deadline, which is that reply's alone.
func TestWriteDeadline(t *testing.T) {
	failed := make(chan error, 1)
	body := make([]byte, 32<<20) // does not fit into socket buffers
	s, watch := serveSpied(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stalled":
			http.NewResponseController(w).SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			n, err := w.Write(body)
			if n <= 0 || n >= len(body) {
				t.Errorf("%d bytes are said to have been written", n)
			}
			failed <- err
		case "/limited":
			http.NewResponseController(w).SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			io.WriteString(w, "ok")
		default:
			io.WriteString(w, "ok")
		}
	}), nil)
	c := s.dial()
	r := bufio.NewReader(c)
	io.WriteString(c, get("/limited"))
	read200(t, r)
	eventually(t, "the deadline is taken back", func() bool { return !watch.last().writeBy.Load() })
	io.WriteString(c, get("/"))
	read200(t, r)
	io.WriteString(c, get("/stalled"))
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	eventually(t, "it is closed", func() bool { return s.port.Stats().Open == 0 })
}

// Connections that have no request, whoever serves them, make room for others.
func TestIdleIsKnown(t *testing.T) {
	var idle, active atomic.Int64
	h := &waiting{tell: make(chan struct{})}
	s := serve(t, true, h, func(srv *http.Server) {
		srv.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateIdle:
				idle.Add(1)
			case http.StateActive:
				active.Add(1)
			}
		}
	})
	c := s.dial()
	r := bufio.NewReader(c)
	for i, in := range []string{get("/"), get("/held"), get("/"), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"} {
		io.WriteString(c, in)
		if i == 1 {
			h.tell <- struct{}{}
		}
		read200(t, r)
		eventually(t, "it is idle", func() bool { return idle.Load() == int64(i+1) && active.Load() == int64(i+1) })
	}
}

// memory is what the process has for its heap's objects and its stacks.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// A connection costs little, whatever it has been used for: with nothing on it, idle, after a long header, and held.
func TestMemory(t *testing.T) {
	const clients = 300
	for _, c := range []struct {
		name, in string
		most     int64
	}{
		{"nothing", "", 8 << 10},
		{"half a header", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 1000), 10 << 10},
		{"half a long header", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 15<<10), 32 << 10},
		{"idle", get("/"), 16 << 10},
		{"idle after a long header", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 15<<10) + "\r\n\r\n", 20 << 10},
		{"idle after many fields", "GET / HTTP/1.1\r\nHost: a\r\n" + manyFieldsOf(1900) + "\r\n", 20 << 10},
		{"idle after one field many times", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("a:\r\n", 480) + "\r\n", 16 << 10},
		{"idle after more", "GET / HTTP/1.1\r\nHost: a\r\n" + manyFieldsOf(15_000) + "\r\n", 20 << 10},
		{"held", get("/held"), 28 << 10},
	} {
		h := &waiting{tell: make(chan struct{})}
		s, watch := serveSpied(t, h, nil)
		before := memory()
		var all []net.Conn
		for range clients {
			k := s.dial()
			io.WriteString(k, c.in)
			if strings.HasSuffix(c.in, "\r\n\r\n") && c.in != get("/held") {
				if _, err := http.ReadResponse(bufio.NewReaderSize(k, 16), nil); err != nil {
					t.Fatal(err)
				}
			}
			all = append(all, k)
		}
		eventually(t, "they are there", func() bool { return s.port.Stats().Open == clients })
		if c.in == get("/held") {
			eventually(t, "they are held", func() bool { return h.held.Load() == clients })
		}
		eventually(t, "what has been sent is read", func() bool { return watch.read() == int64(clients*len(c.in)) })
		each := (memory() - before) / clients
		for deadline := time.Now().Add(patience); each > c.most && !raceEnabled; each = (memory() - before) / clients { // some of it is just being let go
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d bytes each, want at most %d", c.name, each, c.most)
			}
		}
		t.Logf("%s: %d bytes each", c.name, each)
		for _, k := range all {
			k.Close()
		}
		s.end()
	}
}

// manyFieldsOf is as many fields as that many bytes can be.
func manyFieldsOf(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "%x:\r\n", i)
	}
	return b.String()
}

// A client that has left has done so for later requests of its connection too.
func TestLeftBefore(t *testing.T) {
	first, errs := make(chan struct{}), make(chan error, 2)
	s := serve(t, true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/1":
			<-r.Context().Done()
			first <- struct{}{}
		case "/2":
			errs <- r.Context().Err()
			<-r.Context().Done()
			errs <- r.Context().Err()
		}
	}), nil)
	c := s.srv
	k := s.dial()
	io.WriteString(k, get("/1"))
	eventually(t, "it is there", func() bool { return s.ours() == 1 })
	var mine *conn
	for _, x := range c.all() {
		mine = x
	}
	mine.scope.leave() // as the goroutine that reads does
	<-first
	io.WriteString(k, get("/2"))
	for range 2 {
		if err := <-errs; err != context.Canceled {
			t.Errorf("%v", err)
		}
	}
}

// A request that is answered at once costs an allocation: the text of its header.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	body, length, kind := []byte("ok"), []string{"2"}, []string{"text/plain"}
	s := serve(t, true, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Length"], w.Header()["Content-Type"] = length, kind
		w.Write(body)
	}), nil)
	c := s.dial()
	in, out := []byte(served[3]), make([]byte, 1000)
	if n := testing.AllocsPerRun(500, func() {
		c.Write(in)
		if _, err := c.Read(out); err != nil {
			t.Fatal(err)
		}
	}); n > 1.5 {
		t.Errorf("%v", n)
	}
}

// BenchmarkServe is one request over loopback, here and by net/http.
func BenchmarkServe(b *testing.B) {
	for name, ours := range map[string]bool{"http1": true, "nethttp": false} {
		b.Run(name, func(b *testing.B) {
			body, length, kind := make([]byte, 1500), []string{"1500"}, []string{"text/plain"}
			s := serve(b, ours, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Content-Length"], w.Header()["Content-Type"] = length, kind
				w.Write(body)
			}), nil)
			c := s.dial()
			c.SetDeadline(time.Time{})
			in, out := []byte(served[3]), make([]byte, 4000)
			b.ReportAllocs()
			for b.Loop() {
				c.Write(in)
				if _, err := c.Read(out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
