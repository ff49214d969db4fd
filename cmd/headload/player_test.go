package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A fakeOrigin is a low-latency stream on fake time: a part each half second, four to a segment, eight segments listed.
// Its faults are what a player must notice.
type fakeOrigin struct {
	begin time.Time
	fault string
	after time.Duration // from when on the fault shows
}

const (
	fakePart     = 500 * time.Millisecond
	fakePerSeg   = 4
	fakeFirstMSN = 1000
)

func (o *fakeOrigin) faulty(name string) bool {
	return o.fault == name && time.Since(o.begin) > o.after
}

// parts is how many parts exist.
func (o *fakeOrigin) parts() int { return int(time.Since(o.begin) / fakePart) }

func (o *fakeOrigin) waitFor(ctx context.Context, parts int) error {
	if o.faulty("stall") { // for five seconds
		sleep(ctx, time.Until(o.begin.Add(o.after+5*time.Second)))
	}
	sleep(ctx, time.Until(o.begin.Add(time.Duration(parts)*fakePart)))
	return ctx.Err()
}

func (o *fakeOrigin) RoundTrip(req *http.Request) (*http.Response, error) {
	reply := func(code int, body string) (*http.Response, error) {
		return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
	}
	path, q := req.URL.Path, req.URL.Query()
	switch {
	case path == "/live/a/index.m3u8":
		if time.Since(o.begin) < 0 {
			return reply(404, "")
		}
		return reply(200, "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",URI=\"r/audio.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO=\"a\"\nr/video.m3u8\n")
	case strings.HasSuffix(path, ".m3u8"):
		if q.Has("_HLS_msn") && !o.faulty("early answer") {
			var msn, part int
			fmt.Sscan(q.Get("_HLS_msn"), &msn)
			fmt.Sscan(q.Get("_HLS_part"), &part)
			if err := o.waitFor(req.Context(), (msn-fakeFirstMSN)*fakePerSeg+part+1); err != nil {
				return nil, err
			}
		}
		return reply(200, o.playlist())
	case strings.HasPrefix(path, "/live/a/r/p"):
		var n int
		fmt.Sscanf(path, "/live/a/r/p%d", &n)
		if o.faulty("part 404") && n%10 == 0 {
			return reply(404, "")
		}
		if err := o.waitFor(req.Context(), n+1); err != nil {
			return nil, err
		}
		return reply(200, "media")
	case strings.HasPrefix(path, "/live/a/r/s"), path == "/live/a/r/init.mp4":
		if o.faulty("empty") {
			return reply(200, "")
		}
		return reply(200, "media")
	}
	return reply(404, "")
}

func (o *fakeOrigin) playlist() string {
	total := o.parts()
	first := max(0, total/fakePerSeg-8)
	msn := fakeFirstMSN + first
	if o.faulty("sequence back") {
		msn -= 3
	}
	var b strings.Builder
	fmt.Fprintf(&b, "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5\n#EXT-X-PART-INF:PART-TARGET=0.5\n"+
		"#EXT-X-MEDIA-SEQUENCE:%d\n#EXT-X-MAP:URI=\"init.mp4\"\n", msn)
	for i := first * fakePerSeg; i < total; i++ {
		if i%fakePerSeg == 0 {
			b.WriteString("#EXT-X-PROGRAM-DATE-TIME:" + o.begin.Add(time.Duration(i)*fakePart).UTC().Format("2006-01-02T15:04:05.000Z") + "\n")
		}
		if i >= total-12 && !(o.faulty("lost part") && i%fakePerSeg == 1) {
			fmt.Fprintf(&b, "#EXT-X-PART:DURATION=0.5,URI=\"p%d\"\n", i)
		}
		if i%fakePerSeg == fakePerSeg-1 {
			d := "2"
			if o.faulty("segment changed") {
				d = "1.9"
			}
			fmt.Fprintf(&b, "#EXTINF:%s,\ns%d\n", d, i/fakePerSeg)
		}
	}
	hint := total
	if o.faulty("abandoned hint") {
		hint += 1000
	}
	fmt.Fprintf(&b, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p%d\"\n", hint)
	return b.String()
}

// playFake plays a fake origin for a minute, from 20 s after its start.
func playFake(t *testing.T, fault string, lowLatency bool) *playStats {
	stats := newPlayStats()
	synctest.Test(t, func(t *testing.T) {
		o := &fakeOrigin{begin: time.Now(), fault: fault, after: 40 * time.Second}
		time.Sleep(20 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		u, _ := url.Parse("http://127.0.0.1/live/a/index.m3u8")
		f := &fetcher{client: &http.Client{Transport: o}, timeout: 20 * time.Second, stats: stats}
		playOne(ctx, f, u, 0, lowLatency)
	})
	return stats
}

func TestPlayer(t *testing.T) {
	s := playFake(t, "", true)
	if len(s.errors)+len(s.violations)+s.stalls > 0 {
		t.Fatalf("errors %v, violations %v %v, stalls %d", s.errors, s.violations, s.examples, s.stalls)
	}
	// Two renditions, three parts to begin with, then two a second.
	if s.parts < 2*(3+118) || s.parts > 2*(3+120) || s.segments != 0 {
		t.Errorf("%d parts and %d segments", s.parts, s.segments)
	}
	// At most: two playlists a second and as many parts, and the few of the beginning.
	if s.requests > 2*2*120+20 {
		t.Errorf("%d requests for %d parts", s.requests, s.parts)
	}
	if late := s.latency.quantile(0.9); late > time.Millisecond {
		t.Errorf("latency %v", late)
	}
}

func TestPlayerOfSegments(t *testing.T) {
	s := playFake(t, "", false)
	if len(s.errors)+len(s.violations)+s.stalls > 0 {
		t.Fatalf("errors %v, violations %v %v, stalls %d", s.errors, s.violations, s.examples, s.stalls)
	}
	if s.parts != 0 || s.segments < 2*31 || s.segments > 2*34 {
		t.Errorf("%d parts and %d segments", s.parts, s.segments)
	}
}

func TestPlayerNotices(t *testing.T) {
	for _, tt := range []struct {
		fault, violation, failure string
		ordinary                  bool
	}{
		{fault: "sequence back", violation: "media sequence went back"},
		{fault: "segment changed", violation: "listed segment changed"},
		{fault: "early answer", violation: "blocking reload answered too early"},
		{fault: "abandoned hint", violation: "abandoned hint"},
		{fault: "lost part", violation: "parts do not add up to their segment"},
		{fault: "part 404", failure: "status 404 Not Found"},
		{fault: "empty", failure: "200 with an empty body", ordinary: true},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			s := playFake(t, tt.fault, !tt.ordinary)
			if tt.violation != "" && s.violations[tt.violation] == 0 {
				t.Errorf("not noticed; violations %v", s.violations)
			}
			if tt.failure != "" && s.errors[tt.failure] == 0 {
				t.Errorf("not noticed; errors %v", s.errors)
			}
		})
	}
	t.Run("stall", func(t *testing.T) {
		s := playFake(t, "stall", true)
		if s.stalls == 0 || s.stalled < 2*time.Second || s.stalled > 12*time.Second {
			t.Errorf("%d stalls, %v", s.stalls, s.stalled)
		}
	})
}

// A stream that appears late is no error while it may, and one that never does is said to be missing.
func TestPlayerWaits(t *testing.T) {
	for _, tt := range []struct {
		wait   time.Duration
		errors bool
	}{{10 * time.Second, false}, {time.Second, true}} {
		synctest.Test(t, func(t *testing.T) {
			o := &fakeOrigin{begin: time.Now().Add(4 * time.Second)}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			u, _ := url.Parse("http://127.0.0.1/live/a/index.m3u8")
			stats := newPlayStats()
			playOne(ctx, &fetcher{client: &http.Client{Transport: o}, timeout: time.Minute, stats: stats}, u, tt.wait, true)
			if got := len(stats.errors) > 0; got != tt.errors || stats.playing != 2 {
				t.Errorf("wait %v: errors %v, %d playing", tt.wait, stats.errors, stats.playing)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		u, _ := url.Parse("http://127.0.0.1/live/other/")
		stats := newPlayStats()
		playOne(ctx, &fetcher{client: &http.Client{Transport: &fakeOrigin{}}, timeout: time.Minute, stats: stats}, u, 0, true)
		if stats.neverStarted != 1 {
			t.Errorf("never started: %d", stats.neverStarted)
		}
	})
}

func TestPlayhead(t *testing.T) {
	now := time.Unix(1000, 0)
	var h playhead
	for i, step := range []struct{ wait, media, stall time.Duration }{
		{0, time.Second, 0},
		{500 * time.Millisecond, time.Second, 0},                       // 1.5 s ahead
		{1510 * time.Millisecond, time.Second, 0},                      // dry for 10 ms: slack
		{1500 * time.Millisecond, time.Second, 500 * time.Millisecond}, // dry for 500 ms
		{999 * time.Millisecond, time.Second, 0},
	} {
		now = now.Add(step.wait)
		if got := h.fetched(now, step.media); got != step.stall {
			t.Errorf("step %d: stalled %v, want %v", i, got, step.stall)
		}
	}
	h.seek()
	if got := h.fetched(now.Add(time.Hour), time.Second); got != 0 {
		t.Errorf("a seek counts as a stall of %v", got)
	}
}

func TestFrameTimes(t *testing.T) {
	c := testConfig
	c.FPS = rate{30000, 1001}
	s, err := newStream(mustSynthesize(t, c), 4096, false)
	if err != nil {
		t.Fatal(err)
	}
	f := newFrameTimes(s, time.Minute)
	for _, n := range []int{0, 1, 9, f.perRound() - 1, f.perRound(), 3*f.perRound() + 17} {
		// Playlists round durations; the frame that ends at the end of frame n is frame n.
		end := c.FPS.at(n + 1)
		for _, off := range []time.Duration{-2 * time.Millisecond, 0, 2 * time.Millisecond} {
			if got := f.last(end + off); got != n {
				t.Errorf("frame that ends at %v%+v is %d, want %d", end, off, got, n)
			}
		}
	}
	at := time.Unix(5, 6)
	f.wrote(3, at)
	f.wrote(1<<40, at)
	if !f.at(3).Equal(at) || !f.at(4).IsZero() || !f.at(-1).IsZero() || !f.at(1<<40).IsZero() {
		t.Error("times of frames are mixed up")
	}
}
