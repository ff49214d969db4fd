package web

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"headwater/playlist"
	"headwater/segmenter"
)

// The tests in wire_*_test.go speak to the origin as edges and players do: over sockets, by HTTP/1.1 and by HTTP/2 without TLS.

// A wire is one way to speak to an origin.
type wire struct {
	name string
	rt   http.RoundTripper
	base string
}

// wires listens and returns the ways to speak to s.
func wires(t testing.TB, s *Server) []wire {
	t.Helper()
	base, _ := listen(t, s)
	return []wire{{"HTTP/1.1", http.DefaultTransport, base}, {"HTTP/2", newH2C(t), base}}
}

// ask sends one request; headers are "Name: value". Nothing is coded unless a header says so.
func (w *wire) ask(t testing.TB, method, path string, headers ...string) *reply {
	t.Helper()
	r, err := w.try(method, path, headers...)
	if err != nil {
		t.Fatalf("%s %s %s: %v", w.name, method, path, err)
	}
	return r
}

func (w *wire) try(method, path string, headers ...string) (*reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, w.base+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	setHeaders(req.Header, headers)
	if h := req.Header.Get("Host"); h != "" {
		req.Host = h
	}
	resp, err := w.rt.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return &reply{resp, string(body)}, err
}

// later asks on a goroutine of its own.
func (w *wire) later(t testing.TB, path string, headers ...string) <-chan *reply {
	c := make(chan *reply, 1)
	go func() {
		r, err := w.try("GET", path, headers...)
		if err != nil {
			t.Errorf("%s %s: %v", w.name, path, err)
			r = &reply{&http.Response{Header: http.Header{}}, ""}
		}
		c <- r
	}()
	return c
}

// awaitHeld returns when so many requests are held.
func awaitHeld(t testing.TB, s *Server, n int64) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); s.gate.now.Load() != n; {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests are held, not %d", s.gate.now.Load(), n)
		}
		time.Sleep(time.Millisecond) // the network is real
	}
}

// check fails t if r is not what is said of it, or lacks what every reply has.
func (w *wire) check(t testing.TB, what string, r *reply, status int, cache string) {
	t.Helper()
	if r.StatusCode != status || r.header("Cache-Control") != cache {
		t.Errorf("%s %s: %d %q, want %d %q", w.name, what, r.StatusCode, r.header("Cache-Control"), status, cache)
	}
	// CORS headers are the same on errors, and nobody is told apart (Fetch, CORS protocol; RFC 6265).
	for k, want := range map[string]string{
		"Access-Control-Allow-Origin":   "*",
		"Access-Control-Expose-Headers": "Age, Date, ETag, Content-Range, Retry-After, CMSD-Static, CMSD-Dynamic",
		"Timing-Allow-Origin":           "*",
		"Set-Cookie":                    "",
		"Location":                      "",
	} {
		if got := r.header(k); got != want {
			t.Errorf("%s %s: %s: %q, want %q", w.name, what, k, got, want)
		}
	}
	if v := r.header("Vary"); v != "" && v != "Accept-Encoding" {
		t.Errorf("%s %s: Vary: %q", w.name, what, v)
	}
	if d, err := http.ParseTime(r.header("Date")); err != nil || time.Since(d) > 5*time.Second || time.Since(d) < -time.Second {
		t.Errorf("%s %s: Date %q", w.name, what, r.header("Date"))
	}
	if retry := r.header("Retry-After"); (retry == "1") != (status >= 500) {
		t.Errorf("%s %s: Retry-After: %q", w.name, what, retry)
	}
}

// everybody are the headers of clients of whom no two are alike.
var everybody = [][]string{
	{"User-Agent: Mozilla/5.0 (iPhone; CPU iPhone OS 26_0 like Mac OS X)", "X-Playback-Session-Id: 5E3F"},
	{"Cookie: session=1; CloudFront-Policy=x", "Authorization: Bearer abc"},
	{"Origin: https://player.example", "Referer: https://player.example/page?x=1", "Sec-Fetch-Mode: cors"},
	{`CMCD-Request: bl=1200,mtp=8000`, `CMCD-Session: sid="abc",st=l`, "CMCD-Status: bs", "CMCD-Object: ot=v"},
	{"Accept-Language: de", "Accept: */*;q=0.1", "DNT: 1", "Via: 1.1 edge", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "CDN-Loop: cloudflare"},
	{"Host: live.example:99"},
	{"Cache-Control: no-cache", "Pragma: no-cache"},
}

// What is answered depends on the path, the delivery directives and Accept-Encoding, and on nothing else: neither on who asks nor
// by which protocol, neither the body nor a header but the date. Nothing of a query is passed on (RFC 9111 2: it is by the URL
// that a cache knows what it has).
func TestWireSameForEverybody(t *testing.T) {
	s, e := newLive(t)
	e.run(12*testGOP + 25)
	ws := wires(t, s)
	index, window := e.dir("video")+"index.m3u8", e.video().Window()
	type question struct {
		path    string
		headers []string
	}
	var qs []question
	for _, o := range append(e.objects(), e.plainObjects()...) {
		qs = append(qs, question{o.path, nil}, question{o.path, []string{"Accept-Encoding: br"}}, question{o.path, []string{"Range: bytes=3-99"}},
			question{o.path, []string{"If-None-Match: *"}}, question{o.path, []string{`If-Match: "x"`}}, question{o.path, []string{"Range: bytes=99999999-"}})
	}
	for _, p := range []string{"/", "/nothing", "/live/nothing/index.m3u8", "/live/demo/../demo/index.m3u8", e.dir("video") + playlist.SegmentName(window.Open.MSN),
		e.dir("video") + playlist.PartName(0), index + "?_HLS_skip=YES", index + "?_HLS_msn=1", index + "?_HLS_part=1", index + edgeQuery(window, 0), index + edgeQuery(window, 0) + "&_HLS_skip=YES"} {
		qs = append(qs, question{p, nil}, question{p, []string{"Accept-Encoding: zstd, gzip"}})
	}
	for _, q := range qs {
		want := ws[0].ask(t, "GET", q.path, q.headers...)
		same := func(w *wire, path string, headers []string) {
			t.Helper()
			r := w.ask(t, "GET", path, append(slices.Clone(q.headers), headers...)...)
			if r.StatusCode != want.StatusCode || r.body != want.body || !sameHeaders(r, want) {
				t.Errorf("%s %s %q:\n%d %v\nand for somebody else\n%d %v", w.name, path, append(q.headers, headers...), r.StatusCode, r.Header, want.StatusCode, want.Header)
			}
		}
		for i := range ws {
			w := &ws[i]
			same(w, q.path, nil)
			for _, headers := range everybody {
				same(w, q.path, headers)
			}
			path, query, _ := strings.Cut(q.path, "?")
			for _, more := range []string{"token=mine", "CMCD=bl%3D100%2Csid%3D%22mine%22", "a=%zz&&=&;", "_hls_msn=7&_HLS_other=8&X_HLS_msn=9"} {
				same(w, path+"?"+strings.TrimSuffix(more+"&"+query, "&"), nil)
				same(w, path+"?"+strings.TrimPrefix(query+"&"+more, "&"), nil)
			}
		}
		if strings.Contains(want.body, "mine") || strings.Contains(want.body, "?") && !strings.HasPrefix(want.header("Content-Type"), "text/html") && want.header("Content-Encoding") == "" && strings.HasPrefix(want.body, "#EXTM3U") {
			t.Errorf("%s: a query is in\n%s", q.path, want.body)
		}
	}
}

// Every error says for how long it may be kept (RFC 9111 4.2.2: a 404 without that may be kept for as long as a cache likes), and is
// as readable to a page as an answer is. Some edges keep 400, 403, 412 and 415 if only they have an age, hence none.
func TestWireErrors(t *testing.T) {
	s, e := newLive(t)
	s.Page = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panics" {
			panic("oops")
		}
		http.Error(w, "no", http.StatusForbidden) // it forgets to say
	})
	s.MaxBlockedStream = 1
	e.run(40 * testGOP) // the first segments are gone
	ws := wires(t, s)
	win, dir := e.video().Window(), e.dir("video")
	index := dir + "index.m3u8"
	const never = "private, no-store"
	seg := dir + playlist.SegmentName(win.LastMSN())
	held := ws[0].later(t, index+edgeQuery(win, 1))
	awaitHeld(t, s, 1)
	for _, c := range []struct {
		method, path string
		headers      []string
		status       int
		cache        string
		header       [2]string // one more that it has
	}{
		{path: index + "?_HLS_part=0", status: 400, cache: never},
		{path: index + "?_HLS_msn=", status: 400, cache: never},
		{path: index + "?_HLS_msn", status: 400, cache: never},
		{path: index + fmt.Sprintf("?_HLS_msn=%d&_HLS_part=", win.LastMSN()), status: 400, cache: never},
		{path: index + fmt.Sprintf("?_HLS_msn=%d", win.LastMSN()+3), status: 400, cache: never},
		{path: "/live/demo/../demo/index.m3u8", status: 400, cache: never},
		{path: "/live/demo/%2e%2e/demo/index.m3u8", status: 400, cache: never},
		{path: "/live//demo/index.m3u8", status: 400, cache: never},
		{path: "/forbidden", status: 403, cache: never},
		{path: "/live/nothing/index.m3u8", status: 404, cache: "public, max-age=1"},
		{path: "/live/demo/norun/video/s1.m4s", status: 404, cache: "public, max-age=1"},
		{path: "/api/streams/live/nothing", status: 404, cache: "public, max-age=1"},
		{path: dir + playlist.SegmentName(win.Open.MSN), status: 404, cache: never},
		{path: dir + playlist.PartName(win.NextPart+90000), status: 404, cache: never},
		{path: dir + playlist.InitName(someHash), status: 404, cache: never},
		{path: dir + playlist.SegmentName(e.stream.Run().FirstMSN), status: 404, cache: "public, max-age=2"},
		{path: dir + playlist.PartName(0), status: 404, cache: "public, max-age=2"},
		{path: dir + "ts/" + playlist.TSSegmentName(e.stream.Run().FirstMSN), status: 404, cache: "public, max-age=2"},
		{path: dir + "ts/" + playlist.TSSegmentName(win.Open.MSN+1), status: 404, cache: never},
		{method: "POST", path: seg, status: 405, cache: never, header: [2]string{"Allow", "GET, HEAD, OPTIONS"}},
		{method: "BREW", path: "/live/demo/index.m3u8", status: 405, cache: never, header: [2]string{"Allow", "GET, HEAD, OPTIONS"}},
		{path: index, headers: []string{"Accept-Encoding: identity;q=0"}, status: 406, cache: never, header: [2]string{"Vary", "Accept-Encoding"}},
		{path: seg, headers: []string{`If-Match: "x"`}, status: 412, cache: never},
		{path: seg, headers: []string{"Range: bytes=99999999-"}, status: 416, cache: never, header: [2]string{"Content-Range", fmt.Sprintf("bytes */%d", win.Segments[len(win.Segments)-1].Size())}},
		{path: "/panics", status: 500, cache: never},
		{path: index + edgeQuery(win, 2), status: 503, cache: never}, // there is no place left
	} {
		for i := range ws {
			w := &ws[i]
			if c.method == "" {
				c.method = "GET"
			}
			r := w.ask(t, c.method, c.path, c.headers...)
			what := fmt.Sprint(c.method, " ", c.path, " ", c.headers)
			w.check(t, what, r, c.status, c.cache)
			if c.header[0] != "" && r.header(c.header[0]) != c.header[1] {
				t.Errorf("%s %s: %v, want %q", w.name, what, r.Header, c.header)
			}
			if r.header("Etag") != "" || r.header("Last-Modified") != "" || r.header("Cmsd-Static") != "" || r.header("Content-Length") != fmt.Sprint(len(r.body)) || r.body == "" {
				t.Errorf("%s %s: %v", w.name, what, r.Header)
			}
			if c.method == "GET" {
				if h := w.ask(t, "HEAD", c.path, c.headers...); c.status != 416 && (h.StatusCode != r.StatusCode || !sameHeaders(h, r) || h.body != "") {
					t.Errorf("%s HEAD %s: %d %v, GET %v", w.name, c.path, h.StatusCode, h.Header, r.Header)
				}
			}
			// A browser has to be allowed to ask at all, whatever it will be told.
			if o := w.ask(t, "OPTIONS", c.path, "Origin: https://player.example", "Access-Control-Request-Method: GET"); o.StatusCode != 204 || o.body != "" || o.header("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s OPTIONS %s: %d %v", w.name, c.path, o.StatusCode, o.Header)
			}
		}
	}
	e.part()
	if r := <-held; r.StatusCode != 200 {
		t.Errorf("%d", r.StatusCode)
	}
}

// Preconditions come in the order of RFC 9110 13.2.2, before the range, and a 304 has what would update a stored reply, and no
// more (15.4.5).
func TestWireConditions(t *testing.T) {
	s, e := newLive(t)
	ws := wires(t, s)
	const later, old = "Fri, 01 Jan 2100 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:01 GMT"
	for _, o := range append(e.objects(), e.plainObjects()...) {
		for i := range ws {
			w := &ws[i]
			r := w.ask(t, "GET", o.path)
			w.check(t, o.path, r, 200, o.cache)
			tag := r.header("Etag")
			kept := http.Header{}
			for _, k := range []string{"Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Timing-Allow-Origin", "Cache-Control", "Etag", "Last-Modified", "Vary"} {
				if v := r.Header[k]; v != nil {
					kept[k] = v
				}
			}
			for _, c := range []struct {
				status  int
				headers []string
			}{
				{412, []string{`If-Match: "x"`, "If-None-Match: " + tag}},
				{412, []string{`If-Match: "x"`, "If-Unmodified-Since: " + later}},
				{200, []string{"If-Match: " + tag, "If-Unmodified-Since: " + old}},
				{304, []string{"If-Match: " + tag, "If-None-Match: " + tag}},
				{304, []string{"If-None-Match: " + tag, "If-Modified-Since: " + old}},
				{200, []string{`If-None-Match: "x"`, "If-Modified-Since: " + later}},
				{304, []string{"If-None-Match: " + tag, "Range: bytes=0-9"}},
				{304, []string{"If-None-Match: " + tag, "Range: bytes=99999999-"}},
				{412, []string{`If-Match: "x"`, "Range: bytes=99999999-"}},
			} {
				x := w.ask(t, "GET", o.path, c.headers...)
				if x.StatusCode != c.status {
					t.Errorf("%s %s %q: %d, want %d", w.name, o.path, c.headers, x.StatusCode, c.status)
				}
				if c.status != 304 {
					continue
				}
				got := x.Header.Clone()
				got.Del("Date")
				if x.body != "" || x.header("Date") == "" || !maps.EqualFunc(got, kept, slices.Equal[[]string]) {
					t.Errorf("%s %s %q: %v, want %v", w.name, o.path, c.headers, x.Header, kept)
				}
			}
			if !o.ranges {
				continue
			}
			for _, c := range []struct {
				status int
				ifs    string
			}{{206, tag}, {200, `"x"`}, {200, "W/" + tag}, {200, later}} {
				x := w.ask(t, "GET", o.path, "Range: bytes=2-5", "If-Range: "+c.ifs)
				if x.StatusCode != c.status || c.status == 206 && (x.body != r.body[2:6] || x.header("Content-Range") != fmt.Sprintf("bytes 2-5/%d", len(r.body))) || c.status == 200 && x.body != r.body {
					t.Errorf("%s %s If-Range %s: %d %v", w.name, o.path, c.ifs, x.StatusCode, x.Header)
				}
			}
		}
	}
}

// raw sends bytes over a connection of its own and returns what comes back, reply by reply, with the error after the last.
func raw(t testing.TB, base, bytes string, methods ...string) ([]*reply, error) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, bytes); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	var list []*reply
	for _, m := range methods {
		resp, err := http.ReadResponse(in, &http.Request{Method: m})
		if err != nil {
			return list, err
		}
		body, err := io.ReadAll(resp.Body)
		list = append(list, &reply{resp, string(body)})
		if err != nil {
			return list, err
		}
	}
	_, err = in.ReadByte()
	return list, err
}

// Bytes as edges send them: several requests on one connection, HTTP/1.0 as nginx speaks it unless told otherwise, a target in
// absolute form, and paths that clients would have put right.
func TestWireRaw(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	seg := e.dir("video") + playlist.SegmentName(e.video().Window().LastMSN())
	want := ask(t, "GET", base+seg)

	// Replies are told apart by their lengths alone: of HEAD, 304, 204 and 416 too (RFC 9112 6.3).
	list, err := raw(t, base, fmt.Sprintf("HEAD %[1]s HTTP/1.1\r\nHost: x\r\n\r\nGET %[1]s HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n"+
		"OPTIONS %[1]s HTTP/1.1\r\nHost: x\r\n\r\nGET %[1]s HTTP/1.1\r\nHost: x\r\nRange: bytes=99999999-\r\n\r\nPOST %[1]s HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"+
		"GET %[1]s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", seg), "HEAD", "GET", "OPTIONS", "GET", "POST", "GET")
	if len(list) != 6 || err != io.EOF {
		t.Fatalf("%d replies, %v", len(list), err)
	}
	for i, status := range []int{200, 304, 204, 416, 405, 200} {
		r := list[i]
		if r.StatusCode != status || len(r.TransferEncoding) > 0 || r.header("Transfer-Encoding") != "" {
			t.Errorf("%d: %d %v, want %d", i, r.StatusCode, r.Header, status)
		}
	}
	if list[0].ContentLength != int64(len(want.body)) || list[0].body != "" || list[5].body != want.body || list[5].ContentLength != int64(len(want.body)) {
		t.Errorf("%v, %v", list[0].Header, list[5].Header)
	}

	for request, status := range map[string]int{
		"GET %s HTTP/1.0\r\n\r\n":                                                    200,
		"GET %s HTTP/1.0\r\nHost: x\r\nConnection: close\r\n\r\n":                    200,
		"GET http://live.example%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n": 200,
		"GET /live/..%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":            400,
		"GET /%%2e%%2e%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":           400,
		"GET /%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":                   400,
		"GET %s/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":                   404,
		"GET %s%%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":                400,
		"GET %s;v=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":                404,
		"GET %s%%3Fx=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":             404,
	} {
		list, err := raw(t, base, fmt.Sprintf(request, seg), "GET")
		if len(list) != 1 || err != io.EOF {
			t.Errorf("%q: %d replies, %v", request, len(list), err)
			continue
		}
		r := list[0]
		if r.StatusCode != status || r.header("Cache-Control") == "" || r.header("Location") != "" || len(r.TransferEncoding) > 0 {
			t.Errorf("%q: %d %v, want %d", request, r.StatusCode, r.Header, status)
		}
		if status == 200 && (r.body != want.body || r.ContentLength != int64(len(want.body)) || r.header("Etag") != want.header("Etag")) {
			t.Errorf("%q: %d bytes, %v", request, len(r.body), r.Header)
		}
	}
	// Every finished object has its length (some edges keep what was cut off if there was none).
	for _, o := range append(e.objects(), e.plainObjects()...) {
		list, _ := raw(t, base, "GET "+o.path+" HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n", "GET")
		if len(list) != 1 || list[0].ContentLength != int64(len(list[0].body)) || list[0].ContentLength == 0 {
			t.Errorf("%s: %+v", o.path, list)
		}
	}
}

// A body that cannot be finished is broken off, by closing the connection or resetting the stream: nobody takes what there is for
// the whole (RFC 9112 8, RFC 9113 8.1).
func TestWireBrokenOff(t *testing.T) {
	s := &Server{Origin: &segmenter.Origin{}, Page: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			w.Header().Set("Content-Length", "100000")
		}
		w.Header().Set("Cache-Control", "public, max-age=60")
		w.Write(make([]byte, 50_000))
		w.(*response).server.fail(w.(*response), r, errInternal)
	})}
	ws := wires(t, s)
	for i := range ws {
		for _, path := range []string{"/long", "/chunked"} {
			r, err := ws[i].try("GET", path)
			if r == nil { // it came too late for a header
				r = &reply{&http.Response{}, ""}
			}
			if err == nil || len(r.body) > 50_000 {
				t.Errorf("%s %s: %d bytes, %v", ws[i].name, path, len(r.body), err)
			}
		}
	}
	for _, path := range []string{"/long", "/chunked"} {
		if list, err := raw(t, ws[0].base, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n", "GET"); err == nil || err == io.EOF && len(list) == 1 {
			t.Errorf("%s: %d replies, %v", path, len(list), err)
		}
	}
}
