package web

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"headwater/playlist"
	"headwater/segmenter"
)

// A pending is a request under way.
type pending struct {
	done   chan struct{}
	reply  *reply // nil when it was broken off
	took   time.Duration
	cancel context.CancelFunc
}

func begin(h http.Handler, target string, headers ...string) *pending {
	ctx, cancel := context.WithCancel(context.Background())
	return beginIn(ctx, cancel, h, target, headers...)
}

func beginIn(ctx context.Context, cancel context.CancelFunc, h http.Handler, target string, headers ...string) *pending {
	p := &pending{done: make(chan struct{}), cancel: cancel}
	began := time.Now()
	go func() {
		defer close(p.done)
		defer func() {
			p.took = time.Since(began)
			if v := recover(); v != nil && v != http.ErrAbortHandler {
				panic(v)
			}
		}()
		p.reply = call(ctx, h, "GET", target, headers...)
	}()
	return p
}

func (p *pending) held() bool {
	synctest.Wait()
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// answer waits for the reply and checks its status and Cache-Control.
func (p *pending) answer(t *testing.T, status int, cache string) *reply {
	t.Helper()
	<-p.done
	p.cancel()
	if p.reply.StatusCode != status || p.reply.header("Cache-Control") != cache {
		t.Errorf("%d %q, want %d %q\n%s", p.reply.StatusCode, p.reply.header("Cache-Control"), status, cache, p.reply.body)
	}
	return p.reply
}

func edgeQuery(w *segmenter.Window, parts int) string {
	e := w.Edge()
	if len(w.Open.Parts) == 0 {
		e.MSN, e.Part = e.MSN+1, -1
	}
	return fmt.Sprintf("?_HLS_msn=%d&_HLS_part=%d", e.MSN, e.Part+parts)
}

// RFC 8216bis 6.2.5.2.
func TestBlockingReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLive(t)
		h := s.Handler()
		index := e.dir("video") + "index.m3u8"
		w := e.video().Window()
		next := w.LastMSN() + 1
		if w.Open.MSN != next || len(w.Open.Parts) != 2 {
			t.Fatalf("the test stream is at %d.%d", w.Open.MSN, len(w.Open.Parts))
		}

		// What is there is answered at once, and not kept, unless it is just what the newest playlist was made for.
		for _, c := range []struct {
			query, cache string
		}{
			{"", "public, max-age=1"},
			{"?_HLS_skip=YES", "public, max-age=1"},
			{"?_HLS_unknown=x", "public, max-age=1"},
			{"?_HLS_msn=0", "public, max-age=1"},
			{fmt.Sprintf("?_HLS_msn=%d", next-1), "public, max-age=1"},
			{fmt.Sprintf("?_HLS_msn=%d&_HLS_part=0", next-1), "public, max-age=1"},
			{fmt.Sprintf("?_HLS_msn=%d&_HLS_part=0", next), "public, max-age=1"},
			{fmt.Sprintf("?_HLS_msn=%d&_HLS_part=1", next), "public, max-age=12"},
			// A part past the end of a segment is the first part of the next one, and that is past too.
			{fmt.Sprintf("?_HLS_msn=%d&_HLS_part=100", next-1), "public, max-age=1"},
		} {
			r := call(t.Context(), h, "GET", index+c.query)
			if r.StatusCode != 200 || r.header("Cache-Control") != c.cache {
				t.Errorf("%s: %d %q, want %q", c.query, r.StatusCode, r.header("Cache-Control"), c.cache)
			}
			if !strings.Contains(r.body, "#EXT-X-MEDIA-SEQUENCE") {
				t.Errorf("%s: %s", c.query, r.body)
			}
		}
		for _, query := range []string{
			fmt.Sprintf("?_HLS_msn=%d", next+2), // two ahead of the last segment is the most
			"?_HLS_msn=18446744073709551615",
			fmt.Sprintf("?_HLS_msn=%d&_HLS_part=11", next), // the Advance Part Limit is 3 s of parts of 334 ms
			"?_HLS_part=1", "?_HLS_msn=x", "?_HLS_msn=-1", "?_HLS_msn=1&_HLS_msn=1",
		} {
			if r := call(t.Context(), h, "GET", index+query); r.StatusCode != 400 || r.header("Cache-Control") != "private, no-store" {
				t.Errorf("%s: %d %v", query, r.StatusCode, r.Header)
			}
		}

		part := begin(h, index+fmt.Sprintf("?_HLS_msn=%d&_HLS_part=2", next))
		later := begin(h, index+fmt.Sprintf("?_HLS_part=3&_HLS_msn=%d&_HLS_skip=YES", next))
		segment := begin(h, index+fmt.Sprintf("?_HLS_msn=%d", next))
		first := begin(h, index+fmt.Sprintf("?_HLS_msn=%d&_HLS_part=0", next+1))
		if !part.held() || !later.held() || !segment.held() || !first.held() {
			t.Fatal("not held")
		}
		if n := s.gate.now.Load(); n != 4 {
			t.Errorf("%d requests are held", n)
		}
		e.part()
		if part.held() || !later.held() {
			t.Fatal("the wrong ones are held after a part")
		}
		r := part.answer(t, 200, "public, max-age=12")
		if p := e.video().Window().Open.Parts[2]; !strings.Contains(r.body, playlist.PartName(p.Time)) {
			t.Errorf("the part is not in it:\n%s", r.body)
		}
		// Whoever asks for the same thing now gets the same, from the same window.
		if again := call(t.Context(), h, "GET", index+fmt.Sprintf("?_HLS_msn=%d&_HLS_part=2", next)); again.body != r.body || again.header("Etag") != r.header("Etag") {
			t.Error("another answer")
		}
		e.part()
		later.answer(t, 200, "public, max-age=12")
		e.segment()
		if segment.held() {
			t.Fatal("held after the segment")
		}
		if r := segment.answer(t, 200, "public, max-age=12"); !strings.Contains(r.body, playlist.SegmentName(next)) {
			t.Errorf("the segment is not in it:\n%s", r.body)
		}
		e.part()
		first.answer(t, 200, "public, max-age=12")
		if n := s.gate.now.Load(); n != 0 || s.gate.streams() != 0 {
			t.Errorf("%d requests are held", n)
		}
	})
}

// A part past the end of the segment that is being made means the first part of the next.
func TestPartPastTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLive(t)
		next := e.video().Window().Open.MSN
		// The open segment will have six parts.
		p := begin(s.Handler(), e.dir("video")+fmt.Sprintf("index.m3u8?_HLS_msn=%d&_HLS_part=9", next))
		e.segment()
		if len(e.video().Window().Open.Parts) == 0 && !p.held() {
			t.Error("not held until the next segment's first part")
		}
		e.part()
		r := p.answer(t, 200, "public, max-age=12")
		if w := e.video().Window(); w.Open.MSN != next+1 || !strings.Contains(r.body, playlist.PartName(w.Open.Parts[0].Time)) {
			t.Errorf("%d\n%s", w.Open.MSN, r.body)
		}
	})
}

func TestHeldTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLive(t)
		h := s.Handler()
		w := e.video().Window()
		for _, target := range []string{
			e.dir("video") + "index.m3u8" + edgeQuery(w, 1),
			e.dir("video") + playlist.PartName(w.NextPart),
		} {
			p := begin(h, target)
			r := p.answer(t, 503, "private, no-store")
			if p.took != 6*time.Second || r.header("Retry-After") != "1" { // three target durations
				t.Errorf("%s: held for %v, %v", target, p.took, r.Header)
			}
		}
	})
}

func TestClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLive(t)
		p := begin(s.Handler(), e.dir("video")+"index.m3u8"+edgeQuery(e.video().Window(), 1))
		if !p.held() || s.gate.now.Load() != 1 {
			t.Fatal("not held")
		}
		p.cancel()
		<-p.done
		if p.took != 0 || s.gate.now.Load() != 0 || s.gate.streams() != 0 {
			t.Errorf("after %v: %d held", p.took, s.gate.now.Load())
		}
		if p.reply != nil || s.metrics.broken.Load() != 0 {
			t.Error("not broken off, or counted as a body that was")
		}
		if s.metrics.requests[ClassPlaylist][statusIndex(statusClientLeft)].Load() != 1 {
			t.Error("not counted")
		}
	})
}

// A client that closes its half of the connection may still listen (RFC 9112 9.6). Nothing is not a playlist to it.
func TestHalfClosed(t *testing.T) {
	s, e := newLive(t)
	base, _ := listen(t, s)
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	target := e.dir("video") + "index.m3u8" + edgeQuery(e.video().Window(), 1)
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: origin.test\r\n\r\n", target)
	conn.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(conn); err != nil || len(b) > 0 {
		t.Errorf("%v\n%s", err, b)
	}
}

// RFC 8216bis 6.2.6: the GET of a hinted part is answered when the whole part is there; of an abandoned or unknown one,
// at once.
func TestHintedPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLive(t)
		h := s.Handler()
		w := e.video().Window()
		url := e.dir("video") + playlist.PartName(w.NextPart)
		whole, some := begin(h, url), begin(h, url, "Range: bytes=10-19")
		if !whole.held() || !some.held() {
			t.Fatal("not held")
		}
		e.part()
		r := whole.answer(t, 200, "public, max-age=31536000, immutable")
		p, _ := e.video().Window().Part(w.NextPart)
		tag, _ := p.Hash()
		var want strings.Builder
		p.WriteRange(&want, 0, p.Size())
		if r.body != want.String() || r.header("Content-Length") != fmt.Sprint(p.Size()) || r.header("Etag") != `"`+tag+`"` {
			t.Errorf("%d bytes, %v", len(r.body), r.Header)
		}
		if r := some.answer(t, 206, "public, max-age=31536000, immutable"); r.body != want.String()[10:20] {
			t.Errorf("range: %d bytes", len(r.body))
		}

		for _, name := range []string{playlist.PartName(w.NextPart + 1), playlist.PartName(1 << 62), playlist.SegmentName(w.Open.MSN), playlist.SegmentName(1 << 62)} {
			if r := call(t.Context(), h, "GET", e.dir("video")+name); r.StatusCode != 404 || r.header("Cache-Control") != "private, no-store" {
				t.Errorf("%s: %d %v", name, r.StatusCode, r.Header)
			}
		}

		abandoned := begin(h, e.dir("video")+playlist.PartName(e.video().Window().NextPart))
		if !abandoned.held() {
			t.Fatal("not held")
		}
		hint := e.video().Window().NextPart
		if err := e.pub.Close(io.ErrUnexpectedEOF); err != nil {
			t.Fatal(err)
		}
		if _, ok := e.video().Window().Part(hint); ok {
			abandoned.answer(t, 200, "public, max-age=31536000, immutable") // what was left made a part of it
			abandoned = begin(h, e.dir("video")+playlist.PartName(e.video().Window().NextPart))
		}
		abandoned.answer(t, 404, "private, no-store")
		if abandoned.took != 0 {
			t.Errorf("held for %v", abandoned.took)
		}
	})
}

// EXT-X-ENDLIST: whoever waits gets that playlist, and directives mean nothing any more, good or bad.
func TestEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLive(t)
		h := s.Handler()
		index := e.dir("video") + "index.m3u8"
		p := begin(h, index+edgeQuery(e.video().Window(), 3))
		if !p.held() {
			t.Fatal("not held")
		}
		e.end()
		r := p.answer(t, 200, "public, max-age=3600")
		if !strings.Contains(r.body, "#EXT-X-ENDLIST") || strings.Contains(r.body, "PRELOAD-HINT") {
			t.Errorf("%s", r.body)
		}
		for _, query := range []string{"", "?_HLS_msn=99999999999", "?_HLS_skip=YES", "?_HLS_msn=x", "?_HLS_part=1", "?_HLS_msn=1&_HLS_msn=2"} {
			if again := call(t.Context(), h, "GET", index+query); again.StatusCode != 200 || again.body != r.body || again.header("Cache-Control") != "public, max-age=3600" {
				t.Errorf("%s: %d %v", query, again.StatusCode, again.Header)
			}
		}
		if r := call(t.Context(), h, "GET", "/live/demo/index.m3u8"); r.StatusCode != 200 || strings.Contains(r.body, "ENDLIST") || r.header("Cache-Control") != "public, max-age=3, stale-if-error=60" {
			t.Errorf("multivariant: %d %v\n%s", r.StatusCode, r.Header, r.body)
		}
	})
}

// A stream that is warming up is waited for; playlists without segments do not exist.
func TestWarmUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Origin: &segmenter.Origin{}}
		h := s.Handler()
		if r := call(t.Context(), h, "GET", "/live/demo/index.m3u8"); r.StatusCode != 404 || r.header("Cache-Control") != "public, max-age=1" {
			t.Errorf("unknown: %d %v", r.StatusCode, r.Header)
		}
		e := publish(t, s.Origin, "live/demo")
		before := begin(h, "/live/demo/index.m3u8") // no run yet
		if !before.held() {
			t.Fatal("not held")
		}
		e.run(testGOP / 2)
		multi := begin(h, "/live/demo/index.m3u8")
		video := begin(h, e.dir("video")+"index.m3u8")
		next := begin(h, e.dir("video")+fmt.Sprintf("index.m3u8?_HLS_msn=%d", e.stream.Run().FirstMSN))
		other := begin(h, e.dir("nothing")+"index.m3u8")
		if !before.held() || !multi.held() || !video.held() || !next.held() || !other.held() {
			t.Fatal("not held")
		}
		e.run(testGOP + 15)
		for _, p := range []*pending{before, multi} {
			if r := p.answer(t, 200, "public, max-age=3, stale-if-error=60"); !strings.Contains(r.body, "#EXT-X-STREAM-INF") {
				t.Errorf("%s", r.body)
			}
		}
		if r := video.answer(t, 200, "public, max-age=1"); !strings.Contains(r.body, "#EXTINF") {
			t.Errorf("%s", r.body)
		}
		<-next.done
		next.cancel()
		if next.reply.StatusCode != 200 {
			t.Errorf("%d", next.reply.StatusCode)
		}
		other.answer(t, 404, "public, max-age=1")
	})
}

func TestWarmUpInVain(t *testing.T) {
	for _, c := range []struct {
		long segmenter.LongGOP
		want time.Duration
	}{{segmenter.Stretch, 15 * time.Second}, {segmenter.CutGOP, 6 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			s := &Server{Origin: &segmenter.Origin{Config: func(string) segmenter.Config {
				return segmenter.Config{PartTarget: segmenter.DefaultPartTarget, LongGOP: c.long}
			}}}
			h := s.Handler()
			e := publish(t, s.Origin, "live/demo")
			none := begin(h, "/live/demo/index.m3u8")
			none.answer(t, 404, "private, no-store")
			if none.took != 15*time.Second {
				t.Errorf("no run: held for %v", none.took)
			}
			e.run(10)
			for _, target := range []string{"/live/demo/index.m3u8", e.dir("video") + "index.m3u8"} {
				p := begin(h, target)
				p.answer(t, 404, "private, no-store")
				if p.took != c.want {
					t.Errorf("%s: held for %v, want %v", target, p.took, c.want)
				}
			}
		})
	}
}

func TestTooManyHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLive(t)
		s.MaxBlocked, s.MaxBlockedStream = 3, 2
		h := s.Handler()
		query := "index.m3u8" + edgeQuery(e.video().Window(), 1)
		a, b := begin(h, e.dir("video")+query), begin(h, e.dir("video")+query)
		if !a.held() || !b.held() {
			t.Fatal("not held")
		}
		c := begin(h, e.dir("video")+query)
		if r := c.answer(t, 503, "private, no-store"); r.header("Retry-After") != "1" {
			t.Errorf("%v", r.Header)
		}
		begin(h, e.dir("audio")+"index.m3u8"+edgeQuery(e.audio().Window(), 2)).answer(t, 503, "private, no-store")
		publish(t, s.Origin, "live/early")
		d := begin(h, "/live/early/index.m3u8")
		if !d.held() {
			t.Fatal("another stream is refused")
		}
		begin(h, "/live/early/index.m3u8").answer(t, 503, "private, no-store")
		if r := call(t.Context(), h, "GET", e.dir("video")+"index.m3u8"); r.StatusCode != 200 {
			t.Errorf("a request that need not be held: %d", r.StatusCode)
		}
		for _, p := range []*pending{a, b, d} {
			p.cancel()
			<-p.done
		}
		if s.gate.now.Load() != 0 || s.gate.streams() != 0 || s.gate.refused.Load() != 3 {
			t.Errorf("%d held, %d refused", s.gate.now.Load(), s.gate.refused.Load())
		}
	})
}

// One stream gets half of the places and no more, for all its renditions and before it has any: what is held for it leaves room for
// others.
func TestHeldShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLive(t)
		s.MaxBlocked = 8
		h := s.Handler()
		publish(t, s.Origin, "live/early")
		publish(t, s.Origin, "live/earlier")
		var all []*pending
		hold := func(target string, n int) {
			t.Helper()
			for range n {
				p := begin(h, target)
				if !p.held() {
					t.Fatalf("%s: not held", target)
				}
				all = append(all, p)
			}
		}
		video := e.dir("video") + "index.m3u8" + edgeQuery(e.video().Window(), 1)
		audio := e.dir("audio") + "index.m3u8" + edgeQuery(e.audio().Window(), 2)
		hold(video, 2)
		hold(audio, 2)
		begin(h, video).answer(t, 503, "private, no-store")
		begin(h, audio).answer(t, 503, "private, no-store")
		hold("/live/early/index.m3u8", 3)
		p := begin(h, "/live/earlier/index.m3u8")
		if !p.held() {
			t.Fatal("another stream is refused")
		}
		for _, p := range append(all, p) {
			p.cancel()
			<-p.done
		}
		if s.gate.now.Load() != 0 || s.gate.streams() != 0 {
			t.Errorf("%d held", s.gate.now.Load())
		}
	})
}

// A run that ends before it can be played will never be: nobody waits for it.
func TestWarmUpEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Origin: &segmenter.Origin{}}
		h := s.Handler()
		e := publish(t, s.Origin, "live/demo").run(10)
		index := e.dir("video") + "index.m3u8"
		p := begin(h, index)
		if !p.held() {
			t.Fatal("not held")
		}
		s.Origin.End()
		for _, p := range []*pending{p, begin(h, index)} {
			if p.answer(t, 404, "private, no-store"); p.took != 0 {
				t.Errorf("held for %v", p.took)
			}
		}
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLive(t)
		h, ops := s.Handler(), s.OpsHandler()
		if r := call(t.Context(), ops, "GET", "/readyz"); r.StatusCode != 200 {
			t.Errorf("readyz: %d", r.StatusCode)
		}
		index := e.dir("video") + "index.m3u8"
		query := edgeQuery(e.video().Window(), 1)
		ctx, cancel := context.WithCancel(s.base) // as HTTPServer's BaseContext makes them
		p := beginIn(ctx, cancel, h, index+query)
		if !p.held() {
			t.Fatal("not held")
		}
		s.Drain()
		if r := p.answer(t, 503, "private, no-store"); r.header("Retry-After") != "1" {
			t.Errorf("%v", r.Header)
		}
		begin(h, index+query).answer(t, 503, "private, no-store")
		begin(h, index).answer(t, 200, "public, max-age=1")
		if r := call(t.Context(), ops, "GET", "/readyz"); r.StatusCode != 503 {
			t.Errorf("readyz: %d", r.StatusCode)
		}
		if r := call(t.Context(), ops, "GET", "/healthz"); r.StatusCode != 200 {
			t.Errorf("healthz: %d", r.StatusCode)
		}
	})
}

// Without parts: ordinary HLS, half a target duration of caching, and still blocking reload by segment.
func TestWithoutParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{Origin: &segmenter.Origin{Config: func(string) segmenter.Config {
			return segmenter.Config{TargetDuration: 6 * time.Second}
		}}}
		e := publish(t, s.Origin, "live/demo").run(12 * testGOP)
		h := s.Handler()
		index := e.dir("video") + "index.m3u8"
		r := call(t.Context(), h, "GET", index)
		if r.StatusCode != 200 || r.header("Cache-Control") != "public, max-age=3" {
			t.Errorf("%d %v\n%s", r.StatusCode, r.Header, r.body)
		}
		p := begin(h, index+fmt.Sprintf("?_HLS_msn=%d", e.video().Window().LastMSN()+1))
		if !p.held() {
			t.Fatal("not held")
		}
		e.segment()
		p.answer(t, 200, "public, max-age=36")
		// Of a playlist without parts a part is not to be had: what is meant is the segment.
		p = begin(h, index+fmt.Sprintf("?_HLS_msn=%d&_HLS_part=7", e.video().Window().LastMSN()+1))
		if !p.held() {
			t.Fatal("not held")
		}
		e.segment()
		p.answer(t, 200, "public, max-age=36")
	})
}

// Requests whose time is up within one tick share a timer, and nothing of it is kept.
func TestAlarms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a alarms
		began := time.Now()
		first := a.after(6 * time.Second)
		for range 1000 {
			if a.after(6*time.Second) != first {
				t.Fatal("another channel for the same time")
			}
		}
		other := a.after(9 * time.Second)
		<-first
		if d := time.Since(began); d < 6*time.Second || d > 6*time.Second+lateTick {
			t.Errorf("6 s took %v", d)
		}
		<-other
		if d := time.Since(began); d < 9*time.Second || d > 9*time.Second+lateTick {
			t.Errorf("9 s took %v", d)
		}
		if len(a.at) != 0 {
			t.Errorf("%d alarms are kept", len(a.at))
		}
	})
}

// Where it is set, a stream of which nothing has come in for one and a half target durations is another origin's: its playlists have
// 503, which edges fail over for and do not keep. Media stay, and when it comes in again so do the playlists.
func TestInputLoss(t *testing.T) {
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := &Server{Origin: &segmenter.Origin{Config: func(string) segmenter.Config {
				return segmenter.Config{PartTarget: segmenter.DefaultPartTarget, FailStarved: fails}
			}}}
			h := s.Handler()
			e := publish(t, s.Origin, "live/demo").run(4*testGOP + 25)
			lists := []string{"/live/demo/index.m3u8", "/live/demo/ts/index.m3u8", e.dir("video") + "index.m3u8", e.dir("video") + "iframes.m3u8", e.dir("video") + "ts/index.m3u8"}
			segment := e.dir("video") + "s" + strconv.FormatUint(e.video().Window().LastMSN(), 10) + ".m4s"
			ask := func(want int) {
				t.Helper()
				for _, at := range lists {
					if r := call(t.Context(), h, "GET", at); r.StatusCode != want || want == 503 && (r.header("Cache-Control") != "private, no-store" || r.header("Retry-After") == "") {
						t.Errorf("fails %v: %s: %s %s", fails, at, r.Status, r.header("Cache-Control"))
					}
				}
				if r := call(t.Context(), h, "GET", segment); r.StatusCode != 200 {
					t.Errorf("%s: %s", segment, r.Status)
				}
			}
			// What the encoder has sent ends so much later than now.
			time.Sleep(time.Until(time.Unix(0, e.arrived(float64(4*testGOP+24)/testFPS))) + 2900*time.Millisecond)
			ask(200)
			held := begin(h, lists[2]+edgeQuery(e.video().Window(), 1))
			if !held.held() {
				t.Fatal("not held")
			}
			time.Sleep(200 * time.Millisecond)
			want := 200
			if fails {
				want = 503
			}
			ask(want)
			s.Origin.Tick(time.Now()) // which makes a gap of it
			if <-held.done; held.reply.StatusCode != want {
				t.Errorf("fails %v: what was waited for: %s", fails, held.reply.Status)
			}
			e.run(e.frames + 3*testGOP)
			ask(200)
			e.end()
		})
	}
}
