package web

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"headwater/playlist"
	"headwater/segmenter"
)

// Playlists as they age, over sockets: see wire_test.go.

// A blocking reload is kept for longer than anybody asks for it when it answers just what was asked, and hardly at all when that
// has long passed (RFC 8216bis appendix B). Its URL is path and directives, in whatever order and spelling, and a directive without
// a value is not one that is absent.
func TestWireBlocking(t *testing.T) {
	s, e := newLive(t)
	e.run(12*testGOP + 25)
	for _, w := range wires(t, s) {
		index, win := e.dir("video")+"index.m3u8", e.video().Window()
		next := win.Open.MSN
		msn, part := fmt.Sprintf("_HLS_msn=%d", next), fmt.Sprintf("_HLS_part=%d", len(win.Open.Parts))
		var pending []<-chan *reply
		const forms = 5
		for _, q := range []string{msn + "&" + part, part + "&" + msn, strings.Replace(msn, "_", "%5f", 1) + "&x=y&" + part, "x&" + part + "&" + msn + "&_HLS_other=1", msn + "&" + part + "&_HLS_skip=no",
			msn + "&" + part + "&_HLS_skip=YES"} {
			pending = append(pending, w.later(t, index+"?"+q))
		}
		hint := w.later(t, e.dir("video")+playlist.PartName(win.NextPart))
		bytes := w.later(t, e.dir("video")+playlist.PartName(win.NextPart), "Range: bytes=5-9")
		awaitHeld(t, s, int64(len(pending)+2))
		e.part()
		first := <-pending[0]
		w.check(t, "blocking", first, 200, "public, max-age=12")
		for i, p := range pending[1:] {
			r := <-p
			w.check(t, "blocking", r, 200, "public, max-age=12")
			switch same := r.body == first.body && sameHeaders(r, first); {
			case i+1 < forms && !same:
				t.Errorf("%s: form %d: %v, the first %v", w.name, i+1, r.Header, first.Header)
			case i+1 == forms && (same || !strings.Contains(r.body, "#EXT-X-SKIP:")):
				t.Errorf("%s: a delta update:\n%s", w.name, r.body)
			}
		}
		r := <-hint
		w.check(t, "hinted part", r, 200, "public, max-age=31536000, immutable")
		if some := <-bytes; some.StatusCode != 206 || some.body != r.body[5:10] {
			t.Errorf("%s: range of a hinted part: %d, %q", w.name, some.StatusCode, some.body)
		}
		// Whoever comes later gets the same, for as long as nothing new is there; then it is the past.
		again := w.ask(t, "GET", index+"?"+msn+"&"+part)
		if again.body != first.body || !sameHeaders(again, first) {
			t.Errorf("%s: later: %v, the first %v", w.name, again.Header, first.Header)
		}
		e.part()
		for _, q := range []string{"", "?" + msn + "&" + part, "?_HLS_msn=0", fmt.Sprintf("?_HLS_msn=%d&_HLS_part=99", next-1), "?_HLS_skip=YES"} {
			w.check(t, "the past "+q, w.ask(t, "GET", index+q), 200, "public, max-age=1")
		}
	}
}

// Without parts a playlist is kept for half a target duration.
func TestWireOrdinary(t *testing.T) {
	s := &Server{Origin: &segmenter.Origin{Config: func(string) segmenter.Config {
		return segmenter.Config{TargetDuration: 6 * time.Second}
	}}}
	e := publish(t, s.Origin, "live/demo").run(12 * testGOP)
	for _, w := range wires(t, s) {
		for _, path := range []string{e.dir("video") + "index.m3u8", e.dir("video") + "iframes.m3u8", e.dir("video") + "ts/index.m3u8"} {
			w.check(t, path, w.ask(t, "GET", path), 200, "public, max-age=3")
		}
		held := w.later(t, e.dir("video")+fmt.Sprintf("index.m3u8?_HLS_msn=%d", e.video().Window().LastMSN()+1))
		awaitHeld(t, s, 1)
		e.segment()
		w.check(t, "blocking", <-held, 200, "public, max-age=36")
	}
}

// A stream that nobody publishes is asked for again soon; one that is starting is waited for; one that does not come is said to be
// not there, and nobody keeps that.
func TestWireStart(t *testing.T) {
	s := &Server{Origin: &segmenter.Origin{}}
	for i, w := range wires(t, s) {
		name := fmt.Sprintf("live/%d", i)
		index := "/" + name + "/index.m3u8"
		w.check(t, "unknown", w.ask(t, "GET", index), 404, "public, max-age=1")
		e := publish(t, s.Origin, name)
		held := w.later(t, index)
		awaitHeld(t, s, 1)
		e.run(10)
		media := w.later(t, e.dir("video")+"index.m3u8")
		awaitHeld(t, s, 2)
		e.run(2*testGOP + 5)
		w.check(t, "multivariant", <-held, 200, "public, max-age=3, stale-if-error=60")
		w.check(t, "media", <-media, 200, "public, max-age=1")
	}
	s = &Server{Origin: &segmenter.Origin{}, WarmUp: 50 * time.Millisecond}
	publish(t, s.Origin, "live/demo")
	for _, w := range wires(t, s) {
		w.check(t, "in vain", w.ask(t, "GET", "/live/demo/index.m3u8"), 404, "private, no-store")
	}
}

// A request is held for three target durations and no longer (RFC 8216bis 6.2.5.2). Players try again what ends in 503, and give up
// on 404. A body that does not come is not waited for either.
func TestWireHeldTooLong(t *testing.T) {
	t.Parallel()
	s := &Server{Origin: &segmenter.Origin{Config: func(string) segmenter.Config {
		return segmenter.Config{TargetDuration: time.Second, PartTarget: segmenter.DefaultPartTarget, LongGOP: segmenter.CutGOP}
	}}}
	e := publish(t, s.Origin, "live/demo").run(6*testGOP + 25)
	var all []<-chan *reply
	ws := wires(t, s)
	began := time.Now()
	for i := range ws {
		win := e.video().Window()
		all = append(all, ws[i].later(t, e.dir("video")+"index.m3u8"+edgeQuery(win, 1)), ws[i].later(t, e.dir("video")+playlist.PartName(win.NextPart)))
	}
	late := make(chan *reply, 1)
	go func() {
		list, err := raw(t, ws[0].base, "GET /live/demo/index.m3u8 HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc", "GET")
		if len(list) != 1 || err != io.EOF {
			t.Errorf("%d replies, %v", len(list), err)
			list = []*reply{{&http.Response{Header: http.Header{}}, ""}}
		}
		late <- list[0]
	}()
	for i, c := range all {
		r := <-c
		ws[i/2].check(t, "held", r, 503, "private, no-store")
		if d := time.Since(began); d < 2900*time.Millisecond || d > 7*time.Second {
			t.Errorf("held for %v", d)
		}
	}
	r := <-late
	if r.StatusCode != 408 || r.header("Cache-Control") != "private, no-store" || !r.Close || r.header("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
}

// A hint that will not come true is told at once, and nobody keeps that; and what has ended has ended for good, whatever is asked
// for (RFC 8216bis 6.2.6, 6.2.5).
func TestWireEnd(t *testing.T) {
	s, e := newLive(t)
	ws := wires(t, s)
	for _, p := range []string{"index.m3u8", "iframes.m3u8", "ts/index.m3u8"} {
		ws[0].check(t, p, ws[0].ask(t, "GET", e.dir("video")+p), 200, "public, max-age=1")
	}
	e.part() // and nothing of the next one has come
	hint := e.video().Window().NextPart
	var hints, waiting []<-chan *reply
	for i := range ws {
		hints = append(hints, ws[i].later(t, e.dir("video")+playlist.PartName(hint)))
	}
	awaitHeld(t, s, 2)
	if err := e.pub.Close(io.ErrUnexpectedEOF); err != nil {
		t.Fatal(err)
	}
	for i, c := range hints {
		ws[i].check(t, "abandoned hint", <-c, 404, "private, no-store")
	}
	win := e.video().Window()
	for i := range ws {
		w := &ws[i]
		w.check(t, "abandoned hint", w.ask(t, "GET", e.dir("video")+playlist.PartName(hint)), 404, "private, no-store")
		waiting = append(waiting, w.later(t, e.dir("video")+fmt.Sprintf("index.m3u8?_HLS_msn=%d", win.LastMSN()+2)))
	}
	awaitHeld(t, s, 2)
	now := time.Now()
	s.Origin.Tick(now)
	s.Origin.Tick(now.Add(2 * time.Minute)) // the grace is over
	var ended *reply
	for i, c := range waiting {
		r := <-c
		ws[i].check(t, "the end", r, 200, "public, max-age=3600")
		if !strings.HasSuffix(r.body, "#EXT-X-ENDLIST\n") || ended != nil && (r.body != ended.body || !sameHeaders(r, ended)) {
			t.Errorf("%v\n%s", r.Header, r.body)
		}
		ended = r
	}
	for i := range ws {
		w := &ws[i]
		for _, q := range []string{"", "?_HLS_msn=99999999999&_HLS_part=3", "?_HLS_skip=YES", "?_HLS_msn=x", "?_HLS_part=1", "?_HLS_msn=1&_HLS_msn=2"} {
			r := w.ask(t, "GET", e.dir("video")+"index.m3u8"+q)
			w.check(t, "ended "+q, r, 200, "public, max-age=3600")
			if r.body != ended.body || !sameHeaders(r, ended) {
				t.Errorf("%s %s: %v", w.name, q, r.Header)
			}
		}
		for _, p := range []string{"iframes.m3u8", "ts/index.m3u8"} {
			r := w.ask(t, "GET", e.dir("video")+p)
			w.check(t, p, r, 200, "public, max-age=3600")
			if !strings.HasSuffix(r.body, "#EXT-X-ENDLIST\n") {
				t.Errorf("%s\n%s", p, r.body)
			}
		}
		w.check(t, "abandoned hint", w.ask(t, "GET", e.dir("video")+playlist.PartName(hint)), 404, "private, no-store")
		if r := w.ask(t, "GET", "/live/demo/index.m3u8"); r.StatusCode != 200 || strings.Contains(r.body, "ENDLIST") {
			t.Errorf("%s: multivariant: %d", w.name, r.StatusCode)
		}
	}
}

// What is said of media does not change while the stream goes on, not even its date of change: an edge that asks again is told
// that it has it (RFC 9110 8.8.2). Playlists are never served stale on purpose: only the multivariant one, on which nothing
// depends from second to second, may be where the origin fails (RFC 5861).
func TestWireForGood(t *testing.T) {
	s, e := newLive(t)
	ws := wires(t, s)
	objects := append(e.objects(), e.plainObjects()...)
	before := map[string]*reply{}
	for _, o := range objects {
		r := ws[0].ask(t, "GET", o.path)
		before[o.path] = r
		cache := r.header("Cache-Control")
		if strings.Contains(cache, "stale-while-revalidate") || strings.Contains(cache, "stale-if-error") != (o.class == "multivariant") || r.header("Expires") != "" {
			t.Errorf("%s: %v", o.path, r.Header)
		}
		// Every media playlist that has segments says when they were (RFC 8216bis appendix B.1).
		if o.class == "playlist" && !strings.Contains(r.body, "#EXT-X-PROGRAM-DATE-TIME:") {
			t.Errorf("%s:\n%s", o.path, r.body)
		}
	}
	e.run(e.frames + 3*testGOP)
	for i := range ws {
		w := &ws[i]
		for _, o := range objects {
			if !o.ranges {
				continue
			}
			was := before[o.path]
			if r := w.ask(t, "GET", o.path); r.body != was.body || !sameHeaders(r, was) {
				t.Errorf("%s %s: %v, before %v", w.name, o.path, r.Header, was.Header)
			}
			if r := w.ask(t, "GET", o.path, "If-None-Match: "+was.header("Etag"), "If-Modified-Since: "+was.header("Last-Modified")); r.StatusCode != 304 {
				t.Errorf("%s %s: %d", w.name, o.path, r.StatusCode)
			}
		}
		r := w.ask(t, "GET", e.dir("video")+"index.m3u8?_HLS_skip=YES")
		if !strings.Contains(r.body, "#EXT-X-PROGRAM-DATE-TIME:") {
			t.Errorf("%s: delta update without a date:\n%s", w.name, r.body)
		}
	}
}
