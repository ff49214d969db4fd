package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"headwater/playlist"
	"headwater/segmenter"
)

// decoded undoes the Content-Encoding of a reply.
func decoded(t *testing.T, r *reply) string {
	t.Helper()
	in := io.Reader(strings.NewReader(r.body))
	switch coding := r.header("Content-Encoding"); coding {
	case "":
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			t.Fatal(err)
		}
		in = z
	case "br":
		in = brotli.NewReader(in)
	case "zstd":
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		in = z
	default:
		t.Fatalf("Content-Encoding %q", coding)
	}
	body, err := io.ReadAll(in)
	if err != nil {
		t.Fatalf("%q: %v", r.header("Content-Encoding"), err)
	}
	return string(body)
}

// playlistPaths are the URL paths of a playlist of each kind.
func (e *encoder) playlistPaths() []string {
	dir := e.dir("video")
	return []string{"/live/demo/index.m3u8", "/live/demo/ts/index.m3u8", dir + "index.m3u8", dir + "index.m3u8?_HLS_skip=YES",
		dir + "ts/index.m3u8", dir + "iframes.m3u8", dir + "index.m3u8" + edgeQuery(e.video().Window(), 0), e.dir("audio") + "index.m3u8"}
}

// Every playlist is to be had in each coding, which is a representation of its own: the same text, another strong entity tag,
// and the same headers otherwise (RFC 9110 8.8.3, 12.5.3, 12.5.5).
func TestCodings(t *testing.T) {
	s, e := newLive(t)
	e.run(12 * testGOP) // enough for a delta update
	base, _ := listen(t, s)
	accepts := []struct{ header, coding string }{
		{"identity", ""},
		{"gzip;q=0.1, identity;q=0.5", ""},
		{"deflate", ""}, // who knows none of ours gets the text rather than an error
		{"gzip", "gzip"},
		{"br, gzip", "br"},
		{"gzip, deflate, br, zstd", "zstd"},
		{"zstd;q=0.5, br;q=0.6, gzip;q=0.7", "gzip"},
		{"identity;q=0, br", "br"},
		{"*;q=0, zstd;q=0.001", "zstd"},
	}
	for _, path := range e.playlistPaths() {
		t.Run(strings.TrimPrefix(path, "/live/demo"), func(t *testing.T) {
			plain := ask(t, "GET", base+path)
			if !strings.HasPrefix(plain.body, "#EXTM3U\n") {
				t.Fatalf("%d %q", plain.StatusCode, plain.body)
			}
			byCoding := map[string]*reply{}
			byTag := map[string]string{}
			for _, c := range accepts {
				accept := "Accept-Encoding: " + c.header
				r := ask(t, "GET", base+path, accept)
				if r.StatusCode != 200 || r.header("Content-Encoding") != c.coding || decoded(t, r) != plain.body {
					t.Fatalf("%q: %d %v", c.header, r.StatusCode, r.Header)
				}
				if r.header("Content-Length") != strconv.Itoa(len(r.body)) {
					t.Errorf("%q: %d bytes: %v", c.header, len(r.body), r.Header)
				}
				// One coding has one body, and one header but for the date.
				if first := byCoding[c.coding]; first == nil {
					byCoding[c.coding] = r
				} else if r.body != first.body || !sameHeaders(r, first) {
					t.Errorf("%q: %v, and before %v", c.header, r.Header, first.Header)
				}
				tag := r.header("Etag")
				if was, ok := byTag[tag]; ok && was != c.coding || !strings.HasPrefix(tag, `"`) {
					t.Errorf("%q: the entity tag %s is also that of %q", c.header, tag, was)
				}
				byTag[tag] = c.coding
				if !sameHeaders(r, plain, "Content-Encoding", "Content-Length", "Etag") || r.header("Vary") != "Accept-Encoding" {
					t.Errorf("%q: %v, plain %v", c.header, r.Header, plain.Header)
				}
				if h := ask(t, "HEAD", base+path, accept); h.StatusCode != 200 || h.body != "" || !sameHeaders(h, r) {
					t.Errorf("%q: HEAD %d %v, GET %v", c.header, h.StatusCode, h.Header, r.Header)
				}
				// Playlists have no ranges, least of all of what is coded.
				if x := ask(t, "GET", base+path, accept, "Range: bytes=0-9"); x.StatusCode != 200 || x.body != r.body {
					t.Errorf("%q: a range: %d", c.header, x.StatusCode)
				}
			}
			for coding, r := range byCoding {
				for _, c := range accepts {
					// Whether the client has it already is a question about what it would get (RFC 9110 13.1.2).
					want := 200
					if c.coding == coding {
						want = 304
					}
					for _, method := range []string{"GET", "HEAD"} {
						x := ask(t, method, base+path, "Accept-Encoding: "+c.header, "If-None-Match: "+r.header("Etag"))
						if x.StatusCode != want || x.header("Vary") != "Accept-Encoding" || x.header("Etag") != byCoding[c.coding].header("Etag") ||
							x.header("Cache-Control") != plain.header("Cache-Control") {
							t.Errorf("%s %q with the tag of %q: %d %v", method, c.header, coding, x.StatusCode, x.Header)
						}
						if x.StatusCode == 304 && (x.body != "" || x.header("Content-Encoding") != "") {
							t.Errorf("%s %q: %v", method, c.header, x.Header) // RFC 9110 15.4.5
						}
					}
				}
			}
			// A cache that holds several asks for all of them at once.
			all := strings.Join(slices.Collect(maps.Keys(byTag)), ", ")
			if x := ask(t, "GET", base+path, "Accept-Encoding: br", "If-None-Match: "+all); x.StatusCode != 304 || byTag[x.header("Etag")] != "br" {
				t.Errorf("all tags: %d %v", x.StatusCode, x.Header)
			}
			for _, none := range []string{"identity;q=0", "*;q=0", "deflate, identity;q=0"} {
				x := ask(t, "GET", base+path, "Accept-Encoding: "+none)
				if x.StatusCode != 406 || x.header("Cache-Control") != "private, no-store" || x.header("Vary") != "Accept-Encoding" || x.header("Etag") != "" {
					t.Errorf("%q: %d %v", none, x.StatusCode, x.Header)
				}
			}
		})
	}
}

// sameHeaders says whether two replies have the same headers, but for the date and those that are named.
func sameHeaders(a, b *reply, but ...string) bool {
	x, y := a.Header.Clone(), b.Header.Clone()
	for _, k := range append(but, "Date") {
		x.Del(k)
		y.Del(k)
	}
	return maps.EqualFunc(x, y, slices.Equal[[]string])
}

// Without the header, and with an empty one, nothing is coded: the first is what simple clients send.
func TestNoAcceptEncoding(t *testing.T) {
	s, e := newLive(t)
	h := s.Handler()
	for _, path := range e.playlistPaths() {
		for _, values := range [][]string{nil, {""}} {
			r := httptest.NewRequest("GET", path, nil)
			if values != nil {
				r.Header["Accept-Encoding"] = values
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			x := &reply{w.Result(), w.Body.String()}
			if x.StatusCode != 200 || x.header("Content-Encoding") != "" || x.header("Vary") != "Accept-Encoding" || !strings.HasPrefix(x.body, "#EXTM3U") {
				t.Errorf("%s %q: %d %v", path, values, x.StatusCode, x.Header)
			}
		}
	}
}

// Media is compressed already, and whoever refuses it as it is still gets it: there is no other form of it.
func TestMediaIsNotCoded(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	n := 0
	for _, o := range append(e.objects(), e.plainObjects()...) {
		if !o.ranges {
			continue
		}
		n++
		plain := ask(t, "GET", base+o.path)
		for _, accept := range []string{"gzip, deflate, br, zstd", "br, gzip", "identity;q=0", "*;q=0"} {
			r := ask(t, "GET", base+o.path, "Accept-Encoding: "+accept)
			if r.StatusCode != 200 || r.header("Content-Encoding") != "" || r.header("Vary") != "" || r.body != plain.body || !sameHeaders(r, plain) {
				t.Errorf("%s, %q: %d %v", o.path, accept, r.StatusCode, r.Header)
			}
		}
	}
	if n < 8 {
		t.Errorf("%d objects", n)
	}
}

// Origins that are fed alike give the same bytes under the same entity tags in every coding.
func TestTwinsCodeAlike(t *testing.T) {
	now := time.Now()
	var bases [2]string
	var paths [2][]string
	for i := range bases {
		s := &Server{Origin: &segmenter.Origin{}}
		e := publishAt(t, s.Origin, "live/demo", now).run(12*testGOP + 25)
		bases[i], _ = listen(t, s)
		paths[i] = e.playlistPaths()
	}
	for i, path := range paths[0] {
		if paths[1][i] != path {
			t.Fatalf("%s and %s", path, paths[1][i])
		}
		for _, accept := range []string{"identity", "gzip", "br", "zstd"} {
			a := ask(t, "GET", bases[0]+path, "Accept-Encoding: "+accept)
			b := ask(t, "GET", bases[1]+path, "Accept-Encoding: "+accept)
			if a.StatusCode != 200 || a.body != b.body || !sameHeaders(a, b) {
				t.Errorf("%s, %s: %v and %v", path, accept, a.Header, b.Header)
			}
		}
	}
}

// However many ask for a playlist in a coding, it is compressed once.
func TestCodedOnce(t *testing.T) {
	s, e := newLive(t)
	h := s.Handler()
	path := e.dir("video") + "index.m3u8"
	for coding := range playlist.Encodings {
		w := playlist.Media(e.video().Window(), playlist.NoSkip, coding)
		for range 3 {
			k := &keeper{sink: newSink()}
			r, err := http.NewRequest("GET", path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Accept-Encoding", coding.String())
			h.ServeHTTP(k, r)
			// The very bytes, not a copy of them.
			if len(k.body) == 0 || &k.body[0] != &w.Body[0] || !bytes.Equal(k.body, w.Body) {
				t.Errorf("%q: not what there was", coding)
			}
		}
	}
}

// A keeper keeps the slice that was written.
type keeper struct {
	*sink
	body []byte
}

func (k *keeper) Write(b []byte) (int, error) { k.body = b; return len(b), nil }
