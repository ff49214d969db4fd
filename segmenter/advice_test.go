package segmenter

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// What is told of key frames that do not come, that do not begin a segment, or that are far apart, while it is so and a minute after.
func TestKeyAdvice(t *testing.T) {
	const target, set = ", but the segment target is 2 s", ": set the encoder's keyframe interval to 2 s"
	none := func(s float64) string { return fmt.Sprintf("no keyframe for %v s", s) + target + set }
	every := func(s float64) string { return fmt.Sprintf("keyframes every %v s", s) + target + set }
	const open = ", and recovery points (open GOPs) begin no segment: set the encoder to closed GOPs, in which each keyframe is an IDR picture, and its keyframe interval to 2 s"
	type look struct {
		at       float64 // s
		advice   string
		interval float64 // s
	}
	figure := regexp.MustCompile(` [0-9.]+ s\b`)
	at := func(sec ...float64) func(n int) bool {
		return func(n int) bool { return slices.Contains(sec, float64(n)/30) }
	}
	hole := func(n int) bool { return n%60 == 0 && (n <= 10*30 || n >= 35*30) || n == 35*30 }
	for _, c := range []struct {
		name string
		key  func(n int) bool
		open func(n int) bool
		long LongGOP
		want []look
	}{
		{name: "one ever", key: at(0), want: []look{{2.4, "", 0}, {2.6, none(2.4), 2.47}, {8.55, none(7.6), 7.63}, {27, none(25), 26.5}, {119, none(60), 118.5}, {121, none(120), 120.5}}},
		{name: "one ever, to be cut", key: at(0), long: CutGOP, want: []look{{2.4, "", 0}, {3, none(2.4), 2.47}, {27, none(25), 26.5}}},
		{name: "none ever", key: func(int) bool { return false }, want: []look{{2.4, "", 0}, {2.6, none(2.4), 0}, {26.5, none(25), 0}}},
		{name: "late for a hole of 25 s", key: hole, want: []look{{12, "", 2}, {12.6, none(2.4), 2.47}, {34.9, none(20), 24.5}, {36.3, none(25), 25}, {38.1, none(25), 1}, {90, none(25), 2}, {100, "", 2}}},
		{name: "every 4 s", key: func(n int) bool { return n%120 == 0 }, want: []look{{3, none(2.4), 2.47}, {7.5, none(4), 4}, {8.5, every(4), 4}, {11.9, every(4), 4}, {15.9, every(4), 4}}},
		{name: "every 4 s, then none", key: func(n int) bool { return n%120 == 0 && n < 600 }, want: []look{{23.9, every(4), 4}, {27.5, none(10), 11}}},
		{name: "every 2 s", key: func(n int) bool { return n%60 == 0 }, open: func(n int) bool { return n%60 == 30 }, want: []look{{30, "", 2}}},
		{name: "recovery points", key: func(n int) bool { return n%300 == 0 }, open: func(n int) bool { return n%60 == 0 },
			want: []look{{3, "no keyframe for 2.4 s" + target + open, 2.47}, {30.5, "keyframes every 10 s" + target + open, 10}}},
		{name: "recovery points alone", key: func(int) bool { return false }, open: func(n int) bool { return n%60 == 0 },
			want: []look{{3, "no keyframe for 2.4 s" + target + open, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := origin(Config{PartTarget: DefaultPartTarget, LongGOP: c.long})
			f := newFeed(t, o, "live/a", 30, 60)
			f.keyAt, f.openAt = c.key, c.open
			f.tracks()
			st, _ := o.Stream("live/a")
			done := 0.0
			for _, w := range c.want {
				f.run(w.at - done)
				done = w.at
				s := st.Status()
				if w.advice == "" && len(s.Advice) > 0 || w.advice != "" && (len(s.Advice) != 1 || s.Advice[0].Text != w.advice) {
					t.Errorf("at %v s: %q, want %q", w.at, s.Advice, w.advice)
				}
				if about := strings.Replace(w.advice, figure.FindString(w.advice), "", 1); len(s.Advice) == 1 && s.Advice[0].About != about {
					t.Errorf("at %v s: about %q, want %q", w.at, s.Advice[0].About, about)
				}
				if got := s.KeyframeInterval.Seconds(); math.Abs(got-w.interval) > 0.6 {
					t.Errorf("at %v s: an interval of %v s, want %v", w.at, got, w.interval)
				}
			}
		})
	}
}

// Advice says which of several encoders it is for.
func TestAdviceInLadder(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	ladder(t, o, 14, &rung{name: "1080p"}, &rung{name: "720p", pending: &feed{fps: sourceRate, gop: 120, depth: 2, audio: 1, speed: 1}})
	st, _ := o.Stream("live/a")
	for _, a := range st.Status().Advice {
		if strings.HasPrefix(a.Text, "720p: keyframes every 4 s, ") && strings.HasPrefix(a.About, "720p: keyframes every, ") {
			return
		}
	}
	t.Errorf("%q", st.Status().Advice)
}

// Who publishes anew is not told of what came before.
func TestKeyAdviceAfterReconnect(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget, LongGOP: CutGOP})
	f := newFeed(t, o, "live/a", 30, 60)
	f.keyAt = func(n int) bool { return n == 0 }
	f.tracks().run(15)
	st, _ := o.Stream("live/a")
	if n := len(st.Status().Advice); n != 1 {
		t.Fatalf("%d pieces of advice", n)
	}
	f.pub.Close(fmt.Errorf("reset"))
	g := newFeed(t, o, "live/a", 30, 60)
	g.wall = f.at(16)
	g.tracks().run(5)
	if a := st.Status().Advice; len(a) != 0 {
		t.Errorf("%q", a)
	}
	if got := st.Status().KeyframeInterval; got != 2*time.Second {
		t.Errorf("an interval of %v", got)
	}
}
