package casetest

import (
	"cmp"
	"math"
	"testing"
	"time"

	"headwater/ingest/rtmp"
	"headwater/segmenter"
)

// A testCase is what an encoder does, and what comes of it.
type testCase struct {
	name string
	cfg  segmenter.Config
	idle time.Duration // how long the listener waits for a publisher that says nothing; 0: as it does by itself
	do   func(e *encoder)
	want want
}

// A want is what the checker, whose rules hold for all cases, is to find in one.
type want struct {
	runs   int        // 0: one
	discs  int        // discontinuities
	inits  int        // initialization sections of all renditions; 0: one for each
	gap    [2]float64 // s of the video that are gaps: at least, at most
	lost   [2]int     // frames of video and audio that do not come out, at most
	onGrid bool       // every audio frame lasts what the codec says
	skew   float64    // s between picture and sound at most; 0: a frame of either
	drops  [2]float64 // what the origin counts as dropped: at least, at most
	moved  [2]float64 // as given another time, by the segmenter, likewise
	raised [2]uint64  // and by the listener, as decode times have to rise
	target int        // target duration, s; 0: 2
	ended  bool       // the run has ended
	slews  bool       // dates follow the wall clock
	late   float64    // s that they are off then, at most; 0: 0.25
	holes  bool       // sound is missing, or comes late, inside a segment
	wraps  bool       // the clock of MPEG-TS begins again
	advice []string   // what the encoder's operator is told at the end; nil: it is not looked at
}

func TestCases(t *testing.T) {
	var names []string
	for _, c := range cases {
		names = append(names, c.name)
	}
	g := newGolden(t, "cases.txt", names)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := c.cfg
			if cfg.PartTarget == 0 {
				cfg.PartTarget = segmenter.DefaultPartTarget
			}
			h := newHarness(t, cfg, func(s *rtmp.Server) { s.IdleTimeout = c.idle })
			e := newEncoder(t, h)
			h.check.holes, h.check.slews = c.want.holes, c.want.slews
			c.do(e)
			h.verify(e, &c.want)
			if c.want.advice != nil {
				e.told(c.want.advice...)
				if got, want := h.told().LongGOP, cmp.Or(cfg.LongGOP, segmenter.Stretch); got != string(want) {
					t.Errorf("the policy is said to be %q, not %q", got, want)
				}
			}
			if !e.short {
				g.check(t, c.name, h)
			}
		})
	}
}

// verify reads all once more and compares what was found with what is wanted.
func (h *harness) verify(e *encoder, w *want) {
	t := h.t
	t.Helper()
	c := h.check
	c.finish()
	for _, p := range c.problems {
		t.Error(p)
	}
	got := c.total()
	if len(c.tracks) == 0 {
		t.Fatal("nothing came out")
	}
	if n := max(w.runs, 1); got.runs != n {
		t.Errorf("%d runs of %d", got.runs, n)
	}
	if got.discs != w.discs {
		t.Errorf("%d discontinuities of %d", got.discs, w.discs)
	}
	tracks := 2
	if e.noVideo || e.rate == 0 {
		tracks = 1
	}
	inits := w.inits
	if inits == 0 {
		inits = tracks * max(w.runs, 1)
	}
	if got.inits != inits {
		t.Errorf("%d initialization sections of %d", got.inits, inits)
	}
	if got.gap < w.gap[0]-0.001 || got.gap > w.gap[1]+0.001 {
		t.Errorf("gaps of %.3f s, not between %v and %v", got.gap, w.gap[0], w.gap[1])
	}
	for i, n := range got.got {
		// What has not been cut into a segment is not in one.
		tail := float64(2*got.targets[len(got.targets)-1]+1) * e.fps
		if i == 1 {
			tail *= float64(e.rate) / 1024 / e.fps
		}
		if e.sent[i]-n > w.lost[i]+int(tail) {
			t.Errorf("%d frames of %d of track %d have come out", n, e.sent[i], i)
		}
	}
	if w.onGrid && len(got.durations) > 1 {
		t.Errorf("audio frames last %v", got.durations)
	}
	skew := w.skew
	if skew == 0 {
		skew = 0.025
		if e.fps > 0 {
			skew = max(skew, 1/e.fps)
		}
	}
	for _, x := range c.tracks {
		if s := c.skew(x.run); s > skew {
			t.Errorf("sound and picture are %.3f s apart", s)
			break
		}
	}
	if n := h.metric("headwater_rendition_dropped_samples_total"); n < w.drops[0] || n > w.drops[1] {
		t.Errorf("%v samples dropped, not between %v and %v", n, w.drops[0], w.drops[1])
	}
	least := w.moved[0]
	if e.short {
		least = 0
	}
	if n := h.metric("headwater_rendition_adjusted_samples_total"); n < least || n > w.moved[1] {
		t.Errorf("%v samples moved, not between %v and %v", n, least, w.moved[1])
	}
	if n := h.server.Stats().Tags.Raised; n < w.raised[0] || n > w.raised[1] {
		t.Errorf("%d decode times raised, not between %d and %d", n, w.raised[0], w.raised[1])
	}
	target := w.target
	if target == 0 {
		target = 2
	}
	for _, n := range got.targets {
		if n != target {
			t.Errorf("target duration %d, not %d", n, target)
		}
	}
	if w.slews {
		for _, l := range got.latency {
			if math.Abs(l) > cmp.Or(w.late, 0.25) {
				t.Errorf("a date is off by %.3f s", l)
				break
			}
		}
	}
	if c.wraps > 0 != w.wraps {
		t.Errorf("the clock of MPEG-TS has begun again: %d", c.wraps)
	}
	if got.ended != w.ended {
		t.Errorf("ended: %v", got.ended)
	}
	if t.Failed() {
		t.Logf("sent %v, %+v", e.sent, got)
	}
}
