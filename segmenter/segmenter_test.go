package segmenter

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"headwater/segmenter/media"
)

// A watcher sees every Window of a rendition, and keeps every segment and part it ever saw.
type watcher struct {
	holes bool  // media may be missing at the end of a segment
	past  int64 // and so much may be in it that is shown after its end, ticks

	t     *testing.T
	r     *Rendition
	w     *Window
	segs  []*Segment
	hints []int64
	parts map[int64]*Part
}

func watch(t *testing.T, r *Rendition) *watcher {
	x := &watcher{t: t, r: r, parts: map[int64]*Part{}}
	x.w = r.Window()
	x.note()
	return x
}

// follow goes through the Windows made since.
func (x *watcher) follow() *watcher {
	for x.w.succ != nil {
		x.w = x.w.succ
		x.note()
	}
	return x
}

func (x *watcher) note() {
	w := x.w
	for _, s := range w.Segments {
		if n := len(x.segs); n == 0 || s.MSN > x.segs[n-1].MSN {
			if n > 0 && s.MSN != x.segs[n-1].MSN+1 {
				x.t.Fatalf("%s: MSN %d follows %d", x.r.ID, s.MSN, x.segs[n-1].MSN)
			}
			x.segs = append(x.segs, s)
			for _, p := range s.Parts {
				x.parts[p.Time] = p
			}
		}
	}
	for _, p := range w.Open.Parts {
		if q, ok := x.parts[p.Time]; ok && q != p {
			x.t.Fatalf("%s: two parts at %d", x.r.ID, p.Time)
		}
		x.parts[p.Time] = p
	}
	if w.NextPart >= 0 && (len(x.hints) == 0 || x.hints[len(x.hints)-1] != w.NextPart) {
		x.hints = append(x.hints, w.NextPart)
	}
	for _, e := range w.Siblings {
		if now := e.Rendition.Window().Edge(); e.MSN > now.MSN || e.MSN == now.MSN && e.Part > now.Part {
			x.t.Fatalf("%s: report of %s is ahead of it", x.r.ID, e.Rendition.ID)
		}
	}
}

// presented is when the first and the last sample of s are presented, ticks.
func presented(s *Segment) (first, last int64, ok bool) {
	first, last = math.MaxInt64, math.MinInt64
	for _, p := range s.Parts {
		t := p.Time
		for _, row := range p.Samples {
			first, last, ok = min(first, t+int64(row.CTO)), max(last, t+int64(row.CTO)), true
			t += int64(row.Duration)
		}
	}
	return first, last, ok
}

// frame is how long most samples last at most, ticks.
func (x *watcher) frame() int64 {
	var all []uint32
	for _, s := range x.segs {
		for _, p := range s.Parts {
			for _, row := range p.Samples {
				all = append(all, row.Duration)
			}
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return int64(all[len(all)/2])
}

// check holds everything that is true of any sequence of segments.
func (x *watcher) check(cfg Config) {
	x.t.Helper()
	x.checkParts(cfg, true)
}

// checkParts is check; with floor false, the encoder's timestamps are such that parts cannot keep their least duration, and
// audio may be missing.
func (x *watcher) checkParts(cfg Config, floor bool) {
	t := x.t
	t.Helper()
	cfg = cfg.withDefaults()
	td := float64(x.r.Run.TargetDuration())
	var moved int64 // by the latest segment, of the date against the media
	frame := x.frame()
	for i, s := range x.segs {
		ts := s.Init.Track.Timescale
		sec := float64(s.Duration) / float64(ts)
		if math.Round(sec) > td || sec > td+0.5 {
			t.Errorf("%s: segment %d lasts %.3f s, target duration %g (RFC 8216bis 4.4.3.1)", x.r.ID, s.MSN, sec, td)
		}
		// The date follows the wall clock slowly (see slew).
		was := moved
		moved = s.Time - x.r.Run.Epoch - media.Rescale(s.Start, ts, media.Second)
		if d := abs(moved - was); d > slewStep && i > 0 {
			t.Errorf("%s: segment %d: program time does not follow from media time", x.r.ID, s.MSN)
		}
		next := int64(-1)
		for j, p := range s.Parts {
			if p.MSN != s.MSN || p.Index != j {
				t.Errorf("%s: part %d of segment %d says it is %d of %d", x.r.ID, j, s.MSN, p.Index, p.MSN)
			}
			if next >= 0 && p.Time != next && (floor || p.Time < next || x.r.Kind == media.Video) {
				t.Errorf("%s: segment %d part %d decodes at %d, the one before ends at %d", x.r.ID, s.MSN, j, p.Time, next)
			}
			next = p.Time + p.Duration
			var sum, size int64
			for k, row := range p.Samples {
				if row.Duration == 0 {
					t.Fatalf("%s: a sample of no duration", x.r.ID)
				}
				if row.Sync && !p.Independent {
					t.Errorf("%s: segment %d part %d holds key frame %d and is not independent (RFC 8216bis 4.4.4.9)", x.r.ID, s.MSN, j, k)
				}
				sum += int64(row.Duration)
				size += int64(row.Size)
			}
			if sum != p.Duration || size != int64(p.Size()-p.HeadSize()) {
				t.Errorf("%s: segment %d part %d: table and part disagree", x.r.ID, s.MSN, j)
			}
			if pt := cfg.PartTarget; pt > 0 {
				most := media.Rescale(int64(pt), media.Second, ts)
				if p.Duration > most {
					t.Errorf("%s: segment %d part %d lasts %d ticks, part target %d (RFC 8216bis 4.4.4.9)", x.r.ID, s.MSN, j, p.Duration, most)
				}
				last := j == len(s.Parts)-1
				if floor && p.Duration*100 < most*85 && !last && !p.Independent {
					t.Errorf("%s: segment %d part %d lasts %d ticks, under 85 %% of %d (RFC 8216bis 4.4.4.9)", x.r.ID, s.MSN, j, p.Duration, most)
				}
			}
		}
		if first, last, ok := presented(s); ok {
			if d := media.Rescale(20, 1000, ts) + 4*frame; first < s.Start-d || last > s.Start+s.Duration+d+x.past {
				t.Errorf("%s: segment %d begins at %d and lasts %d, its samples are presented at %d to %d (RFC 8216bis 4.4.4.1)", x.r.ID, s.MSN, s.Start, s.Duration, first, last)
			}
			if s.Duration < frame/2 {
				t.Errorf("%s: segment %d lasts %d, less than a frame", x.r.ID, s.MSN, s.Duration)
			}
		}
		if i > 0 && !s.Discontinuity {
			if q := x.segs[i-1]; q.Start+q.Duration != s.Start {
				t.Errorf("%s: segment %d starts at %d, the one before ends at %d (RFC 8216bis 6.2.1)", x.r.ID, s.MSN, s.Start, q.Start+q.Duration)
			}
		}
		if i > 0 && !s.Discontinuity && !s.Gap && !x.segs[i-1].Gap {
			q := x.segs[i-1]
			lp := q.Parts[len(q.Parts)-1]
			if end := lp.Time + lp.Duration; end != s.Parts[0].Time && (floor || end > s.Parts[0].Time || x.r.Kind == media.Video && !x.holes) {
				t.Errorf("%s: segment %d: decode time %d after %d (ISO/IEC 14496-12 8.8.12)", x.r.ID, s.MSN, s.Parts[0].Time, lp.Time+lp.Duration)
			}
		}
		if i > 0 && s.Parts != nil && x.segs[i-1].Parts != nil {
			lp := x.segs[i-1].Parts[len(x.segs[i-1].Parts)-1]
			if s.Parts[0].Time < lp.Time+lp.Duration {
				t.Errorf("%s: segment %d: decode time goes back", x.r.ID, s.MSN)
			}
		}
	}
}

// aligned holds that every segment covers the same time in both, to within one frame of b.
func aligned(t *testing.T, a, b *watcher, frame float64) {
	t.Helper()
	if len(a.segs) == 0 || len(b.segs) == 0 || a.segs[0].MSN != b.segs[0].MSN {
		t.Fatalf("%d and %d segments", len(a.segs), len(b.segs))
	}
	for i := 0; i < min(len(a.segs), len(b.segs)); i++ {
		s, u := a.segs[i], b.segs[i]
		st := float64(s.Start) / float64(s.Init.Track.Timescale)
		ut := float64(u.Start) / float64(u.Init.Track.Timescale)
		if math.Abs(st-ut) > frame+0.0011 && !s.Gap && !u.Gap { // a gap begins where the media ends
			t.Errorf("segment %d starts at %.4f and at %.4f (RFC 8216bis 6.2.4)", s.MSN, st, ut)
		}
		if s.DiscSeq != u.DiscSeq || s.Discontinuity != u.Discontinuity {
			t.Errorf("segment %d: discontinuities differ (RFC 8216bis 6.2.4)", s.MSN)
		}
	}
}

// Clips of all usual frame rates keep the bounds on part durations, leave no hint unkept, and stay aligned.
func TestFrameRates(t *testing.T) {
	for _, fps := range []float64{24000.0 / 1001, 24, 25, 30000.0 / 1001, 30, 50, 60000.0 / 1001, 60} {
		for _, depth := range []int{0, 2} {
			t.Run(fmt.Sprintf("%.3f/%d", fps, depth), func(t *testing.T) {
				cfg := Config{PartTarget: DefaultPartTarget}
				o := origin(cfg)
				f := newFeed(t, o, "live/a", fps, int(math.Round(2*fps)))
				f.depth = depth
				f.tracks().run(0.1)
				v, a := watch(t, rendition(t, o, "live/a", "video")), watch(t, rendition(t, o, "live/a", "audio"))
				f.run(120)
				v.follow().check(cfg)
				a.follow().check(cfg)
				if len(v.segs) < 58 {
					t.Fatalf("%d segments", len(v.segs))
				}
				aligned(t, v, a, 1024.0/48000)
				for _, x := range []*watcher{v, a} {
					for _, h := range x.hints[:len(x.hints)-1] {
						if x.parts[h] == nil {
							t.Errorf("%s: hint %d was never kept (RFC 8216bis 4.4.5.3)", x.r.ID, h)
						}
					}
				}
				if v.r.Run.TargetDuration() != 2 {
					t.Errorf("target duration %d", v.r.Run.TargetDuration())
				}
				if d := v.r.Stats().Dropped + a.r.Stats().Dropped; d != 0 {
					t.Errorf("%d samples dropped", d)
				}
			})
		}
	}
}

// A thousand steady segments leave no abandoned hint (RFC 8216bis 6.2.6).
func TestNoAbandonedHint(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget}
	o := origin(cfg)
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(0.1)
	v, a := watch(t, rendition(t, o, "live/a", "video")), watch(t, rendition(t, o, "live/a", "audio"))
	for i := 0; i < 2000; i += 20 {
		f.run(20)
		v.follow()
		a.follow()
	}
	if len(v.segs) < 999 {
		t.Fatalf("%d segments", len(v.segs))
	}
	for _, x := range []*watcher{v, a} {
		for _, h := range x.hints[:len(x.hints)-1] {
			if x.parts[h] == nil {
				t.Errorf("%s: hint %d was never kept", x.r.ID, h)
			}
		}
	}
	for _, s := range v.segs {
		if len(s.Parts) != 6 {
			t.Errorf("segment %d has %d parts: 60 frames of 30 a second are six parts of 334 ms", s.MSN, len(s.Parts))
		}
	}
}

// Where segments end for key frames at all sorts of intervals, with a target of 2 s.
func TestGOPs(t *testing.T) {
	for _, c := range []struct {
		gop    float64 // s
		policy LongGOP
		td     int
		dur    float64 // of every segment but the first
		indep  bool
	}{
		{0.5, Stretch, 2, 1.5, true},
		{1, Stretch, 2, 2, true},
		{1.2, Stretch, 2, 2.4, true},
		{1.5, Stretch, 2, 1.5, true},
		{1.999, Stretch, 2, 1.999, true},
		{2.002, Stretch, 2, 2.002, true},
		{2.5, Stretch, 3, 2.5, true},
		{4, Stretch, 4, 4, true},
		{8.333, Stretch, 8, 8.333, true},
		{2.5, CutGOP, 2, 1.25, false},
		{4, CutGOP, 2, 2, false},
		{8.333, CutGOP, 2, 8.333 / 4, false},
		{1, CutGOP, 2, 2, true},
	} {
		t.Run(fmt.Sprintf("%gs/%s", c.gop, c.policy), func(t *testing.T) {
			cfg := Config{PartTarget: DefaultPartTarget, LongGOP: c.policy}
			o := origin(cfg)
			gop := int(math.Round(c.gop * 30))
			f := newFeed(t, o, "live/a", 30*float64(gop)/(c.gop*30), gop).tracks().run(0.1)
			v, a := watch(t, rendition(t, o, "live/a", "video")), watch(t, rendition(t, o, "live/a", "audio"))
			f.run(100)
			v.follow().check(cfg)
			a.follow().check(cfg)
			aligned(t, v, a, 1024.0/48000)
			if got := v.r.Run.TargetDuration(); got != c.td {
				t.Errorf("target duration %d, want %d", got, c.td)
			}
			for i, s := range v.segs {
				if d := float64(s.Duration) / 90000; i > 8 && math.Abs(d-c.dur) > 0.04 {
					t.Errorf("segment %d of the run lasts %.3f s, want %.3f", i, d, c.dur)
				}
				if c.indep && !s.Independent {
					t.Errorf("segment %d does not start with a key frame", i)
				}
			}
			st, _ := o.Stream("live/a")
			if advice := st.Status().Advice; (c.gop > 2.49) != (len(advice) > 0) {
				t.Errorf("advice: %q", advice)
			}
		})
	}
}

func TestRefuseLongGOP(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget, LongGOP: Refuse})
	f := newFeed(t, o, "live/a", 30, 300).tracks()
	var err error
	for i := 0; i < 300 && err == nil; i++ {
		s := media.Sample{DTS: int64(i) * 3000, Sync: i == 0, Data: f.payload}
		err = f.pub.WriteSample(0, &s)
	}
	if err == nil || err.Error() != "going 2.43 s without a key frame at a segment target of 2s is not supported: set the encoder's keyframe interval to 2 s" {
		t.Fatal(err)
	}
}

// Key frames that do not keep a cadence never move the target duration or exceed it.
func TestIrregularKeyFrames(t *testing.T) {
	for name, key := range map[string]func(n int) bool{
		"late":   func(n int) bool { return n%60 == 0 && (n < 600 || n > 1350) },
		"none":   func(n int) bool { return n == 0 },
		"every":  func(n int) bool { return true },
		"scenes": func(n int) bool { return n%60 == 0 || n%97 == 0 || n%53 == 0 },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{PartTarget: DefaultPartTarget}
			o := origin(cfg)
			f := newFeed(t, o, "live/a", 30, 60)
			f.keyAt = key
			f.tracks().run(0.1)
			v, a := watch(t, rendition(t, o, "live/a", "video")), watch(t, rendition(t, o, "live/a", "audio"))
			f.run(120)
			v.follow().check(cfg)
			a.follow().check(cfg)
			aligned(t, v, a, 1024.0/48000)
			if len(v.segs) < 11 {
				t.Errorf("%d segments", len(v.segs))
			}
		})
	}
}

func TestAudioOnly(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget}
	o := origin(cfg)
	f := newFeed(t, o, "live/a", 30, 60)
	f.video, f.audio = -1, 0
	f.tracks().run(1.5)
	a := watch(t, rendition(t, o, "live/a", "audio"))
	f.run(60)
	a.follow().check(cfg)
	if len(a.segs) < 28 {
		t.Fatalf("%d segments", len(a.segs))
	}
	for i, s := range a.segs {
		if want := float64(i) * 2; math.Abs(float64(s.Start)/48000-want) > 1024.0/48000 {
			t.Errorf("segment %d starts at %.3f, want %.3f", i, float64(s.Start)/48000, want)
		}
		if !s.Independent {
			t.Errorf("segment %d is not independent", i)
		}
	}
}

func TestVideoOnly(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget}
	o := origin(cfg)
	f := newFeed(t, o, "live/a", 30, 60)
	f.audio = -1
	// Audio was announced, and never comes: the first segment does not wait for it, the first playlist does for 3 s.
	if err := f.pub.SetTracks([]media.Track{videoTrack(), {Kind: media.Audio}}); err != nil {
		t.Fatal(err)
	}
	f.run(2.5)
	r := rendition(t, o, "live/a", "video")
	if len(r.Window().Segments) != 1 || r.Run.IsReady() {
		t.Errorf("%d segments, ready %v", len(r.Window().Segments), r.Run.IsReady())
	}
	f.run(1)
	if !r.Run.IsReady() {
		t.Error("still waiting after 3 s")
	}
	if n := len(r.Run.Renditions()); n != 1 {
		t.Errorf("%d renditions", n)
	}
}

// Audio whose header comes after the first key frame is there from the first segment on.
func TestAudioJoins(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget}
	o := origin(cfg)
	f := newFeed(t, o, "live/a", 30, 60)
	f.audio = -1
	if err := f.pub.SetTracks([]media.Track{videoTrack(), {Kind: media.Audio}}); err != nil {
		t.Fatal(err)
	}
	f.run(0.5)
	v := watch(t, rendition(t, o, "live/a", "video"))
	f.audio, f.audios = 1, 23
	f.tracks().run(20)
	a := watch(t, rendition(t, o, "live/a", "audio"))
	a.r.Window()
	v.follow().check(cfg)
	a.check(cfg)
	if a.segs[0].MSN != v.segs[0].MSN && a.r.Stats().Segments != v.r.Stats().Segments {
		t.Errorf("audio has %d segments, video %d", a.r.Stats().Segments, v.r.Stats().Segments)
	}
	if !v.r.Run.IsReady() {
		t.Error("not ready")
	}
}

// A reconnect within the grace goes on with the run: numbers count on, with one discontinuity in all renditions, and times
// never go back.
func TestReconnect(t *testing.T) {
	for _, base := range []int64{0, 1 << 20} {
		cfg := Config{PartTarget: DefaultPartTarget}
		o := origin(cfg)
		f := newFeed(t, o, "live/a", 30, 60).tracks().run(11.3)
		v, a := watch(t, rendition(t, o, "live/a", "video")), watch(t, rendition(t, o, "live/a", "audio"))
		run := v.r.Run
		now := time.Unix(0, f.wall).Add(11300 * time.Millisecond)
		f.pub.Close(fmt.Errorf("reset"))
		o.Tick(now)
		o.Tick(now.Add(50 * time.Second))
		g := newFeed(t, o, "live/a", 30, 60)
		g.base, g.wall = base, f.wall+int64(60*time.Second)
		g.tracks().run(11.3)
		v.follow().check(cfg)
		a.follow().check(cfg)
		aligned(t, v, a, 1024.0/48000)
		if v.r.Run != run || rendition(t, o, "live/a", "video") != v.r {
			t.Fatal("a new run within the grace")
		}
		discs := 0
		for _, s := range v.segs {
			if s.Discontinuity {
				discs++
				if got := time.Duration(s.Time - f.wall); got != 60*time.Second {
					t.Errorf("program time %v after the start, want 60 s", got)
				}
			}
		}
		if discs != 1 {
			t.Errorf("%d discontinuities", discs)
		}
		// A clean goodbye has the short grace; then the run ends for good, and the next publication begins another.
		g.pub.Close(nil)
		now = now.Add(100 * time.Second)
		o.Tick(now)
		o.Tick(now.Add(9 * time.Second))
		if run.Ended() {
			t.Error("ended within the grace")
		}
		o.Tick(now.Add(11 * time.Second))
		if !run.Ended() || !v.follow().w.Ended || v.w.NextPart != -1 {
			t.Error("not ended after the grace (RFC 8216bis 4.4.3.4)")
		}
		h := newFeed(t, o, "live/a", 30, 60)
		h.wall = f.wall // even with a clock that stood still
		h.tracks().run(5)
		r := rendition(t, o, "live/a", "video")
		if r.Run == run || r.Run.ID == run.ID {
			t.Error("an ended run was continued")
		}
		if first := r.Window().Segments[0].MSN; first <= v.segs[len(v.segs)-1].MSN {
			t.Errorf("MSN %d after %d", first, v.segs[len(v.segs)-1].MSN)
		}
		st, _ := o.Stream("live/a")
		if _, ok := st.RunByID(run.ID); !ok {
			t.Error("the ended run is gone at once (RFC 8216bis 6.2.2)")
		}
		o.Tick(now.Add(12 * time.Second))
		o.Tick(now.Add(100 * time.Second))
		if _, ok := st.RunByID(run.ID); ok {
			t.Error("the ended run stays for ever")
		}
	}
}

// The window keeps at least its number of segments and its least duration, and what leaves it stays available for its own
// duration and that of the playlist, then its memory is gone (RFC 8216bis 6.2.2).
func TestWindowAndRetention(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget}
	o := origin(cfg)
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(0.1)
	v := watch(t, rendition(t, o, "live/a", "video"))
	f.run(120)
	w := v.r.Window()
	if len(w.Segments) != 8 {
		t.Errorf("%d segments are listed", len(w.Segments))
	}
	oldest := w.Segments[0].MSN
	for n := uint64(1); n <= 9; n++ {
		if _, ok := w.Segment(oldest - n); !ok {
			t.Errorf("segment %d before the window is gone", n)
		}
	}
	if _, ok := w.Segment(oldest - 12); ok {
		t.Error("a segment is kept for too long")
	}
	var kept int64
	for _, s := range w.retained {
		kept += s.cost()
	}
	for _, p := range w.Open.Parts {
		kept += p.cost()
	}
	if got := v.r.Stats().Retained; got != kept {
		t.Errorf("retained %d bytes by count, %d by sum", got, kept)
	}
	if n := cap(v.r.list) - len(v.r.list) + v.r.dead; n > len(v.r.list) {
		t.Errorf("%d dead places behind %d segments", n, len(v.r.list))
	}
}

// With a part target of 0 a segment is one chunk and no window names a part.
func TestOrdinary(t *testing.T) {
	cfg := Config{}
	o := origin(cfg)
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(0.1)
	v, a := watch(t, rendition(t, o, "live/a", "video")), watch(t, rendition(t, o, "live/a", "audio"))
	f.run(60)
	for _, x := range []*watcher{v, a} {
		x.follow().check(cfg)
		for _, s := range x.segs {
			if len(s.Parts) != 1 {
				t.Errorf("%s: segment of %d chunks", x.r.ID, len(s.Parts))
			}
		}
		if len(x.hints) != 0 || len(x.w.Open.Parts) != 0 {
			t.Errorf("%s: parts in an ordinary playlist", x.r.ID)
		}
	}
	aligned(t, v, a, 1024.0/48000)
}

// Parameter sets that state another frame rate than the real one do not break the cutting, and the playlist says the real one.
func TestStatedFrameRate(t *testing.T) {
	for _, stated := range []uint32{30, 60, 25, 300} {
		cfg := Config{PartTarget: DefaultPartTarget}
		o := origin(cfg)
		f := newFeed(t, o, "live/a", 30, 60)
		vt := videoTrack()
		vt.FrameRate = media.Ratio{Num: stated, Den: 1}
		if err := f.pub.SetTracks([]media.Track{vt, audioTrack()}); err != nil {
			t.Fatal(err)
		}
		f.run(20)
		v := watch(t, rendition(t, o, "live/a", "video"))
		f.run(60)
		v.follow().checkParts(cfg, true)
		if n := len(v.w.Segments[3].Parts); n != 6 {
			t.Errorf("stated %d: %d parts in a segment of 60 frames", stated, n)
		}
		if got := v.r.Run.Presentation().Renditions[0].FrameRate; got != 30 {
			t.Errorf("stated %d: FRAME-RATE %g, the frames come at 30", stated, got)
		}
	}
}

// An encoder that reorders says as a frame's decode time when an earlier one is presented. When it leaves frames out before a key
// frame, the two are further apart there. A key frame that begins a segment is decoded when it is presented all the same: the parts
// of a segment last as long as the segment.
func TestFramesLeftOut(t *testing.T) {
	for _, left := range []int{1, 2, 3, 5} {
		for before := 1; before <= 4; before++ {
			o := origin(Config{PartTarget: DefaultPartTarget})
			f := newFeed(t, o, "live/a", 30, 60).tracks()
			const delay = 2 // frames
			times := []int64{-2 * 33, -33}
			keys := map[int64]bool{}
			for n := range int64(30 * 30) {
				at := int64(math.Round(float64(n) * 1000 / 30))
				// Every third group of pictures lacks frames, from that many before the next one on.
				if n%60 == 0 {
					keys[at] = true
				} else if n/60%3 == 2 && n%60 >= 60-int64(before+left)+1 && n%60 < 60-int64(before)+1 {
					continue
				}
				times = append(times, at)
			}
			sound := 0
			for i := delay; i < len(times); i++ {
				for ; int64(sound)*1024*1000/48000 < times[i]; sound++ {
					f.sound()
				}
				s := media.Sample{DTS: times[i-delay] * 90, CTO: int32(times[i]-times[i-delay]) * 90, Sync: keys[times[i]],
					Arrived: f.at(float64(times[i]) / 1000), Data: f.payload[:1000]}
				if err := f.pub.WriteSample(f.video, &s); err != nil {
					t.Fatal(err)
				}
			}
			w := rendition(t, o, "live/a", "video").Window()
			if len(w.retained) < 6 {
				t.Fatalf("%d segments", len(w.retained))
			}
			for _, s := range w.retained {
				var sum int64
				for _, p := range s.Parts {
					sum += p.Duration
				}
				if abs(sum-s.Duration) > 3000+180 {
					t.Errorf("%d frames left out, %d before a key frame: segment %d lasts %d ms, its parts %d", left, before, s.MSN, s.Duration/90, sum/90)
				}
			}
		}
	}
}
