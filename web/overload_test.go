package web

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"headwater/playlist"
	"headwater/segmenter"
)

var randomNames = flag.Int("random-names", 200_000, "requests of TestRandomNames")

// patience is how long a test waits for what real sockets do.
const patience = 30 * time.Second

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(time.Millisecond)
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

func dial(t testing.TB, base string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// ended waits until the other side has ended a connection.
func ended(t testing.TB, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("a connection is still open")
	}
}

// Requests that come byte by byte are not waited for beyond their time, and cost little meanwhile; others are served. In
// HTTP/2, where there is no time for a header, a peer in the middle of one cannot answer PING.
func TestSlowRequests(t *testing.T) {
	clients, most := 400, int64(64<<10)
	if raceEnabled {
		clients = 50 // it is slow, and they must not be closed before all are there
	}
	for _, c := range []struct{ name, start, byte string }{
		{"HTTP/1.1", "GET /live/demo/index.m3u8 HTTP/1.1\r\nHost: a.test\r\nX-Slow: ", "x"},
		{"HTTP/2", http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x3f\xff\x01\x05\x00\x00\x00\x01", "\x00"},
		{"nothing", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := newLive(t)
			s.ReadHeaderTimeout = 2 * time.Second
			base, _ := listenWith(t, s, func(srv *http.Server) {
				srv.HTTP2.SendPingTimeout /= 20
				srv.HTTP2.PingTimeout /= 20
			})
			ask(t, "GET", base+"/live/demo/index.m3u8")
			before, goroutines := memory(), runtime.NumGoroutine()
			all := together(t, func() ([]*net.TCPConn, bool) {
				began := time.Now()
				var all []*net.TCPConn
				for range clients {
					k := dial(t, base)
					io.WriteString(k, c.start)
					all = append(all, k)
				}
				for {
					if runtime.NumGoroutine() >= goroutines+clients {
						return all, true
					}
					if time.Since(began) > s.ReadHeaderTimeout {
						return all, false
					}
					time.Sleep(time.Millisecond)
				}
			})
			stop := make(chan struct{})
			var feeding sync.WaitGroup
			feeding.Go(func() {
				for tick := time.NewTicker(50 * time.Millisecond); ; {
					select {
					case <-stop:
						return
					case <-tick.C:
						for _, k := range all {
							io.WriteString(k, c.byte)
						}
					}
				}
			})
			each := (memory() - before) / int64(clients)
			if r := ask(t, "GET", base+"/live/demo/index.m3u8"); r.StatusCode != 200 {
				t.Errorf("%d", r.StatusCode)
			}
			for _, k := range all {
				ended(t, k)
			}
			close(stop)
			feeding.Wait()
			eventually(t, "they are gone", func() bool { return runtime.NumGoroutine() <= goroutines+5 })
			t.Logf("%d bytes each", each)
			if each > most && !raceEnabled {
				t.Errorf("%d bytes each, want at most %d", each, most)
			}
		})
	}
}

// together opens connections that are dropped one after the other, and again when the first is dropped before the last is
// there, for which this process may be to blame.
func together(t testing.TB, open func() (all []*net.TCPConn, ok bool)) []*net.TCPConn {
	t.Helper()
	goroutines := runtime.NumGoroutine()
	for range 5 {
		all, ok := open()
		if ok {
			return all
		}
		for _, k := range all {
			k.Close()
		}
		eventually(t, "they are gone", func() bool { return runtime.NumGoroutine() <= goroutines+5 })
	}
	t.Fatal("they are never there together")
	return nil
}

// Requests for whatever names leave nothing behind: neither memory, nor goroutines, nor series.
func TestRandomNames(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	ops := s.OpsHandler()
	dir := e.dir("video")
	total := *randomNames
	if raceEnabled {
		total = min(total, 20_000)
	}
	const conns, batch = 4, 50
	run := func(n int) {
		var all sync.WaitGroup
		for i := range conns {
			k := dial(t, base)
			r := rand.New(rand.NewPCG(1, uint64(i+n)))
			all.Go(func() {
				defer k.Close()
				k.SetDeadline(time.Now().Add(5 * patience))
				in := bufio.NewReader(k)
				var out bytes.Buffer
				for sent := 0; sent < n/conns; sent += batch {
					out.Reset()
					for range batch {
						writeRandom(&out, r, dir)
					}
					if _, err := k.Write(out.Bytes()); err != nil {
						t.Error(err)
						return
					}
					for range batch {
						if err := skipReply(in); err != nil {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		all.Wait()
	}
	series := func() int {
		return strings.Count(call(t.Context(), ops, "GET", "/metrics").body, "\n")
	}
	run(20 * conns * batch)
	goroutines := 0
	eventually(t, "it is quiet", func() bool {
		n := runtime.NumGoroutine()
		quiet := n == goroutines
		goroutines = n
		return quiet
	})
	before, lines, began := memory(), series(), time.Now()
	run(total)
	took := time.Since(began)
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
	after := memory()
	t.Logf("%d requests in %v; %d bytes before, %d after", total, took, before, after)
	if after > before+1<<20 {
		t.Errorf("%d bytes before, %d after", before, after)
	}
	if n := series(); n != lines {
		t.Errorf("%d lines of metrics before, %d after", lines, n)
	}
}

// writeRandom writes a request for something that is not there.
func writeRandom(w *bytes.Buffer, r *rand.Rand, dir string) {
	x := r.Uint64()
	method, path := "GET", ""
	switch x % 10 {
	case 0, 1, 2:
		path = fmt.Sprintf("/live/%x/index.m3u8", x)
	case 3:
		path = fmt.Sprintf("/%x/%x/index.m3u8?_HLS_msn=%d", x, x, x)
	case 4:
		path = fmt.Sprintf("/live/demo/%d/video/s%d.m4s", x, x)
	case 5:
		path = fmt.Sprintf("%ss%d.m4s", dir, x)
	case 6:
		path = fmt.Sprintf("/live/demo/index.m3u8?CMCD=sid%%3D%%22%x%%22&k%x=1", x, x)
	case 7:
		path = fmt.Sprintf("/api/streams/live/%x", x)
	case 8:
		method, path = fmt.Sprintf("M%X", x), fmt.Sprintf("/%x", x)
	case 9:
		path = fmt.Sprintf("/live/demo/ts/%x.m3u8", x)
	}
	fmt.Fprintf(w, "%s %s HTTP/1.1\r\nHost: h%x.test\r\nX-%x: %x\r\nAccept-Encoding: c%x\r\n\r\n", method, path, x, x, x, x)
}

// skipReply reads a reply's header and body, as cheaply as it can.
func skipReply(in *bufio.Reader) error {
	size := 0
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			_, err := in.Discard(size)
			return err
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			fmt.Sscan(string(v), &size)
		}
	}
}

// Readers that stall in the middle of a large segment are dropped in time, and cost little memory until then: whether their
// kernel takes no more or, in HTTP/2, only their stream does not.
func TestStalledReaders(t *testing.T) {
	s := &Server{Origin: &segmenter.Origin{}, WriteTimeout: 2 * time.Second, MinRate: 1 << 30}
	e := publish(t, s.Origin, "live/demo")
	e.frame = make([]byte, 400<<10) // a segment of 24 MB does not fit into socket buffers
	e.run(2*testGOP + 10)
	path := e.dir("video") + playlist.SegmentName(e.video().Window().Segments[0].MSN)
	base, _ := listenWith(t, s, func(srv *http.Server) { srv.HTTP2.WriteByteTimeout /= 15 })
	const clients, most = 100, 200 << 10
	for _, c := range []struct {
		name  string
		start func(net.Conn)
	}{
		{"HTTP/1.1", func(k net.Conn) { io.WriteString(k, "GET "+path+" HTTP/1.1\r\nHost: a.test\r\n\r\n") }},
		{"HTTP/2", func(k net.Conn) { newFramer(t, k, 1<<30).headers(1, "GET", path, true) }},
		{"HTTP/2 stream", func(k net.Conn) { newFramer(t, k, 1000).headers(1, "GET", path, true) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, each int64
			var broken uint64
			var began time.Time
			all := together(t, func() (all []*net.TCPConn, ok bool) {
				before, broken, began = memory(), s.metrics.broken.Load(), time.Now()
				for range clients {
					k := dial(t, base)
					k.SetReadBuffer(16 << 10)
					c.start(k)
					all = append(all, k)
				}
				// The first bytes show that they are being served.
				for _, k := range all {
					k.SetReadDeadline(time.Now().Add(patience))
					if _, err := io.ReadFull(k, make([]byte, 100)); err != nil {
						t.Log(err)
						return all, false
					}
				}
				each = (memory() - before) / clients
				// Or they were dropped before their memory could be measured. The race detector is slow, and has some dropped.
				dropped := s.metrics.broken.Load() - broken
				return all, dropped == 0 || raceEnabled && dropped < clients
			})
			if each > most && !raceEnabled {
				t.Errorf("%d bytes each, want at most %d", each, most)
			}
			eventually(t, "all are dropped", func() bool { return s.metrics.broken.Load() == broken+clients })
			t.Logf("%d bytes each, dropped after %v", each, time.Since(began))
			for _, k := range all {
				k.Close()
			}
			eventually(t, "memory comes back", func() bool { return memory() < before+2<<20 })
		})
	}
}

// Who may not be held is told so, in both protocols.
func TestCrowdedOverTheWire(t *testing.T) {
	s, e := newLive(t)
	s.MaxBlocked = 1
	base, _ := listen(t, s)
	url := base + e.dir("video") + "index.m3u8" + edgeQuery(e.video().Window(), 1)
	held := make(chan int)
	go func() { held <- ask(t, "GET", url).StatusCode }()
	eventually(t, "one is held", func() bool { return s.gate.now.Load() == 1 })
	for _, rt := range []http.RoundTripper{http.DefaultTransport, newH2C(t)} {
		r, err := rt.RoundTrip(mustRequest(t, url))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != 503 || r.Header.Get("Retry-After") != "1" || r.Header.Get("Cache-Control") != "private, no-store" {
			t.Errorf("%s: %d %v", r.Proto, r.StatusCode, r.Header)
		}
	}
	e.part()
	if status := <-held; status != 200 {
		t.Errorf("%d", status)
	}
}

// A framer speaks HTTP/2 as no client would.
type framer struct {
	*http2.Framer
	t   testing.TB
	enc *hpack.Encoder
	buf bytes.Buffer
}

// newFramer begins a connection on which that many bytes of a stream may be sent.
func newFramer(t testing.TB, c net.Conn, window uint32) *framer {
	f := &framer{Framer: http2.NewFramer(c, c), t: t}
	f.enc = hpack.NewEncoder(&f.buf)
	io.WriteString(c, http2.ClientPreface)
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteWindowUpdate(0, 1<<30); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *framer) headers(stream uint32, method, path string, end bool) error {
	f.buf.Reset()
	for _, h := range [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "a.test"}, {":path", path}} {
		f.enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	return f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: f.buf.Bytes(), EndStream: true, EndHeaders: end})
}

// Requests that are reset as soon as they are made (CVE-2023-44487) do not pile up, however many: of those that are held, no
// more than a connection's streams are there at a time.
func TestRapidReset(t *testing.T) {
	s, e := newLive(t)
	s.MaxStreams = 50
	base, _ := listen(t, s)
	path := e.dir("video") + "index.m3u8" + edgeQuery(e.video().Window(), 1)
	goroutines := runtime.NumGoroutine()
	c := dial(t, base)
	f := newFramer(t, c, 1<<30)
	go io.Copy(io.Discard, c)
	most := 0
	n := 0
	for ; n < 20_000; n++ {
		id := uint32(2*n + 1)
		if f.headers(id, "GET", path, true) != nil || f.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break
		}
		most = max(most, runtime.NumGoroutine())
	}
	t.Logf("%d resets, %d goroutines", n, most-goroutines)
	if most > goroutines+2*s.MaxStreams+20 {
		t.Errorf("%d goroutines, %d before", most, goroutines)
	}
	if r := ask(t, "GET", base+"/live/demo/index.m3u8"); r.StatusCode != 200 {
		t.Errorf("%d", r.StatusCode)
	}
	c.Close()
	eventually(t, "nothing is held", func() bool { return s.gate.now.Load() == 0 })
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines+5 })
}

// A header that goes on and on in CONTINUATION frames (CVE-2023-45288) ends the connection soon.
func TestContinuationFlood(t *testing.T) {
	s, _ := newLive(t)
	base, _ := listen(t, s)
	c := dial(t, base)
	c.SetDeadline(time.Now().Add(patience))
	f := newFramer(t, c, 1<<30)
	f.headers(1, "GET", "/", false)
	before := memory()
	sent := 0
	// A field that is not indexed, of 16 KB, over and over.
	f.buf.Reset()
	f.enc.WriteField(hpack.HeaderField{Name: "x-long", Value: strings.Repeat("~", 12<<10), Sensitive: true})
	block := f.buf.Bytes()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		io.Copy(io.Discard, c)
	}()
	for ; sent < 1<<30; sent += len(block) {
		if f.WriteContinuation(1, false, block) != nil {
			break
		}
	}
	t.Logf("%d bytes until the end", sent)
	if after := memory(); sent >= 64<<20 || after > before+2<<20 {
		t.Errorf("%d bytes sent; %d bytes before, %d after", sent, before, after)
	}
	c.Close()
	<-gone
}

// A frame may not be larger than the least that the protocol allows: whoever announces one that is has the connection ended,
// and not a buffer made for it (RFC 9113 4.2).
func TestLargeFrame(t *testing.T) {
	s, _ := newLive(t)
	base, _ := listen(t, s)
	c := dial(t, base)
	newFramer(t, c, 1<<30)
	io.WriteString(c, "\x0f\xff\xff\x01\x05\x00\x00\x00\x01") // HEADERS of 1 MB
	ended(t, c)
}
