package web

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"headwater/playlist"
	"headwater/segmenter"
)

// objects are URL paths of one object of each class, with what is said of it.
func (e *encoder) objects() []wireObject {
	w, a := e.video().Window(), e.audio().Window()
	seg := w.Segments[len(w.Segments)-2]
	part := w.Open.Parts[0]
	return []wireObject{
		{"multivariant", "/live/demo/index.m3u8", "application/vnd.apple.mpegurl", "public, max-age=3, stale-if-error=60", false},
		{"playlist", e.dir("video") + "index.m3u8", "application/vnd.apple.mpegurl", "public, max-age=1", false},
		{"segment", e.dir("video") + playlist.SegmentName(seg.MSN), "video/mp4", "public, max-age=31536000, immutable", true},
		{"part", e.dir("video") + playlist.PartName(part.Time), "video/mp4", "public, max-age=31536000, immutable", true},
		{"init", e.dir("video") + playlist.InitName(seg.Init.Hash), "video/mp4", "public, max-age=31536000, immutable", true},
		{"segment", e.dir("audio") + playlist.SegmentName(a.LastMSN()), "audio/mp4", "public, max-age=31536000, immutable", true},
		{"part", e.dir("audio") + playlist.PartName(a.Open.Parts[0].Time), "audio/mp4", "public, max-age=31536000, immutable", true},
		{"init", e.dir("audio") + playlist.InitName(a.Open.Init.Hash), "audio/mp4", "public, max-age=31536000, immutable", true},
	}
}

// plainObjects are those that older players read.
func (e *encoder) plainObjects() []wireObject {
	const playlists = "application/vnd.apple.mpegurl"
	return []wireObject{
		{"multivariant", "/live/demo/ts/index.m3u8", playlists, "public, max-age=3, stale-if-error=60", false},
		{"playlist", e.dir("video") + "ts/index.m3u8", playlists, "public, max-age=1", false},
		{"playlist", e.dir("audio") + "ts/index.m3u8", playlists, "public, max-age=1", false},
		{"playlist", e.dir("video") + "iframes.m3u8", playlists, "public, max-age=1", false},
		{"segment", e.dir("video") + "ts/" + playlist.TSSegmentName(e.video().Window().LastMSN()-1), "video/mp2t", "public, max-age=31536000, immutable", true},
		{"segment", e.dir("audio") + "ts/" + playlist.TSSegmentName(e.video().Window().LastMSN()-1), "video/mp2t", "public, max-age=31536000, immutable", true},
	}
}

type wireObject struct {
	class, path, contentType, cache string
	ranges                          bool
}

func TestObjects(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	for _, o := range append(e.objects(), e.plainObjects()...) {
		t.Run(o.class+" "+strings.TrimPrefix(o.path, "/live/demo"), func(t *testing.T) {
			r := ask(t, "GET", base+o.path)
			if r.StatusCode != 200 || len(r.body) == 0 {
				t.Fatalf("%d, %d bytes", r.StatusCode, len(r.body))
			}
			tag := r.header("Etag")
			for k, want := range map[string]string{
				"Content-Type":                  o.contentType,
				"Cache-Control":                 o.cache,
				"Content-Length":                strconv.Itoa(len(r.body)),
				"Access-Control-Allow-Origin":   "*",
				"Timing-Allow-Origin":           "*",
				"Access-Control-Expose-Headers": "Age, Date, ETag, Content-Range, Retry-After, CMSD-Static, CMSD-Dynamic",
				"Set-Cookie":                    "",
				"Location":                      "",
				"Content-Encoding":              "",
			} {
				if got := r.header(k); got != want {
					t.Errorf("%s: %q, want %q", k, got, want)
				}
			}
			if !strings.HasPrefix(tag, `"`) || !strings.HasSuffix(tag, `"`) || len(tag) < 10 {
				t.Errorf("entity tag %q is not a strong one", tag)
			}
			if d, err := http.ParseTime(r.header("Date")); err != nil || time.Since(d) > 5*time.Second || time.Since(d) < -time.Second {
				t.Errorf("Date: %q", r.header("Date"))
			}
			wantVary := ""
			if !o.ranges {
				wantVary = "Accept-Encoding"
			}
			if r.header("Vary") != wantVary || (r.header("Accept-Ranges") == "bytes") != o.ranges {
				t.Errorf("Vary %q, Accept-Ranges %q", r.header("Vary"), r.header("Accept-Ranges"))
			}
			modified := r.header("Last-Modified")
			if hasTime := o.class != "multivariant" && o.class != "init"; (modified != "") != hasTime {
				t.Errorf("Last-Modified: %q", modified)
			}

			t.Run("HEAD", func(t *testing.T) {
				h := ask(t, "HEAD", base+o.path, "Range: bytes=0-1") // a range is for GET
				h.Header.Del("Date")
				want := maps.Clone(r.Header)
				want.Del("Date")
				if h.StatusCode != 200 || h.body != "" || !maps.EqualFunc(h.Header, want, slices.Equal[[]string]) {
					t.Errorf("%d %v, want %v", h.StatusCode, h.Header, want)
				}
			})
			t.Run("query", func(t *testing.T) {
				q := ask(t, "GET", base+o.path+"?token=secret-of-mine&CMCD=bl%3D3&x=%zz", "CMCD-Request: bl=3000", "Cookie: a=b", "Origin: https://player.example")
				if q.body != r.body || q.header("Etag") != tag || strings.Contains(q.body, "secret") || q.header("Access-Control-Allow-Origin") != "*" {
					t.Errorf("%d %v", q.StatusCode, q.Header)
				}
			})
			t.Run("conditions", func(t *testing.T) {
				old, later := "Thu, 01 Jan 1970 00:00:01 GMT", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
				type condition struct {
					headers []string
					want    int
				}
				cs := []condition{
					{[]string{"If-None-Match: " + tag}, 304},
					{[]string{"If-None-Match: W/" + tag}, 304}, // weak comparison, RFC 9110 13.1.2
					{[]string{`If-None-Match: "a,b", ` + tag}, 304},
					{[]string{"If-None-Match: *"}, 304},
					{[]string{`If-None-Match: "other"`}, 200},
					{[]string{`If-None-Match: "other"`, "If-Modified-Since: " + later}, 200}, // the tag alone counts
					{[]string{"If-None-Match: " + tag, "If-Modified-Since: " + old}, 304},
					{[]string{"If-Modified-Since: " + old}, 200},
					{[]string{"If-Modified-Since: nonsense"}, 200},
					{[]string{"If-Match: " + tag}, 200},
					{[]string{"If-Match: *"}, 200},
					{[]string{`If-Match: "other"`}, 412},
					{[]string{"If-Match: W/" + tag}, 412}, // strong comparison, RFC 9110 13.1.1
				}
				if modified != "" {
					cs = append(cs, condition{[]string{"If-Modified-Since: " + later}, 304},
						condition{[]string{"If-Unmodified-Since: " + old}, 412},
						condition{[]string{"If-Unmodified-Since: " + modified}, 200})
					// A playlist may have changed since within the same second.
					same := 304
					if o.class == "playlist" {
						same = 200
					}
					cs = append(cs, condition{[]string{"If-Modified-Since: " + modified}, same})
				}
				for _, c := range cs {
					x := ask(t, "GET", base+o.path, c.headers...)
					if x.StatusCode != c.want {
						t.Errorf("%q: %d, want %d", c.headers, x.StatusCode, c.want)
					}
					switch c.want {
					case 304:
						if x.body != "" || x.header("Etag") != tag || x.header("Cache-Control") != o.cache || x.header("Date") == "" ||
							x.header("Vary") != wantVary || x.header("Access-Control-Allow-Origin") != "*" {
							t.Errorf("%q: %v", c.headers, x.Header)
						}
					case 412:
						if x.header("Cache-Control") != "private, no-store" || x.header("Etag") != "" {
							t.Errorf("%q: %v", c.headers, x.Header)
						}
					}
				}
			})
			t.Run("methods", func(t *testing.T) {
				for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"} {
					x := ask(t, method, base+o.path)
					if x.StatusCode != 405 || x.header("Allow") != "GET, HEAD, OPTIONS" || x.header("Cache-Control") != "private, no-store" ||
						x.header("Access-Control-Allow-Origin") != "*" {
						t.Errorf("%s: %d %v", method, x.StatusCode, x.Header)
					}
				}
			})
			t.Run("range", func(t *testing.T) {
				if o.ranges {
					testRanges(t, base+o.path, r)
					return
				}
				if x := ask(t, "GET", base+o.path, "Range: bytes=0-9"); x.StatusCode != 200 || x.body != r.body {
					t.Errorf("%d", x.StatusCode)
				}
			})
		})
	}
}

// RFC 9110 14.
func testRanges(t *testing.T, url string, whole *reply) {
	n := len(whole.body)
	modified := whole.header("Last-Modified")
	for _, c := range []struct {
		header   string
		ifRange  string
		from, to int // [from, to); to 0: the whole, -1: not satisfiable
	}{
		{header: "bytes=0-0", to: 1},
		{header: "bytes=0-9", to: 10},
		{header: "bytes=5-", from: 5, to: n},
		{header: "bytes=-7", from: n - 7, to: n},
		{header: "bytes=-99999999999999999999", to: n},
		{header: "bytes=3-9007199254740991", from: 3, to: n}, // RFC 8673
		{header: "bytes=3-99999999999999999999999", from: 3, to: n},
		{header: fmt.Sprintf("bytes=%d-%d", n-1, n-1), from: n - 1, to: n},
		{header: "Bytes=1-2", from: 1, to: 3},
		{header: fmt.Sprintf("bytes=%d-", n), to: -1},
		{header: "bytes=99999999999999999999999-", to: -1},
		{header: "bytes=-0", to: -1},
		{header: "bytes=0-1,4-5"},
		{header: "bytes=5-4"},
		{header: "bytes=a-b"},
		{header: "bytes=-"},
		{header: "bytes="},
		{header: "bytes"},
		{header: "lines=0-1"},
		{header: "bytes=0-9", ifRange: whole.header("Etag"), to: 10},
		{header: "bytes=0-9", ifRange: `"other"`},
		{header: "bytes=0-9", ifRange: "W/" + whole.header("Etag")},
		{header: "bytes=0-9", ifRange: "Thu, 01 Jan 1970 00:00:01 GMT"},
		{header: "bytes=0-9", ifRange: "nonsense"},
		{header: fmt.Sprintf("bytes=%d-", n), ifRange: `"other"`},
	} {
		headers := []string{"Range: " + c.header}
		if c.ifRange != "" {
			headers = append(headers, "If-Range: "+c.ifRange)
		}
		r := ask(t, "GET", url, headers...)
		switch {
		case c.to < 0:
			if r.StatusCode != 416 || r.header("Content-Range") != fmt.Sprintf("bytes */%d", n) || r.header("Cache-Control") != "private, no-store" {
				t.Errorf("%q: %d %v", headers, r.StatusCode, r.Header)
			}
		case c.to == 0:
			if r.StatusCode != 200 || r.body != whole.body || r.header("Content-Range") != "" {
				t.Errorf("%q: %d %v", headers, r.StatusCode, r.Header)
			}
		default:
			if r.StatusCode != 206 || r.body != whole.body[c.from:c.to] || r.header("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", c.from, c.to-1, n) ||
				r.header("Content-Length") != strconv.Itoa(c.to-c.from) || r.header("Etag") != whole.header("Etag") ||
				r.header("Cache-Control") != whole.header("Cache-Control") {
				t.Errorf("%q: %d, %d bytes, %v", headers, r.StatusCode, len(r.body), r.Header)
			}
		}
	}
	if modified != "" {
		if r := ask(t, "GET", url, "Range: bytes=0-9", "If-Range: "+modified); r.StatusCode != 206 {
			t.Errorf("If-Range by date: %d", r.StatusCode)
		}
	}
}

// Every range of a segment is cut from its pieces as from the whole.
func TestRangesAcrossParts(t *testing.T) {
	_, e := newLive(t)
	seg := e.video().Window().Segments[1]
	var whole strings.Builder
	seg.WriteRange(&whole, 0, seg.Size())
	if len(seg.Parts) < 5 || whole.Len() != seg.Size() {
		t.Fatalf("%d parts, %d bytes", len(seg.Parts), whole.Len())
	}
	edges := []int{0, seg.Size()}
	at := 0
	for _, p := range seg.Parts {
		edges = append(edges, at, at+p.HeadSize(), at+p.Size())
		at += p.Size()
	}
	var points []int
	for _, x := range edges {
		for d := -1; d <= 1; d++ {
			if x+d >= 0 && x+d <= seg.Size() {
				points = append(points, x+d)
			}
		}
	}
	for range 20 {
		points = append(points, rand.IntN(seg.Size()+1))
	}
	o := object{segment: seg, size: seg.Size()}
	for _, from := range points {
		for _, to := range points {
			if from >= to {
				continue
			}
			var got strings.Builder
			if err := o.writeRange(&got, from, to-from); err != nil || got.String() != whole.String()[from:to] {
				t.Fatalf("%d-%d: %d bytes, %v", from, to, got.Len(), err)
			}
		}
	}
}

// A segment is the concatenation of its parts (RFC 8216bis 3.2), and everything a playlist names can be had.
func TestPlaylistNamesWhatIsThere(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	for _, id := range []string{"video", "audio"} {
		dir := base + e.dir(id)
		folder, err := url.Parse(dir)
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for line := range strings.Lines(ask(t, "GET", dir+"index.m3u8").body) {
			line = strings.TrimSpace(line)
			name := line
			if _, uri, ok := strings.Cut(line, `URI="`); ok {
				name, _, _ = strings.Cut(uri, `"`)
			}
			if line == "" || strings.HasPrefix(name, "#") || strings.HasPrefix(line, "#EXT-X-PRELOAD-HINT") {
				continue
			}
			seen++
			ref, err := url.Parse(name)
			if err != nil {
				t.Fatal(err)
			}
			if r := ask(t, "GET", folder.ResolveReference(ref).String()); r.StatusCode != 200 {
				t.Errorf("%s: %d", line, r.StatusCode)
			}
		}
		if seen < 8 {
			t.Errorf("%s names %d things", id, seen)
		}
		seg := e.rendition(id).Window().Segments[2]
		var parts strings.Builder
		for _, p := range seg.Parts {
			parts.WriteString(ask(t, "GET", dir+playlist.PartName(p.Time)).body)
		}
		if whole := ask(t, "GET", dir+playlist.SegmentName(seg.MSN)).body; whole != parts.String() {
			t.Errorf("%s: the parts are not the segment", id)
		}
	}
}

func TestNotFound(t *testing.T) {
	s, e := newLive(t)
	e.run(40 * testGOP) // the first segments are gone
	base, _ := listen(t, s)
	w := e.video().Window()
	first := e.stream.Run().FirstMSN
	for _, c := range []struct{ path, cache string }{
		{"/live/nothing/index.m3u8", "public, max-age=1"},
		{"/live/nothing/r/video/index.m3u8", "public, max-age=1"},
		{"/live/demo/norun/video/index.m3u8", "public, max-age=1"},
		{"/live/demo/norun/video/s1.m4s", "public, max-age=1"},
		{e.dir("nothing") + "index.m3u8", "public, max-age=1"},
		{e.dir("nothing") + "s1.m4s", "public, max-age=1"},
		{e.dir("video") + "x.m4s", "public, max-age=1"},
		{"/live/demo/hls/index.m3u8", "public, max-age=1"},
		{"/nothing", "public, max-age=1"},
		{e.dir("video") + playlist.SegmentName(first), "public, max-age=2"}, // a target duration
		{e.dir("video") + playlist.PartName(0), "public, max-age=2"},
		{e.dir("video") + playlist.SegmentName(w.Open.MSN), "private, no-store"},
		{e.dir("video") + playlist.SegmentName(w.Open.MSN+1), "private, no-store"},
		{e.dir("video") + playlist.PartName(w.NextPart+90000), "private, no-store"},
		{e.dir("video") + playlist.InitName(someHash), "private, no-store"},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			r := ask(t, method, base+c.path)
			if r.StatusCode != 404 || r.header("Cache-Control") != c.cache || r.header("Access-Control-Allow-Origin") != "*" || r.header("Date") == "" {
				t.Errorf("%s %s: %d %v, want %q", method, c.path, r.StatusCode, r.Header, c.cache)
			}
			if method == "GET" && (r.body == "" || strings.Contains(r.body, c.path)) {
				t.Errorf("%s: %q", c.path, r.body)
			}
		}
	}
	// What has left the playlist stays for a while (RFC 8216bis 6.2.2).
	if r := ask(t, "GET", base+e.dir("video")+playlist.SegmentName(w.Segments[0].MSN-1)); r.StatusCode != 200 {
		t.Errorf("just removed: %d", r.StatusCode)
	}
}

func TestPreflight(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	for _, path := range []string{"/live/demo/index.m3u8", e.dir("video") + "s1.m4s", "/nothing", "/api/streams"} {
		r := ask(t, "OPTIONS", base+path, "Origin: https://player.example", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: range")
		for k, want := range map[string]string{
			"Access-Control-Allow-Origin":  "*",
			"Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
			"Access-Control-Allow-Headers": "Range, Authorization, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status",
			"Access-Control-Max-Age":       "86400",
			"Vary":                         "",
		} {
			if got := r.header(k); got != want {
				t.Errorf("%s: %s: %q, want %q", path, k, got, want)
			}
		}
		if r.StatusCode != 204 || r.body != "" || r.header("Cache-Control") == "" {
			t.Errorf("%s: %d %v", path, r.StatusCode, r.Header)
		}
	}
}

// Both names of a stream's URL are free but for the folders of the pages and their data.
func TestNames(t *testing.T) {
	s := &Server{Origin: &segmenter.Origin{}}
	for _, name := range []string{"live/a b", "live/ä", "live/a+b", "live/index.m3u8", "live/x.y_z-1"} {
		publish(t, s.Origin, name).run(3 * testGOP)
	}
	base, _ := listen(t, s)
	for _, path := range []string{"/live/a%20b/index.m3u8", "/live/%C3%A4/index.m3u8", "/live/a+b/index.m3u8", "/live/index.m3u8/index.m3u8", "/live/x.y_z-1/index.m3u8"} {
		if r := ask(t, "GET", base+path); r.StatusCode != 200 {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
}
