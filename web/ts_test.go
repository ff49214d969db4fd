package web

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"headwater/playlist"
	"headwater/segmenter"
	"headwater/segmenter/media"
	"headwater/segmenter/mpegts/tstest"
)

// newShuffled returns a server and a stream live/demo with B-frames.
func newShuffled(t testing.TB) (*Server, *encoder) {
	t.Helper()
	s := &Server{Origin: &segmenter.Origin{}}
	e := publish(t, s.Origin, "live/demo")
	e.shuffle = true
	return s, e.run(6*testGOP + 25)
}

// named returns what a playlist at that URL names, as URLs.
func named(t *testing.T, at, body string) (list []string) {
	t.Helper()
	base, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			ref, err := base.Parse(line)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, ref.String())
		}
	}
	return list
}

// TestTSRead goes where a player does, from the multivariant playlist to all segments, which must be as if one multiplexer had
// written them in a row.
func TestTSRead(t *testing.T) {
	s, e := newShuffled(t)
	base, _ := listen(t, s)
	at := base + "/live/demo/ts/index.m3u8"
	variants := named(t, at, ask(t, "GET", at).body)
	if len(variants) != 2 || variants[0] != base+e.dir("video")+"ts/index.m3u8" || variants[1] != base+e.dir("audio")+"ts/index.m3u8" {
		t.Fatalf("variants %q", variants)
	}
	for i, v := range variants {
		urls := named(t, v, ask(t, "GET", v).body)
		if len(urls) < 4 {
			t.Fatalf("%s lists %d segments", v, len(urls))
		}
		var segments [][]byte
		for _, u := range urls {
			r := ask(t, "GET", u)
			if r.StatusCode != 200 {
				t.Fatalf("%s: %d", u, r.StatusCode)
			}
			segments = append(segments, []byte(r.body))
		}
		rep, err := tstest.Check(segments)
		if err != nil {
			t.Errorf("%s: %v", v, err)
		}
		if i == 1 {
			if len(rep.Video()) > 0 || len(rep.Audio()) == 0 {
				t.Errorf("%s: %d pictures, %d audio packets", v, len(rep.Video()), len(rep.Audio()))
			}
			continue
		}
		if n := len(urls) * testGOP; len(rep.Video()) != n || len(rep.Audio()) == 0 {
			t.Fatalf("%s: %d pictures, want %d; %d audio packets", v, len(rep.Video()), n, len(rep.Audio()))
		}
		for k, p := range rep.Video() {
			// Decode times run on evenly, by RTMP's milliseconds, also from segment to segment.
			if k > 0 && (p.DTS-rep.Video()[k-1].DTS < 2900 || p.DTS-rep.Video()[k-1].DTS > 3100) {
				t.Errorf("picture %d is decoded %d ticks after the one before", k, p.DTS-rep.Video()[k-1].DTS)
			}
			if k%testGOP == 0 {
				seg := e.video().Window().Segments[k/testGOP]
				// A millisecond late at most, where it would be presented before it is decoded.
				if want := seg.Start + 900_000; p.PTS < want || p.PTS > want+90 {
					t.Errorf("key frame %d is presented at %d, want %d", k, p.PTS, want)
				}
			}
		}
	}
}

// TestTSMadeOnce: a stream that nobody asks for in MPEG-TS has nothing made for it, nor have those who ask what they need not
// be sent; and what many ask for at once is made once.
func TestTSMadeOnce(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	at := base + e.dir("video") + "ts/" + playlist.TSSegmentName(e.video().Window().LastMSN())
	made := func(want uint64) {
		t.Helper()
		if got := s.metrics.muxed.Load(); got != want {
			t.Errorf("%d segments have been made, want %d", got, want)
		}
	}
	ask(t, "GET", base+"/live/demo/ts/index.m3u8")
	ask(t, "GET", base+e.dir("video")+"ts/index.m3u8")
	ask(t, "GET", base+e.dir("video")+"iframes.m3u8")
	h := ask(t, "HEAD", at)
	if h.StatusCode != 200 || h.header("Content-Length") != "" || h.header("Accept-Ranges") != "bytes" || h.header("Content-Type") != "video/mp2t" {
		t.Errorf("HEAD: %d %v", h.StatusCode, h.Header)
	}
	tag := h.header("Etag")
	for _, c := range []struct {
		header string
		status int
	}{{"If-None-Match: " + tag, 304}, {"If-None-Match: *", 304}, {`If-Match: "x"`, 412}} {
		if r := ask(t, "GET", at, c.header); r.StatusCode != c.status {
			t.Errorf("%s: %d", c.header, r.StatusCode)
		}
	}
	made(0)
	var wg sync.WaitGroup
	bodies := make([]string, 16)
	for i := range bodies {
		wg.Go(func() {
			r := ask(t, "GET", at)
			if r.StatusCode != 200 || r.header("Etag") != tag || r.ContentLength != int64(len(r.body)) {
				t.Errorf("%d %v", r.StatusCode, r.Header)
			}
			bodies[i] = r.body
		})
	}
	wg.Wait()
	for _, b := range bodies {
		if b != bodies[0] || len(b)%188 != 0 || b == "" {
			t.Fatal("not the same to everybody")
		}
	}
	made(1)
	if r := ask(t, "GET", at, "Range: bytes=188-375", "If-Range: "+tag); r.StatusCode != 206 || r.body != bodies[0][188:376] {
		t.Errorf("a range: %d, %d bytes", r.StatusCode, len(r.body))
	}
	if h := ask(t, "HEAD", at); h.ContentLength != int64(len(bodies[0])) {
		t.Errorf("HEAD of what is there: length %d", h.ContentLength)
	}
	made(1)
	ops := call(t.Context(), s.OpsHandler(), "GET", "/metrics").body
	for _, want := range []string{"headwater_ts_segments_muxed_total 1\n", `headwater_http_requests_total{class="ts",status="206"} 1`,
		`headwater_http_requests_total{class="iframes",status="200"} 1`, fmt.Sprintf("headwater_ts_cached_bytes %v", float64(s.ts.size()))} {
		if !strings.Contains(ops, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	// Another origin that has been fed the same makes the same: nothing but the media counts.
	other := &Server{Origin: s.Origin}
	if r := call(t.Context(), other.Handler(), "GET", strings.TrimPrefix(at, base)); r.body != bodies[0] || r.header("Etag") != tag {
		t.Error("another server makes another segment")
	}
	// What does not have to be waited for is served while shutting down.
	s.Drain()
	if r := ask(t, "GET", strings.Replace(at, "video", "audio", 1)); r.StatusCode != 200 {
		t.Errorf("while draining: %d", r.StatusCode)
	}
}

func TestTSNotFound(t *testing.T) {
	s, e := newLive(t)
	e.run(40 * testGOP)
	base, _ := listen(t, s)
	w, first := e.video().Window(), e.stream.Run().FirstMSN
	for _, c := range []struct{ path, cache string }{
		{"/live/nothing/ts/index.m3u8", "public, max-age=1"},
		{e.dir("nothing") + "ts/index.m3u8", "public, max-age=1"},
		{e.dir("nothing") + "iframes.m3u8", "public, max-age=1"},
		{e.dir("audio") + "iframes.m3u8", "public, max-age=1"}, // it has none
		{e.dir("video") + "ts/x.ts", "public, max-age=1"},
		{e.dir("video") + playlist.TSSegmentName(w.LastMSN()), "public, max-age=1"},
		{e.dir("video") + "ts/" + playlist.SegmentName(w.LastMSN()), "public, max-age=1"},
		{e.dir("video") + "ts/" + playlist.TSSegmentName(first), "public, max-age=2"},
		{e.dir("video") + "ts/" + playlist.TSSegmentName(w.Open.MSN), "private, no-store"},
		{e.dir("video") + "ts/" + playlist.TSSegmentName(w.Open.MSN+1), "private, no-store"},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			if r := ask(t, method, base+c.path); r.StatusCode != 404 || r.header("Cache-Control") != c.cache {
				t.Errorf("%s %s: %d %v, want %q", method, c.path, r.StatusCode, r.Header, c.cache)
			}
		}
	}
	if r := ask(t, "GET", base+e.dir("video")+"ts/"+playlist.TSSegmentName(w.Segments[0].MSN-1)); r.StatusCode != 200 {
		t.Errorf("just removed from the playlist: %d", r.StatusCode)
	}
}

// TestTSOtherCodec: when the encoder goes over to what MPEG-TS cannot carry there is no playlist any more, but what it has listed can
// still be had (RFC 8216bis 6.2.2).
func TestTSOtherCodec(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	at := base + e.dir("video") + "ts/index.m3u8"
	urls := named(t, at, ask(t, "GET", at).body)
	err := e.pub.SetTracks([]media.Track{
		{ID: 1, Kind: media.Video, Codec: media.Codec{Type: "hvc1", String: "hvc1.1.6.L93.90", Config: make([]byte, 23)}, Timescale: 90000, Width: 1280, Height: 720},
		{ID: 2, Kind: media.Audio, Codec: media.Codec{Type: "mp4a", String: "mp4a.40.2", Config: testASC}, Timescale: 48000,
			SampleRate: 48000, Channels: 2, FrameSamples: 1024},
	})
	if err != nil {
		t.Fatal(err)
	}
	e.segment()
	e.segment()
	if r := ask(t, "GET", at); r.StatusCode != 404 || !strings.Contains(r.body, "H.264") {
		t.Errorf("the playlist: %d %s", r.StatusCode, r.body)
	}
	for _, u := range urls {
		if r := ask(t, "GET", u); r.StatusCode != 200 {
			t.Errorf("%s: %d", u, r.StatusCode)
		}
	}
	last := base + e.dir("video") + "ts/" + playlist.TSSegmentName(e.video().Window().LastMSN())
	if r := ask(t, "GET", last); r.StatusCode != 404 || r.header("Cache-Control") != "public, max-age=2" {
		t.Errorf("%s: %d %v", last, r.StatusCode, r.Header)
	}
}

// TestTSBroken: what the encoder sent cannot be put into MPEG-TS; that is not the server's fault, and does not get better.
func TestTSBroken(t *testing.T) {
	s, e := newLive(t)
	e.frame[0] = 0x7f // a NAL unit longer than the sample
	e.segment()
	e.segment()
	e.segment()
	base, _ := listen(t, s)
	at := base + e.dir("video") + "ts/" + playlist.TSSegmentName(e.video().Window().LastMSN()-1)
	for range 2 {
		if r := ask(t, "GET", at); r.StatusCode != 404 || r.header("Cache-Control") != "public, max-age=2" || r.header("Etag") != "" {
			t.Errorf("%d %v", r.StatusCode, r.Header)
		}
	}
	if n := s.metrics.muxed.Load(); n != 1 {
		t.Errorf("tried %d times", n)
	}
	if r := ask(t, "HEAD", at); r.StatusCode != 404 {
		t.Errorf("HEAD: %d", r.StatusCode)
	}
}

// TestPlainPlaylists: delivery directives, malformed ones too, are not looked at where no playlist offers them, and nothing is
// held; the age is half a target duration until the end.
func TestPlainPlaylists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Origin: &segmenter.Origin{Config: func(string) segmenter.Config {
			return segmenter.Config{TargetDuration: 6 * time.Second, PartTarget: segmenter.DefaultPartTarget}
		}}}
		e := publish(t, s.Origin, "live/demo").run(12 * testGOP)
		h := s.Handler()
		dir := e.dir("video")
		for _, name := range []string{"iframes.m3u8", "ts/index.m3u8"} {
			plain := call(t.Context(), h, "GET", dir+name)
			for _, query := range []string{"", "?_HLS_msn=x", "?_HLS_skip=YES", fmt.Sprintf("?_HLS_msn=%d&_HLS_part=0", e.video().Window().LastMSN()+1)} {
				r := call(t.Context(), h, "GET", dir+name+query)
				if r.StatusCode != 200 || r.header("Cache-Control") != "public, max-age=3" || r.body != plain.body || r.header("Last-Modified") == "" {
					t.Errorf("%s%s: %d %v\n%s", name, query, r.StatusCode, r.Header, r.body)
				}
			}
		}
		e.end()
		for _, name := range []string{"iframes.m3u8", "ts/index.m3u8"} {
			if r := call(t.Context(), h, "GET", dir+name); r.header("Cache-Control") != "public, max-age=3600" || !strings.HasSuffix(r.body, "#EXT-X-ENDLIST\n") {
				t.Errorf("%s: %v\n%s", name, r.Header, r.body)
			}
		}
	})
}

// TestIFrameRanges: each range of an I-frame playlist is the beginning of a segment, and ends with its first sample.
func TestIFrameRanges(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	at := base + e.dir("video") + "iframes.m3u8"
	body := ask(t, "GET", at).body
	urls := named(t, at, body)
	if len(urls) != len(e.video().Window().Segments) || strings.Count(body, "#EXT-X-BYTERANGE:") != len(urls) {
		t.Fatalf("%d segments:\n%s", len(urls), body)
	}
	_, rest, _ := strings.Cut(body, "#EXT-X-BYTERANGE:")
	var n int
	if _, err := fmt.Sscanf(rest, "%d@0\n", &n); err != nil {
		t.Fatal(err)
	}
	r := ask(t, "GET", urls[0], fmt.Sprintf("Range: bytes=0-%d", n-1))
	key := append([]byte(nil), e.frame...)
	key[4] = 0x65
	if r.StatusCode != 206 || len(r.body) != n || !strings.HasSuffix(r.body, string(key)) || strings.Count(r.body, string(key[4:])) != 1 {
		t.Errorf("%d, %d bytes", r.StatusCode, len(r.body))
	}
}

func TestTSCache(t *testing.T) {
	ctx := t.Context()
	var c tsCache
	made := map[string]int{}
	get := func(tag string, size int) {
		t.Helper()
		b, err := c.get(ctx, tag, func() ([]byte, error) {
			made[tag]++
			return make([]byte, size), nil
		})
		if err != nil || len(b) != size {
			t.Errorf("%s: %d bytes, %v", tag, len(b), err)
		}
	}
	const third = tsCacheBytes/3 - tsEntryBytes
	for _, tag := range []string{"a", "b", "c", "a", "d", "a", "c", "b"} { // d takes the place of b, then b that of d
		get(tag, third)
		if c.size() > tsCacheBytes {
			t.Fatalf("%d bytes are kept", c.size())
		}
	}
	for tag, want := range map[string]int{"a": 1, "b": 2, "c": 1, "d": 1} {
		if made[tag] != want {
			t.Errorf("%s was made %d times, want %d", tag, made[tag], want)
		}
	}
	before := c.size()
	get("too large", tsCacheBytes)
	get("too large", tsCacheBytes)
	if made["too large"] != 2 || c.size() != before {
		t.Errorf("what is larger than the cache was made %d times; %d bytes are kept", made["too large"], c.size())
	}
	for _, f := range []struct {
		err   error
		times int
	}{{media.Formatf("x", "y"), 1}, {errors.New("the store cannot be read"), 2}} {
		n := 0
		for range 2 {
			b, err := c.get(ctx, f.err.Error(), func() ([]byte, error) { n++; return []byte("x"), f.err })
			if b != nil || err != f.err {
				t.Errorf("%q, %v", b, err)
			}
		}
		if n != f.times {
			t.Errorf("%v: tried %d times, want %d", f.err, n, f.times)
		}
	}
}

// TestTSCacheWaits: whoever waits for another's segment may leave, gets it when it is there, and is not stuck when its maker
// fails badly.
func TestTSCacheWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c tsCache
		gate := make(chan struct{})
		slow := func() ([]byte, error) { <-gate; return []byte("x"), nil }
		never := func() ([]byte, error) { t.Error("made twice"); return nil, nil }
		var wg sync.WaitGroup
		wg.Go(func() {
			if b, err := c.get(t.Context(), "a", slow); string(b) != "x" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		})
		synctest.Wait()
		if _, ok, _ := c.peek("a"); ok {
			t.Error("there already")
		}
		wg.Go(func() {
			if b, err := c.get(t.Context(), "a", never); string(b) != "x" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.get(ctx, "a", never); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who left: %v", err)
		}
		close(gate)
		wg.Wait()

		burst := make(chan struct{})
		wg.Go(func() {
			defer func() { recover() }()
			c.get(t.Context(), "b", func() ([]byte, error) { <-burst; panic("burst") })
		})
		synctest.Wait()
		wg.Go(func() {
			if _, err := c.get(t.Context(), "b", never); !errors.Is(err, errNotMade) {
				t.Errorf("its maker panicked: %v", err)
			}
		})
		synctest.Wait()
		close(burst)
		wg.Wait()

		// One that gave up before its turn leaves the segment to the next.
		hold := make(chan struct{})
		for i := range cap(c.turns) {
			wg.Go(func() { c.get(t.Context(), fmt.Sprint("busy ", i), func() ([]byte, error) { <-hold; return nil, nil }) })
		}
		synctest.Wait()
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wg.Go(func() {
			if _, err := c.get(soon, "c", never); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if b, err := c.get(t.Context(), "c", func() ([]byte, error) { return []byte("y"), nil }); string(b) != "y" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		})
		time.Sleep(2 * time.Second) // of the bubble
		close(hold)
		wg.Wait()
	})
}
