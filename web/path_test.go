package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"headwater/playlist"
)

const someHash = "0123456789abcdef01234567"

var pathCases = []struct {
	path string
	want mediaPath
	bad  bool
}{
	{path: "/live/demo/index.m3u8", want: mediaPath{stream: "live/demo"}},
	{path: "/live/demo/r1/video/index.m3u8", want: mediaPath{stream: "live/demo", run: "r1", rendition: "video"}},
	{path: "/live/demo/r1/video/s17.m4s", want: mediaPath{stream: "live/demo", run: "r1", rendition: "video", name: playlist.Name{Kind: playlist.Segment, N: 17}}},
	{path: "/live/demo/r1/audio/p0.m4s", want: mediaPath{stream: "live/demo", run: "r1", rendition: "audio", name: playlist.Name{Kind: playlist.Part}}},
	{path: "/live/demo/r1/audio/i" + someHash + ".mp4", want: mediaPath{stream: "live/demo", run: "r1", rendition: "audio", name: playlist.Name{Kind: playlist.Init, Hash: someHash}}},
	{path: "/live/demo/ts/index.m3u8", want: mediaPath{stream: "live/demo", ts: true}},
	{path: "/live/demo/r1/video/iframes.m3u8", want: mediaPath{stream: "live/demo", run: "r1", rendition: "video", iframes: true}},
	{path: "/live/demo/r1/video/ts/index.m3u8", want: mediaPath{stream: "live/demo", run: "r1", rendition: "video", ts: true}},
	{path: "/live/demo/r1/video/ts/s17.ts", want: mediaPath{stream: "live/demo", run: "r1", rendition: "video", ts: true, name: playlist.Name{Kind: playlist.TSSegment, N: 17}}},
	{path: "/live/demo/iframes.m3u8", bad: true},
	{path: "/live/demo/ts/iframes.m3u8", bad: true},
	{path: "/live/demo/ts/s17.ts", bad: true},
	{path: "/live/demo/r1/video/s17.ts", bad: true},
	{path: "/live/demo/r1/video/ts/s17.m4s", bad: true},
	{path: "/live/demo/r1/video/ts/s017.ts", bad: true},
	{path: "/live/demo/r1/video/ts/p17.ts", bad: true},
	{path: "/live/demo/r1/video/ts/iframes.m3u8", bad: true},
	{path: "/live/demo/r1/video/ts/ts/index.m3u8", bad: true},
	{path: "", bad: true},
	{path: "/", bad: true},
	{path: "/index.m3u8", bad: true},
	{path: "/live/index.m3u8", bad: true},
	{path: "/live/demo/r1/index.m3u8", bad: true},
	{path: "/live/demo/r1/video/x/index.m3u8", bad: true},
	{path: "//demo/index.m3u8", bad: true},
	{path: "/live//index.m3u8", bad: true},
	{path: "/live/demo//video/index.m3u8", bad: true},
	{path: "/live/demo/r1//index.m3u8", bad: true},
	{path: "/live/demo/INDEX.m3u8", bad: true},
	{path: "/live/demo/r1/video/s017.m4s", bad: true},
	{path: "/live/demo/r1/video/s+17.m4s", bad: true},
	{path: "/live/demo/r1/video/s17.mp4", bad: true},
	{path: "/live/demo/r1/video/s99999999999999999999.m4s", bad: true},
	{path: "/live/demo/r1/video/p9223372036854775808.m4s", bad: true},
	{path: "/live/demo/r1/video/i0123.mp4", bad: true},
}

func TestParsePath(t *testing.T) {
	for _, c := range pathCases {
		got, ok := parsePath(c.path)
		if ok == c.bad || ok && got != c.want {
			t.Errorf("%q: %+v, %v", c.path, got, ok)
		}
	}
	if n := testing.AllocsPerRun(100, func() { parsePath("/live/demo/r1/video/p123456.m4s") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// join writes what parsePath has read.
func (m *mediaPath) join() string {
	p := "/" + m.stream + "/"
	if m.run != "" {
		p += m.run + "/" + m.rendition + "/"
	}
	if m.ts {
		p += playlist.TSFolder + "/"
	}
	if m.iframes {
		return p + playlist.IFrames
	}
	switch m.name.Kind {
	case playlist.Segment:
		return p + playlist.SegmentName(m.name.N)
	case playlist.Part:
		return p + playlist.PartName(int64(m.name.N))
	case playlist.Init:
		return p + playlist.InitName(m.name.Hash)
	case playlist.TSSegment:
		return p + playlist.TSSegmentName(m.name.N)
	}
	return p + playlist.Index
}

// FuzzPath: a path that is understood is the only one for its object, and no request makes the handler answer with a
// redirect, without Cache-Control, or not at all.
func FuzzPath(f *testing.F) {
	for _, c := range pathCases {
		f.Add(c.path)
	}
	for _, c := range refusedPaths {
		f.Add(c)
	}
	s, _ := newLive(f)
	h := s.Handler()
	f.Fuzz(func(t *testing.T, path string) {
		if m, ok := parsePath(path); ok && m.join() != path {
			t.Fatalf("%q is also %q", path, m.join())
		}
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		r := &http.Request{Method: "GET", URL: u, Header: http.Header{}, Proto: "HTTP/1.1", Body: http.NoBody}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code/100 == 3 || w.Code >= 500 || w.Header().Get("Cache-Control") == "" {
			t.Fatalf("%q: %d %v", path, w.Code, w.Header())
		}
		if w.Code != 400 && u.RawPath != "" && isMedia(r, nil) {
			t.Fatalf("%q, an alias: %d", path, w.Code)
		}
		if w.Code == 200 && strings.Contains(u.Path, "..") {
			for e := range strings.SplitSeq(u.Path, "/") {
				if e == ".." {
					t.Fatalf("%q: 200", path)
				}
			}
		}
	})
}

// refusedPaths could be read as other paths.
var refusedPaths = []string{
	"/live/../live/demo/index.m3u8",
	"/live/demo/../demo/index.m3u8",
	"/live/demo/%2e%2e/demo/index.m3u8",
	"/live/demo/.%2E/demo/index.m3u8",
	"/live/demo/./index.m3u8",
	"/live//demo/index.m3u8",
	"//live/demo/index.m3u8",
	"/live/demo//index.m3u8",
	"/live%2Fdemo/index.m3u8",
	"/live%2fdemo/index.m3u8",
	"/live/demo%2Findex.m3u8",
	"/live/demo%5Cindex.m3u8",
	"/live/demo/..",
	"/..",
	"/.",
	"/live/demo/index.m3u8%00",
	// Aliases: a cache would keep, and an origin serve, as many copies as there are ways to write it.
	"/live/demo/index%2Em3u8",
	"/%6Cive/demo/index.m3u8",
	"/%6c%69ve/demo/m1/video/s1.m4s",
	"/live/demo/m1/video/s%31.m4s",
	"/live/d%c3%a9mo/index.m3u8",
}

func TestCanonicalPath(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	for _, p := range refusedPaths {
		r := ask(t, "GET", base+p)
		if r.StatusCode != 400 || r.header("Cache-Control") != "private, no-store" || r.header("Location") != "" {
			t.Errorf("%s: %d %v", p, r.StatusCode, r.Header)
		}
	}
	// Escapes are decoded once and not twice.
	for p, want := range map[string]int{
		"/live/demo/index%252Em3u8":    404,
		"/live/demo/%252e%252e/x.m3u8": 404,
		e.dir("video") + "index.m3u8/": 404,
		e.dir("video"):                 404,
		"/live/demo/Index.m3u8":        404,
		"/live/demo/index.m3u8x":       404,
		"/live/demo/nothing.m3u8":      404,
		"/api/streams/index.m3u8":      404,
		"/-/page/x.m3u8":               404,
	} {
		if r := ask(t, "GET", base+p); r.StatusCode != want || r.header("Cache-Control") == "" || want == 404 && r.body == "" {
			t.Errorf("%s: %d %v, want %d", p, r.StatusCode, r.Header, want)
		}
	}
}
