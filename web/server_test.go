package web

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"headwater/playlist"
	"headwater/segmenter"
	"headwater/segmenter/media"
)

// A thousand clients that ask for the same thing, before it is there and after, over HTTP/1.1 and HTTP/2, get the same.
func TestSameAnswerToAll(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	h2 := newH2C(t)
	url := base + e.dir("video") + "index.m3u8" + edgeQuery(e.video().Window(), 1)
	const clients, early = 1000, 500
	sums := make(chan string, clients)
	fetch := func(i int) {
		rt := http.RoundTripper(http.DefaultTransport)
		if i%2 == 1 {
			rt = h2
		}
		req, _ := http.NewRequest("GET", url, nil)
		req.Header.Set("Accept-Encoding", []string{"gzip", "identity", "br, gzip", "gzip, deflate, br, zstd"}[i/2%4])
		req.Header.Set("User-Agent", fmt.Sprint("player/", i)) // nobody gets another answer for who he is
		req.Header.Set("Cookie", fmt.Sprint("id=", i))
		req.Header.Set("CMCD-Session", fmt.Sprintf(`sid="%d"`, i))
		resp, err := rt.RoundTrip(req)
		if err != nil {
			sums <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		resp.Header.Del("Date")
		sums <- fmt.Sprint(resp.StatusCode, resp.Header, sha256.Sum256(body), err)
	}
	for i := range early {
		go fetch(i)
	}
	for deadline := time.Now().Add(20 * time.Second); s.gate.now.Load() < early; {
		if time.Now().After(deadline) {
			t.Fatalf("%d are held", s.gate.now.Load())
		}
		time.Sleep(time.Millisecond) // the network is real
	}
	e.part()
	for i := early; i < clients; i++ {
		go fetch(i)
	}
	count := map[string]int{}
	for range clients {
		count[<-sums]++
	}
	if len(count) != 4 {
		t.Errorf("%v", count)
	}
	for k, n := range count {
		if !strings.HasPrefix(k, "200") || n != clients/4 || !strings.Contains(k, "max-age=12") {
			t.Errorf("%d times %s", n, k)
		}
	}
}

func newH2C(t testing.TB) *http.Transport {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func TestHTTP2WithoutTLS(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	h2 := newH2C(t)
	for _, o := range e.objects() {
		req, _ := http.NewRequest("GET", base+o.path, nil)
		req.Header.Set("Accept-Encoding", "identity")
		resp, err := h2.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := ask(t, "GET", base+o.path); err != nil || resp.ProtoMajor != 2 || string(body) != want.body || resp.Header.Get("Etag") != want.header("Etag") {
			t.Errorf("%s: %s %d bytes, %v", o.path, resp.Proto, len(body), err)
		}
	}
}

// Shutdown answers what is held and lets bodies be finished.
func TestShutdown(t *testing.T) {
	s := &Server{Origin: &segmenter.Origin{}}
	e := publish(t, s.Origin, "live/demo")
	e.frame = make([]byte, 400<<10) // a segment of 24 MB does not fit into socket buffers
	e.run(2*testGOP + 10)
	base, srv := listen(t, s)
	seg := e.video().Window().Segments[0]

	body, err := http.DefaultTransport.RoundTrip(mustRequest(t, base+e.dir("video")+playlist.SegmentName(seg.MSN)))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Body.Close()
	held := make(chan *reply)
	go func() { held <- ask(t, "GET", base+e.dir("video")+"index.m3u8"+edgeQuery(e.video().Window(), 1)) }()
	for s.gate.now.Load() == 0 {
		time.Sleep(time.Millisecond) // the network is real
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error)
	go func() { done <- srv.Shutdown(ctx) }()
	if r := <-held; r.StatusCode != 503 || r.body != errDraining.Error()+"\n" || r.header("Retry-After") != "1" || r.header("Cache-Control") != "private, no-store" {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	if n, err := io.Copy(io.Discard, body.Body); err != nil || n != int64(seg.Size()) {
		t.Errorf("%d of %d bytes: %v", n, seg.Size(), err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func mustRequest(t testing.TB, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A reader that does not read is given up on, and the rest of what it was sent does not look like an end.
func TestStalledReader(t *testing.T) {
	s := &Server{Origin: &segmenter.Origin{}, WriteTimeout: 100 * time.Millisecond, MinRate: 1 << 30}
	e := publish(t, s.Origin, "live/demo")
	e.frame = make([]byte, 400<<10)
	e.run(2*testGOP + 10)
	base, _ := listen(t, s)
	seg := e.video().Window().Segments[0]
	path := e.dir("video") + playlist.SegmentName(seg.MSN)

	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	for deadline := time.Now().Add(20 * time.Second); s.metrics.broken.Load() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("still being served")
		}
		time.Sleep(time.Millisecond) // the network is real
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err == nil || n >= int64(seg.Size()) {
		t.Errorf("%d of %d bytes, %v", n, seg.Size(), err)
	}

	if n := s.metrics.bytes[ClassSegment].Load(); n == 0 || n >= uint64(seg.Size()) {
		t.Errorf("%d of %d bytes are said to have been sent", n, seg.Size())
	}

	// Over HTTP/2 the stream is reset, not ended.
	resp, err = newH2C(t).RoundTrip(mustRequest(t, base+path))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for deadline := time.Now().Add(20 * time.Second); s.metrics.broken.Load() < 2; {
		if time.Now().After(deadline) {
			t.Fatal("still being served")
		}
		time.Sleep(time.Millisecond)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err == nil || n >= int64(seg.Size()) {
		t.Errorf("HTTP/2: %d of %d bytes, %v", n, seg.Size(), err)
	}
}

// Requests that their clients give up leave nothing behind.
func TestAbortedRequestsLeaveNothing(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	h2 := newH2C(t)
	url := base + e.dir("video") + "index.m3u8" + edgeQuery(e.video().Window(), 1)
	ask(t, "GET", base+"/live/demo/index.m3u8")
	before := openFiles(t)
	for round := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				rt := http.RoundTripper(http.DefaultTransport)
				if i%2 == 1 {
					rt = h2
				}
				if resp, err := rt.RoundTrip(mustRequest(t, url).WithContext(ctx)); err == nil {
					t.Errorf("answered: %d", resp.StatusCode)
					resp.Body.Close()
				}
			})
		}
		for s.gate.now.Load() < 100 {
			time.Sleep(time.Millisecond) // the network is real
		}
		cancel()
		wg.Wait()
		for deadline := time.Now().Add(20 * time.Second); s.gate.now.Load() > 0 || openFiles(t) > before+4; {
			if time.Now().After(deadline) {
				t.Fatalf("round %d: %d held, %d files, %d before", round, s.gate.now.Load(), openFiles(t), before)
			}
			time.Sleep(time.Millisecond)
		}
	}
	if n := s.gate.streams(); n != 0 {
		t.Errorf("places for %d renditions are kept", n)
	}
}

// streams is of how many streams somebody waits for something.
func (g *gate) streams() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.held)
}

func openFiles(t testing.TB) int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc/self/fd")
	}
	return len(list)
}

// Host means nothing, not even an absurd one.
func TestHost(t *testing.T) {
	s, _ := newLive(t)
	base, _ := listen(t, s)
	want := ask(t, "GET", base+"/live/demo/index.m3u8")
	for _, host := range []string{"evil.example", "a:99", ""} {
		req := mustRequest(t, base+"/live/demo/index.m3u8")
		req.Host = host
		req.Header.Set("Accept-Encoding", "identity")
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || string(body) != want.body {
			t.Errorf("%q: %d", host, resp.StatusCode)
		}
	}
}

func TestAccessLog(t *testing.T) {
	var lines bytes.Buffer
	s, e := newLive(t)
	s.Log, s.AccessLog = slog.New(slog.NewJSONHandler(&lines, nil)), true
	h := s.Handler()
	read := func() map[string]any {
		t.Helper()
		m := map[string]any{}
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			t.Fatalf("%v: %q", err, lines.String())
		}
		lines.Reset()
		return m
	}
	path := e.dir("video") + playlist.SegmentName(e.video().Window().LastMSN())
	call(t.Context(), h, "GET", path+`?token=secret&CMCD=bl%3D21300%2Cnor%3D%22..%2Fa%252Cb%22%2C%3D%2C%2Csid%3D%22x%22`, "Range: bytes=0-9", "CMCD-Request: mtp=25400", "Authorization: secret")
	m := read()
	for k, want := range map[string]any{
		"msg": "request", "method": "GET", "path": path, "status": 206.0, "bytes": 10.0, "held_ms": 0.0, "remote": "192.0.2.1:1234",
		"protocol": "HTTP/1.1", "class": "segment", "cache": "public, max-age=31536000, immutable", "range": "bytes=0-9",
		"cmcd": `mtp=25400,bl=21300,nor="../a%2Cb",sid="x"`,
	} {
		if m[k] != want {
			t.Errorf("%s: %v, want %v", k, m[k], want)
		}
	}
	if ms, ok := m["duration_ms"].(float64); !ok || ms <= 0 || ms > 10_000 {
		t.Errorf("duration: %v ms", m["duration_ms"])
	}
	if strings.Contains(fmt.Sprint(m), "secret") {
		t.Errorf("%v", m)
	}
	call(t.Context(), h, "POST", "/live/demo/index.m3u8?CMCD=%zz&CMCD="+strings.Repeat("x", 5000))
	if m := read(); m["status"] != 405.0 || m["class"] != "multivariant" || len(fmt.Sprint(m["cmcd"])) > maxLogged {
		t.Errorf("%v", m)
	}
	s.AccessLog = false
	call(t.Context(), h, "GET", path)
	if lines.Len() != 0 {
		t.Errorf("%s", lines.String())
	}
}

// A handler that panics costs its own request.
func TestPanic(t *testing.T) {
	s := &Server{Origin: &segmenter.Origin{}, Page: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "hello")
		}
		if r.URL.Path != "/plain" {
			w.Header().Set("Content-Encoding", "gzip")
			w.Header().Set("Etag", `"a"`)
			panic("oops")
		}
		io.WriteString(w, "hello")
	})}
	base, _ := listen(t, s)
	r := ask(t, "GET", base+"/early")
	if r.StatusCode != 500 || r.header("Cache-Control") != "private, no-store" || r.header("Retry-After") != "1" || strings.Contains(r.body, "oops") ||
		r.header("Content-Encoding")+r.header("Etag") != "" {
		t.Errorf("%d %v %s", r.StatusCode, r.Header, r.body)
	}
	if resp, err := http.DefaultTransport.RoundTrip(mustRequest(t, base+"/late")); err == nil {
		if _, err = io.ReadAll(resp.Body); err == nil {
			t.Error("a broken body looks whole")
		}
		resp.Body.Close()
	}
	if r := ask(t, "GET", base+"/plain"); r.StatusCode != 200 || r.header("Cache-Control") != "private, no-store" || r.header("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	if n := s.metrics.panics.Load(); n < 2 { // the client may try again what ended without a byte
		t.Errorf("%d panics counted", n)
	}
}

func TestAPI(t *testing.T) {
	s := &Server{Origin: &segmenter.Origin{}}
	base, _ := listen(t, s)
	if r := ask(t, "GET", base+"/api/streams"); r.StatusCode != 200 || r.body != "[]" || r.header("Cache-Control") != "public, max-age=1" || r.header("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", r.StatusCode, r.Header, r.body)
	}
	e := publish(t, s.Origin, "live/demo").run(5 * testGOP)
	publish(t, s.Origin, "live/another")
	r := ask(t, "GET", base+"/api/streams/live/demo")
	var info streamInfo
	if err := json.Unmarshal([]byte(r.body), &info); err != nil {
		t.Fatal(err, r.body)
	}
	if info.Name != "live/demo" || !info.Publishing || info.Since == nil || info.Run != e.stream.Run().ID || !info.Ready || info.TargetDuration != 2 ||
		info.PartTarget != 0.334 || info.KeyframeInterval != 2 || info.LongGOP != "stretch" || info.Playlist != "/live/demo/index.m3u8" || len(info.Tracks) != 2 {
		t.Errorf("%s", r.body)
	}
	v, a := info.Tracks[0], info.Tracks[1]
	if v.Kind != "video" || v.Codec != "avc1.64001f" || v.Width != 1280 || v.Height != 720 || v.FrameRate != 30 || v.Bitrate < 150_000 || v.Bitrate > 250_000 {
		t.Errorf("%+v", v)
	}
	if a.Kind != "audio" || a.Codec != "mp4a.40.2" || a.SampleRate != 48000 || a.Channels != 2 || a.Bitrate < 100_000 {
		t.Errorf("%+v", a)
	}
	if r := ask(t, "GET", base+"/api/streams/live/demo", "If-None-Match: "+r.header("Etag")); r.StatusCode != 304 {
		t.Errorf("%d", r.StatusCode)
	}
	for path, want := range map[string]int{"/api/streams/live/nothing": 404, "/api/streams/": 404, "/api/nothing": 404} {
		if r := ask(t, "GET", base+path); r.StatusCode != want || r.header("Cache-Control") != "public, max-age=1" {
			t.Errorf("%s: %d %v", path, r.StatusCode, r.Header)
		}
	}
	if r := ask(t, "DELETE", base+"/api/streams"); r.StatusCode != 405 || r.header("Allow") == "" {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	list := call(t.Context(), (&Server{Origin: s.Origin}).Handler(), "GET", "/api/streams")
	var all []streamInfo
	if err := json.Unmarshal([]byte(list.body), &all); err != nil || len(all) != 2 || all[0].Name != "live/another" || all[1].Name != "live/demo" || all[0].Tracks == nil {
		t.Errorf("%v %s", err, list.body)
	}
}

func TestOperations(t *testing.T) {
	ready := errors.New("warming")
	s := &Server{Origin: &segmenter.Origin{}, Ready: func() error { return ready }}
	s.Counters = []Counter{
		{Name: "headwater_rtmp_errors_total", Help: "Errors.", Labels: map[string]string{"kind": "format"}, Value: func() float64 { return 3 }},
		{Name: "headwater_rtmp_errors_total", Help: "Errors.", Labels: map[string]string{"kind": "unsupported"}, Value: func() float64 { return 4 }},
		{Name: "headwater_rtmp_connections", Help: "Connections.", Gauge: true, Value: func() float64 { return 5 }},
	}
	s.Origin.OnPart = s.Metrics().ObservePart
	e := publish(t, s.Origin, "live/demo").run(5 * testGOP)
	h, ops := s.Handler(), s.OpsHandler()
	for _, o := range e.objects() {
		call(t.Context(), h, "GET", o.path)
	}
	call(t.Context(), h, "GET", "/live/no/index.m3u8")
	s.metrics.observe(int64(1500 * time.Microsecond))

	if r := call(t.Context(), ops, "GET", "/healthz"); r.StatusCode != 200 || r.header("Cache-Control") != "private, no-store" {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	if r := call(t.Context(), ops, "GET", "/readyz"); r.StatusCode != 503 || !strings.Contains(r.body, "warming") {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	ready = nil
	if r := call(t.Context(), ops, "GET", "/readyz"); r.StatusCode != 200 {
		t.Errorf("%d", r.StatusCode)
	}
	if r := call(t.Context(), ops, "POST", "/metrics"); r.StatusCode != 405 {
		t.Errorf("%d", r.StatusCode)
	}
	if r := call(t.Context(), ops, "GET", "/live/demo/index.m3u8"); r.StatusCode != 404 {
		t.Errorf("media on the operations port: %d", r.StatusCode)
	}
	if r := call(t.Context(), h, "GET", "/metrics"); r.StatusCode != 404 {
		t.Errorf("metrics on the media port: %d", r.StatusCode)
	}
	r := call(t.Context(), ops, "GET", "/metrics")
	for _, want := range []string{
		`headwater_streams 1`,
		`headwater_stream_publishing{stream="live/demo"} 1`,
		`headwater_input_in_ladder{rendition="",role="primary",stream="live/demo"} 1`,
		`headwater_input_active{rendition="",role="primary",stream="live/demo"} 1`,
		fmt.Sprintf(`headwater_rendition_parts_total{rendition="video",stream="live/demo"} %d`, e.video().Stats().Parts),
		fmt.Sprintf(`headwater_rendition_segments_total{rendition="audio",stream="live/demo"} %d`, e.audio().Stats().Segments),
		`headwater_rendition_retained_bytes{rendition="video",stream="live/demo"} `,
		`headwater_http_requests_total{class="segment",status="200"} 2`,
		`headwater_http_requests_total{class="multivariant",status="404"} 1`,
		`headwater_http_response_bytes_total{class="part"} `,
		`headwater_http_blocked_requests 0`,
		`headwater_part_publish_delay_seconds_bucket{le="0.002"} `,
		`headwater_part_publish_delay_seconds_count `,
		`headwater_rtmp_errors_total{kind="format"} 3`,
		`headwater_rtmp_errors_total{kind="unsupported"} 4`,
		`headwater_rtmp_connections 5`,
		`go_goroutines `,
	} {
		if !strings.Contains(r.body, want) {
			t.Errorf("no %s", want)
		}
	}
	if t.Failed() {
		t.Log(r.body)
	}
}

func TestDelayBuckets(t *testing.T) {
	var m Metrics
	m.observe(0)
	m.observe(500_000)
	m.observe(500_001)
	m.observe(int64(time.Hour))
	if a, b, z := m.delays[0].Load(), m.delays[1].Load(), m.delays[len(delayBounds)].Load(); a != 2 || b != 1 || z != 1 {
		t.Errorf("%d %d %d", a, b, z)
	}
	m.ObservePart(nil, &segmenter.Part{Arrived: time.Now().UnixNano() + media.Second}) // a clock that was set back
	if n := m.delays[0].Load(); n != 3 {
		t.Errorf("%d", n)
	}
}
