package casetest

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"headwater/segmenter"
)

// A ladder is several encoders of one camera, each with a connection of its own, whose key frames are of the same frames.
type ladder struct {
	h     *harness
	rungs []*encoder
	on    map[*encoder]bool // it sends
}

// step is how much each encoder sends before the next one does.
const step = 0.1

func newLadder(t testing.TB, h *harness) *ladder {
	l := &ladder{h: h, on: map[*encoder]bool{}}
	for _, height := range []int{1080, 720, 360} {
		e := newEncoder(t, h)
		e.rung, e.pic = fmt.Sprintf("%dp", height), picture{width: height * 16 / 9, height: height}
		e.vbase, e.abase = hour, hour
		l.rungs = append(l.rungs, e)
	}
	return l
}

// connect begins to publish some rungs, with a key frame and then at those of the camera.
func (l *ladder) connect(rungs ...*encoder) *ladder {
	for _, e := range rungs {
		e.connect()
		first := int(math.Round(e.pos * e.fps))
		e.frames = first
		e.keyAt = func(n int) bool { return n == first || n%e.gop == 0 }
		e.apos = math.Ceil(e.pos*float64(e.rate)/1024-1e-6) * 1024 / float64(e.rate)
		l.on[e] = true
	}
	return l
}

// run lets d seconds go by, in which whoever is connected sends.
func (l *ladder) run(d float64) *ladder {
	for range int(math.Round(d / step)) {
		for _, e := range l.rungs {
			if l.on[e] {
				e.run(step)
			} else {
				e.pos += step
			}
		}
		l.h.wait(l.rungs[0].wall(l.rungs[0].pos))
	}
	return l
}

// lose ends the connections of some rungs somehow.
func (l *ladder) lose(how func(*encoder), rungs ...*encoder) *ladder {
	for _, e := range rungs {
		how(e)
		delete(l.on, e)
	}
	return l
}

// gone returns a script in which some rungs are lost and are back after so many seconds, perhaps with timestamps that begin at 0.
func gone(lose func(*encoder), which func(l *ladder) []*encoder, away float64, restart bool) func(*ladder) {
	return func(l *ladder) {
		l.connect(l.rungs...).run(13)
		rungs := which(l)
		l.lose(lose, rungs...).run(away)
		for _, e := range rungs {
			if restart {
				e.restart()
			}
		}
		l.connect(rungs...).run(20)
	}
}

func leading(l *ladder) []*encoder { return l.rungs[:1] }
func last(l *ladder) []*encoder    { return l.rungs[2:] }
func every(l *ladder) []*encoder   { return l.rungs }

// A ladderCase is what happens to a ladder, and what comes of it.
type ladderCase struct {
	name string
	do   func(*ladder)
	want ladderWant
}

// A ladderWant is what the checker is to find in the renditions: the rungs', and last the sound.
type ladderWant struct {
	runs  int // 0: one
	discs int
	gap   [4][2]float64 // s, at least and at most
	short [4]int        // segments whose media ends before they do, which nothing in the playlist tells
}

// one returns what is wanted when a single rung is away, and returns for as long as its gaps last at least and at most. The leader
// takes the rest of its segment's sound with it.
func one(i int, least, most float64) (w ladderWant) {
	w.gap[i] = [2]float64{least, most}
	w.short[i], w.short[3] = 1, b2i(i == 0)
	return w
}

// all returns what is wanted when all rungs are away; those that follow may take longer to be back, as long as it takes to know
// their times without a base that they share with the leader's.
func all(least, most, following float64) (w ladderWant) {
	w.discs = 1
	for i := range w.gap {
		w.gap[i] = [2]float64{least, most}
	}
	w.gap[1][1], w.gap[2][1] = following, following
	return w
}

var ladderCases = []ladderCase{
	{name: "plain", do: func(l *ladder) { l.connect(l.rungs...).run(30) }},

	{name: "all reset, back in 1 s", do: gone(reset, every, 1, false), want: all(0, 0, 0)},
	{name: "all reset, back in 1 s from 0", do: gone(reset, every, 1, true), want: all(0, 0, 8)},
	{name: "all reset, back in 10 s", do: gone(reset, every, 10, false), want: all(8, 10, 10)},
	{name: "all reset, back in 10 s from 0", do: gone(reset, every, 10, true), want: all(8, 10, 18)},
	{name: "all reset, back in 60 s", do: gone(reset, every, 60, false), want: all(58, 60, 60)},
	{name: "all reset, back in 60 s from 0", do: gone(reset, every, 60, true), want: all(58, 60, 68)},
	{name: "all unpublished, back in 60 s", do: gone(unpublish, every, 60, true), want: func() ladderWant {
		w := all(0, 12, 12)
		w.runs, w.discs = 2, 0
		return w
	}()},
	{name: "all half open, back in 10 s", do: gone(mute, every, 10, false), want: all(8, 10, 10)},

	{name: "one reset, back in 1 s", do: gone(reset, last, 1, false), want: one(2, 0, 2)},
	{name: "one reset, back in 10 s", do: gone(reset, last, 10, false), want: one(2, 8, 12)},
	{name: "one reset, back in 10 s from 0", do: gone(reset, last, 10, true), want: one(2, 8, 20)},
	{name: "one reset, back in 60 s", do: gone(reset, last, 60, false), want: one(2, 58, 62)},
	{name: "one reset, back in 60 s from 0", do: gone(reset, last, 60, true), want: one(2, 58, 70)},
	{name: "one unpublished, back in 10 s", do: gone(unpublish, last, 10, false), want: one(2, 8, 12)},
	{name: "one half open, back in 10 s", do: gone(mute, last, 10, false), want: one(2, 8, 12)},

	{name: "the leader reset, back in 1 s", do: gone(reset, leading, 1, false), want: one(0, 0, 4)},
	{name: "the leader reset, back in 10 s", do: gone(reset, leading, 10, false), want: one(0, 8, 12)},
	{name: "the leader reset, back in 10 s from 0", do: gone(reset, leading, 10, true), want: one(0, 8, 20)},
	{name: "the leader reset, back in 60 s", do: gone(reset, leading, 60, false), want: one(0, 58, 62)},
	{name: "the leader reset, back in 60 s from 0", do: gone(reset, leading, 60, true), want: one(0, 58, 70)},
	{name: "the leader unpublished, back in 10 s", do: gone(unpublish, leading, 10, false), want: one(0, 8, 12)},
	// The sound is the silent leader's until another one that has the same notices, which looks once a segment.
	{name: "the leader half open, back in 10 s", do: gone(mute, leading, 10, false), want: func() ladderWant {
		w := one(0, 8, 12)
		w.gap[3] = [2]float64{0, 4}
		return w
	}()},
}

// A ladder is one presentation, whichever of its encoders come and go.
func TestLadderCases(t *testing.T) {
	var names []string
	for _, c := range ladderCases {
		names = append(names, c.name)
	}
	g := newGolden(t, "ladder.txt", names)
	for _, c := range ladderCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, segmenter.Config{PartTarget: segmenter.DefaultPartTarget})
			h.check.lossy = true
			l := newLadder(t, h)
			c.do(l)
			l.verify(t, &c.want)
			g.check(t, c.name, h)
		})
	}
}

// An encoder whose key frames are not those of the others is not in the ladder, which goes on without it. Its operator is told, and so
// are metrics.
func TestLadderKeptOut(t *testing.T) {
	t.Parallel()
	h := newHarness(t, segmenter.Config{PartTarget: segmenter.DefaultPartTarget})
	h.check.lossy = true
	l := newLadder(t, h)
	l.rungs[1].gop = 47
	l.connect(l.rungs...).run(40)
	h.check.finish()
	for _, p := range h.check.problems {
		t.Error(p)
	}
	for i, e := range l.rungs {
		in := float64(b2i(i != 1))
		if got := h.metric(`headwater_input_in_ladder{rendition="` + e.rung + `",role="primary",stream="live/` + h.name + `"}`); got != in {
			t.Errorf("%s is in the ladder: %v, want %v", e.rung, got, in)
		}
	}
	const want = "720p: its key frames, every 1.57 s, do not come when those of the ladder do: " +
		"let all encoders place key frames at the same times of the source"
	if got := h.told().Advice; !slices.Contains(got, want) {
		t.Errorf("the advice is %q", got)
	}
}

func (l *ladder) verify(t *testing.T, w *ladderWant) {
	t.Helper()
	c := l.h.check
	c.finish()
	for _, p := range c.problems {
		t.Error(p)
	}
	runs := map[string]bool{}
	for _, x := range c.tracks {
		runs[x.run] = true
		var gap float64
		discs := 0
		for _, g := range x.segments {
			gap += b2f(g.Gap) * g.dur
			discs += b2i(g.Discontinuity)
		}
		if discs != w.discs {
			t.Errorf("%s has %d discontinuities, not %d", x.id, discs, w.discs)
		}
		i := slices.IndexFunc(l.rungs, func(e *encoder) bool { return strings.HasSuffix(x.id, e.rung) })
		if i < 0 {
			i = len(l.rungs)
		}
		if want := w.gap[i]; gap < want[0]-0.001 || gap > want[1]+0.001 {
			t.Errorf("%s has gaps of %.3f s, not between %v and %v", x.id, gap, want[0], want[1])
		}
		if x.short > w.short[i] {
			t.Errorf("the media of %d segments of %s ends before they do, not %d", x.short, x.id, w.short[i])
		}
	}
	if n := max(w.runs, 1); len(runs) != n {
		t.Errorf("%d runs of %d", len(runs), n)
	}
	if n := 4 * len(runs); len(c.tracks) != n {
		t.Errorf("%d renditions, not %d", len(c.tracks), n)
	}
	if t.Failed() {
		for _, x := range c.tracks {
			t.Logf("%s %s: %s", x.run, x.id, x.outline())
		}
	}
}

// outline says of each segment whether it is a gap (-), begins with a discontinuity (!), or goes on (.).
func (x *track) outline() string {
	var b strings.Builder
	for _, g := range x.segments {
		if g.Discontinuity {
			b.WriteByte('!')
		}
		b.WriteByte(".-"[b2i(g.Gap)])
	}
	return b.String()
}
