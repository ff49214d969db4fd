package web

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"headwater/playlist"
	"headwater/playlist/playlisttest"
	"headwater/segmenter"
)

// Of a span there is one path, so that caches keep one copy.
func TestParseSpan(t *testing.T) {
	for _, tt := range []struct {
		text string
		want span
		ok   bool
	}{
		{"-", span{}, true},
		{"1700000000123-", span{start: 1700000000123e6}, true},
		{"-1700000000123", span{end: 1700000000123e6}, true},
		{"1700000000123-1700000000124", span{start: 1700000000123e6, end: 1700000000124e6}, true},
		{"1700000000123_", span{start: 1700000000123e6, grows: true}, true},
		{"1700000000123_1700000000124", span{start: 1700000000123e6, end: 1700000000124e6, grows: true}, true},
		{"_", span{grows: true}, true},
		{"1_2-3", span{}, false},
		{"video_720", span{}, false},
		{"1700000000123-1700000000123", span{}, false},
		{"2-1", span{}, false},
		{"", span{}, false},
		{"1700000000123", span{}, false},
		{"01-2", span{}, false},
		{"0-2", span{}, false},
		{"+1-2", span{}, false},
		{"1-2-3", span{}, false},
		{"1--2", span{}, false},
		{"10000000000000-", span{}, false},
		{"9000000000000-", span{start: 9000000000000e6}, true},
		{"9000000000001-", span{}, false},
		{"9227000000000-", span{}, false}, // which would be 0 in 63 bits of nanoseconds
		{"video-1", span{}, false},
	} {
		got, ok := parseSpan(tt.text)
		if ok != tt.ok || ok && (got != tt.want || got.String() != tt.text) {
			t.Errorf("%q: %v %v", tt.text, got, ok)
		}
	}
}

func FuzzSpan(f *testing.F) {
	for _, s := range []string{"-", "_", "1_2", "1-", "-1", "1-2", "01-2", "99999999999999-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, ok := parseSpan(s); ok && got.String() != s {
			t.Errorf("%q is written %q", s, got)
		}
	})
}

func FuzzSpanQuery(f *testing.F) {
	for _, s := range []string{"start=-30m", "start=2026-01-31T20:15:00Z&end=1769890500.5", "end=1", "start=1&start=2"} {
		f.Add(s)
	}
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, q string) {
		s, asked, _, err := parseQuery(q, now)
		if err == nil && asked && (s.start < 0 || s.end < 0 || s.start == 0 && s.end == 0 || s.end > 0 && s.start >= s.end) {
			t.Errorf("%q: %v", q, s)
		}
	})
}

func TestParseTime(t *testing.T) {
	now := time.Unix(1_769_890_500, 0)
	for _, tt := range []struct {
		text     string
		want     int64 // Unix ms
		relative bool
	}{
		{"2026-01-31T20:15:00Z", 1769890500000, false},
		{"2026-01-31T21:15:00.250+01:00", 1769890500250, false},
		{"2026-01-31T21:15:00.250 01:00", 1769890500250, false}, // as it comes out of a query
		{"1769890500", 1769890500000, false},
		{"1769890500.5", 1769890500500, false},
		{"-30m", 1769890500000 - 30*60_000, true},
		{"-1.5s", 1769890498500, true},
	} {
		ns, relative, err := parseTime(tt.text, now)
		if err != nil || ns != tt.want*1e6 || relative != tt.relative {
			t.Errorf("%q: %d %v %v", tt.text, ns, relative, err)
		}
	}
	for _, text := range []string{"", "now", "30m", "-30", "-0s", "--30m", "-999999h", "2026-01-31", "2026-01-31T20:15:00", "0", "9000000000", "9999999999.5", "1e9", "17698905001", "1.0000000001", "1.x", "-1"} {
		if ns, _, err := parseTime(text, now); err != errTime {
			t.Errorf("%q: %d %v", text, ns, err)
		}
	}
}

// listed are the numbers of the segments in a Media Playlist.
func listed(t *testing.T, body string) (numbers []uint64) {
	t.Helper()
	for _, line := range strings.Split(body, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		name := line[strings.LastIndexByte(line, '/')+1:]
		n, ok := playlist.ParseName(name)
		if !ok || n.Kind != playlist.Segment {
			t.Fatalf("%q is no segment", line)
		}
		numbers = append(numbers, n.N)
	}
	return numbers
}

// newLong is a server of a stream of which minutes are kept, with the clock of the bubble.
func newLong(t *testing.T, segments int) (*Server, *encoder) {
	s := &Server{Origin: &segmenter.Origin{Config: func(string) segmenter.Config {
		return segmenter.Config{PartTarget: segmenter.DefaultPartTarget, WindowMin: 4 * time.Minute}
	}}}
	return s, publish(t, s.Origin, "live/demo").run(segments*testGOP + 25)
}

func (r *reply) location(t *testing.T) string {
	t.Helper()
	if r.StatusCode != http.StatusFound {
		t.Fatalf("%s: %s", r.Status, r.body)
	}
	return "/live/demo/" + r.header("Location")
}

// Who asks for the time from one segment to another is led to a playlist of those segments and no others, which names what everybody
// else's names and will never change.
func TestSpanWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLong(t, 30)
		h := s.Handler()
		segs := e.video().Window().Segments
		start, end := time.Unix(0, segs[5].Time+segs[5].Duration*1e9/90_000/2), time.Unix(0, segs[9].Time+1)
		r := call(t.Context(), h, "GET", "/live/demo/index.m3u8?start="+start.UTC().Format(time.RFC3339Nano)+"&CMCD=x&end="+end.UTC().Format(time.RFC3339Nano))
		if r.header("Cache-Control") != "public, max-age=1" || r.body != "" {
			t.Errorf("Cache-Control: %s; %q", r.header("Cache-Control"), r.body)
		}
		at := r.location(t)
		// Half a second later it is the same place.
		later := call(t.Context(), h, "GET", "/live/demo/index.m3u8?start="+start.Add(500*time.Millisecond).UTC().Format(time.RFC3339Nano)+"&end="+end.Add(time.Second).UTC().Format(time.RFC3339Nano))
		if to := later.location(t); to != at {
			t.Errorf("%s and %s", at, to)
		}
		mv := call(t.Context(), h, "GET", at)
		if mv.StatusCode != 200 || !strings.Contains(mv.body, "\nvideo/index.m3u8\n") {
			t.Fatalf("%s\n%s", mv.Status, mv.body)
		}
		dir := strings.TrimSuffix(at, "index.m3u8")
		for _, id := range []string{"video", "audio"} {
			r := call(t.Context(), h, "GET", dir+id+"/index.m3u8")
			got := listed(t, r.body)
			if len(got) != 5 || got[0] != segs[5].MSN || got[4] != segs[9].MSN {
				t.Errorf("%s: %v, want %d to %d", id, got, segs[5].MSN, segs[9].MSN)
			}
			for _, want := range []string{"#EXT-X-PLAYLIST-TYPE:VOD\n", "#EXT-X-ENDLIST\n", "../../" + id + "/s" + strconv.FormatUint(got[0], 10) + ".m4s\n"} {
				if !strings.Contains(r.body, want) {
					t.Errorf("%s lacks %q:\n%s", id, want, r.body)
				}
			}
			for _, not := range []string{"EXT-X-PART", "EXT-X-PRELOAD", "EXT-X-SERVER-CONTROL", "EXT-X-RENDITION-REPORT"} {
				if strings.Contains(r.body, not) {
					t.Errorf("%s has %s", id, not)
				}
			}
			// 4 minutes are listed, of which 50 s have gone by since the span's beginning when the first is asked for.
			want := map[string]string{"video": "public, max-age=190", "audio": "public, max-age=182"}[id]
			if age := r.header("Cache-Control"); age != want {
				t.Errorf("%s: Cache-Control: %s", id, age)
			}
			e.run(34*testGOP + 25)
			if again := call(t.Context(), h, "GET", dir+id+"/index.m3u8"); again.body != r.body || again.header("ETag") != r.header("ETag") {
				t.Errorf("%s has changed:\n%s", id, again.body)
			}
		}
		if r := call(t.Context(), h, "GET", dir+"video/iframes.m3u8"); r.StatusCode != 200 || !strings.Contains(r.body, "#EXT-X-I-FRAMES-ONLY") || len(listed(t, r.body)) != 5 {
			t.Errorf("I-frames: %s\n%s", r.Status, r.body)
		}
		e.end()
	})
}

// A span whose end is open, or to come, grows, and ends with its end.
func TestSpanGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLong(t, 12)
		h := s.Handler()
		segs := e.video().Window().Segments
		end := time.Unix(0, segs[11].Time).Add(5 * time.Second)
		open := call(t.Context(), h, "GET", "/live/demo/index.m3u8?start="+strconv.FormatInt(segs[8].Time/1e9+1, 10)).location(t)
		to := call(t.Context(), h, "GET", "/live/demo/index.m3u8?start="+strconv.FormatInt(segs[8].Time/1e9+1, 10)+"&end="+end.UTC().Format(time.RFC3339Nano)).location(t)
		if !strings.HasSuffix(open, "_/index.m3u8") {
			t.Errorf("%s", open)
		}
		for _, at := range []string{open, to} {
			at = strings.Replace(at, "index.m3u8", "video/index.m3u8", 1)
			r := call(t.Context(), h, "GET", at)
			if got := listed(t, r.body); len(got) != 4 || got[0] != segs[8].MSN || strings.Contains(r.body, "ENDLIST") || strings.Contains(r.body, "PLAYLIST-TYPE") || r.header("Cache-Control") != "public, max-age=1" {
				t.Errorf("%s: %v %s\n%s", at, got, r.header("Cache-Control"), r.body)
			}
		}
		e.run(22*testGOP + 25)
		if r := call(t.Context(), h, "GET", strings.Replace(open, "index.m3u8", "video/index.m3u8", 1)); len(listed(t, r.body)) != 14 || strings.Contains(r.body, "ENDLIST") {
			t.Errorf("open: %s", r.body)
		}
		if r := call(t.Context(), h, "GET", strings.Replace(to, "index.m3u8", "video/index.m3u8", 1)); len(listed(t, r.body)) != 6 || !strings.Contains(r.body, "ENDLIST") || strings.Contains(r.body, "VOD") {
			t.Errorf("to its end: %s", r.body)
		}
		e.end()
	})
}

// What grows begins where it was asked for, gives players that part of it alone that is new, as soon as it is there, and loses what
// the live playlist loses, so that nothing is listed that is about to go (RFC 8216bis 6.2.2, 6.2.5).
func TestSpanIsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLong(t, 60)
		h := s.Handler()
		segs := e.video().Window().Segments
		at := call(t.Context(), h, "GET", "/live/demo/index.m3u8?start="+strconv.FormatInt(segs[20].Time/1e9+1, 10)).location(t)
		for _, id := range []string{"video", "audio"} {
			index := strings.Replace(at, "index.m3u8", id+"/index.m3u8", 1)
			full := call(t.Context(), h, "GET", index)
			if !strings.Contains(full.body, "#EXT-X-START:TIME-OFFSET=0\n") || !strings.Contains(full.body, "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12\n") {
				t.Errorf("%s:\n%s", id, full.body)
			}
			playlisttest.Check(t, []byte(full.body))
			last := e.rendition(id).Window().LastMSN()
			held := begin(h, index+"?_HLS_msn="+strconv.FormatUint(last+1, 10)+"&_HLS_skip=YES")
			if !held.held() {
				t.Fatalf("%s: what is to come is not waited for", id)
			}
			e.run(e.frames + testGOP + 12)
			got := held.answer(t, 200, "public, max-age=12")
			if n := listed(t, got.body); n[len(n)-1] != last+1 || len(n) > 10 || !strings.Contains(got.body, "#EXT-X-SKIP:SKIPPED-SEGMENTS=") {
				t.Errorf("%s:\n%s", id, got.body)
			}
			playlisttest.Check(t, []byte(got.body))
			playlisttest.CheckSuccession(t, []byte(full.body), []byte(call(t.Context(), h, "GET", index).body))
			if got.header("Last-Modified") == "" {
				t.Errorf("%s has no Last-Modified", id)
			}
		}
		index := strings.Replace(at, "index.m3u8", "video/index.m3u8", 1)
		before := call(t.Context(), h, "GET", index)
		e.run(e.frames + 130*testGOP) // what it began with is not listed any more
		after := call(t.Context(), h, "GET", index)
		oldest := e.video().Window().Segments[0].MSN
		if n := listed(t, after.body); after.StatusCode != 200 || n[0] != oldest || oldest <= segs[20].MSN {
			t.Errorf("%s, listed from %v, live from %d", after.Status, n[:1], oldest)
		}
		playlisttest.CheckSuccession(t, []byte(before.body), []byte(after.body))
		e.end()
	})
}

// A playlist of a run that has ended is not kept by caches for longer than what it lists is there (RFC 8216bis 6.2.2).
func TestSpanOfEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLong(t, 30)
		h := s.Handler()
		segs := e.video().Window().Segments
		start := "/live/demo/index.m3u8?start=" + strconv.FormatInt(segs[20].Time/1e9+1, 10)
		var lists []string
		for _, end := range []string{"", "&end=" + strconv.FormatInt(segs[24].Time/1e9, 10)} {
			at := call(t.Context(), h, "GET", start+end).location(t)
			lists = append(lists, strings.Replace(at, "index.m3u8", "video/index.m3u8", 1), strings.Replace(at, "index.m3u8", "video/iframes.m3u8", 1))
		}
		e.end()
		segs = e.video().Window().Segments
		last := segs[len(segs)-1]
		gone := time.Unix(0, ends(last)).Add(2*time.Duration(ends(last)-segs[0].Time) + 2*time.Second)
		for left := time.Until(gone); left > 20*time.Second; left = time.Until(gone) {
			for _, list := range lists {
				r := call(t.Context(), h, "GET", list)
				age, err := strconv.Atoi(strings.TrimPrefix(r.header("Cache-Control"), "public, max-age="))
				if seconds := int(left / time.Second); r.StatusCode != 200 || err != nil || age > seconds || age < seconds-1 {
					t.Errorf("%s: %s, %s, and it is there for %v", list, r.Status, r.header("Cache-Control"), left)
				}
			}
			time.Sleep(45 * time.Second) // of the bubble's clock
		}
	})
}

// A span is to be had in MPEG-TS too.
func TestSpanTS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLong(t, 30)
		h := s.Handler()
		segs := e.video().Window().Segments
		start := "?start=" + strconv.FormatInt(segs[5].Time/1e9+1, 10)
		for query, whole := range map[string]bool{start: false, start + "&end=" + strconv.FormatInt(segs[9].Time/1e9, 10): true} {
			r := call(t.Context(), h, "GET", "/live/demo/ts/index.m3u8"+query)
			if r.StatusCode != http.StatusFound {
				t.Fatalf("%s: %s", query, r.Status)
			}
			at := "/live/demo/" + strings.TrimPrefix(r.header("Location"), "../")
			mv := call(t.Context(), h, "GET", at)
			if !strings.HasSuffix(at, "/ts/index.m3u8") || mv.StatusCode != 200 || !strings.Contains(mv.body, "\n../video/ts/index.m3u8\n") {
				t.Fatalf("%s: %s\n%s", at, mv.Status, mv.body)
			}
			list := call(t.Context(), h, "GET", strings.TrimSuffix(at, "ts/index.m3u8")+"video/ts/index.m3u8")
			if list.StatusCode != 200 || strings.Contains(list.body, "#EXT-X-PLAYLIST-TYPE:VOD\n") != whole || strings.Contains(list.body, "#EXT-X-ENDLIST\n") != whole ||
				!strings.Contains(list.body, "\n../../../video/ts/s"+strconv.FormatUint(segs[5].MSN, 10)+".ts\n") {
				t.Errorf("%s: %s\n%s", query, list.Status, list.body)
			}
			playlisttest.Check(t, []byte(list.body))
		}
		e.end()
	})
}

func TestSpanErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, e := newLong(t, 12)
		h := s.Handler()
		run, segs := e.video().Run.ID, e.video().Window().Segments
		at := func(i int) string { return strconv.FormatInt(segs[i].Time/1e6, 10) }
		for _, tt := range []struct {
			path   string
			status int
			cache  string
		}{
			{"index.m3u8?start=yesterday", 400, "private, no-store"},
			{"index.m3u8?start=-1m&end=-2m", 400, "private, no-store"},
			{"index.m3u8?start=-1m&start=-2m", 400, "private, no-store"},
			{"index.m3u8?end=1000", 404, "public, max-age=1"},         // before the beginning
			{"index.m3u8?start=4000000000", 404, "public, max-age=1"}, // nothing yet
			{"index.m3u8?restart=1&%zz", 200, "public, max-age=3, stale-if-error=60"},
			{run + "/" + at(3) + "-" + at(2) + "/index.m3u8", 404, "public, max-age=1"},
			{run + "/" + at(3) + "-" + at(3) + "/video/index.m3u8", 404, "public, max-age=1"},
			{run + "/" + at(3) + "-/video/s" + strconv.FormatUint(segs[4].MSN, 10) + ".m4s", 404, "public, max-age=1"}, // media have one path
			{run + "/" + at(3) + "-/other/index.m3u8", 404, "public, max-age=1"},
			{run + "/" + at(3) + "_/audio/iframes.m3u8", 404, "public, max-age=1"},
			{run + "/" + at(3) + "-/video/index.m3u8", 404, "private, no-store"}, // it is not whole yet
			{run + "/-/index.m3u8", 404, "private, no-store"},
			{run + "/" + at(3) + "_/video/index.m3u8?_HLS_part=1", 400, "private, no-store"},
			{"x/" + at(3) + "-/video/index.m3u8", 404, "public, max-age=1"},
			{run + "/4000000000000-/video/index.m3u8", 404, "private, no-store"}, // it may come
		} {
			r := call(t.Context(), h, "GET", "/live/demo/"+tt.path)
			if r.StatusCode != tt.status || r.header("Cache-Control") != tt.cache {
				t.Errorf("%s: %d %q, want %d %q", tt.path, r.StatusCode, r.header("Cache-Control"), tt.status, tt.cache)
			}
		}
		if r := call(t.Context(), h, "GET", "/live/other/index.m3u8?start=-1m"); r.StatusCode != 404 {
			t.Errorf("of no stream: %s", r.Status)
		}
		// What began earlier than anything that is still there would begin with something else every time.
		clip := run + "/" + at(1) + "-" + at(4) + "/video/index.m3u8"
		if r := call(t.Context(), h, "GET", "/live/demo/"+clip); r.StatusCode != 200 {
			t.Errorf("%s: %s", clip, r.Status)
		}
		e.run(300 * testGOP)
		if r := call(t.Context(), h, "GET", "/live/demo/"+clip); r.StatusCode != 404 {
			t.Errorf("%s: %s", clip, r.Status)
		}
		e.end()
	})
}

// However many ask for a span's playlist, it is made once, and not more than so many are kept.
func TestSpanCache(t *testing.T) {
	var c spanCache
	var asking sync.WaitGroup
	made := 0
	for range 50 {
		asking.Go(func() {
			c.get(spanKey{of: playlist.Range{First: 1}}, func() *playlist.Rendered { made++; return &playlist.Rendered{Body: []byte("x")} })
		})
	}
	asking.Wait()
	if made != 1 {
		t.Errorf("made %d times", made)
	}
	for i := range uint64(3 * maxSpans) {
		c.get(spanKey{of: playlist.Range{First: i}}, func() *playlist.Rendered { return nil })
		c.get(spanKey{of: playlist.Range{Last: i}}, func() *playlist.Rendered { return &playlist.Rendered{Body: make([]byte, 1000)} })
	}
	if len(c.list) != maxSpans || c.bytes != maxSpans*1000 {
		t.Errorf("%d playlists, %d bytes", len(c.list), c.bytes)
	}
	c.get(spanKey{skip: true}, func() *playlist.Rendered { return &playlist.Rendered{Body: make([]byte, maxSpanBytes)} })
	if len(c.list) != 1 || c.bytes != maxSpanBytes {
		t.Errorf("%d playlists, %d bytes", len(c.list), c.bytes)
	}
}
