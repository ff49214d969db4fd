package segmenter

import (
	"math/rand/v2"

	"fmt"
	"math"
	"strings"
	"testing"
)

// A view of what a pair of encoders of one source has made of a rendition: of each segment how much of it is there, and whether
// it begins with a discontinuity.
func filled(x *watcher) (out []float64, discs int) {
	for _, s := range x.segs {
		var d int64
		for _, p := range s.Parts {
			d += p.Duration
		}
		out = append(out, float64(d)/float64(s.Duration))
		if s.Discontinuity {
			discs++
		}
	}
	return out, discs
}

// torn are the segments, but for the first and the last one, that are not whole.
func torn(x *watcher) (out []string) {
	full, _ := filled(x)
	for i, f := range full[:len(full)-1] {
		if i > 0 && f < 0.97 {
			out = append(out, fmt.Sprintf("%d: %.2f", i, f))
		}
	}
	return out
}

// The backup goes on within a segment when the primary leaves, is silent or has no key frames any more, without a discontinuity
// when they have the same timeline; and the primary gets its place back without a frame missing.
func TestPair(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, WindowSegments: 100}
	keep := cfg
	keep.KeepBackup = true
	with := func(set func(f *feed)) *feed {
		f := &feed{fps: sourceRate, gop: 60, depth: 2, audio: 1, speed: 1}
		set(f)
		return f
	}
	zero := func(from float64) *feed {
		return with(func(f *feed) { f.base = -int64(math.Ceil(from*sourceRate) / sourceRate * 1000) })
	}
	other := func(from float64) *feed { // another source's: nothing is where the primary's is
		return with(func(f *feed) { f.base = 7_654_321; f.gop = 50 })
	}
	large := with(func(f *feed) { f.depth = 0 })
	for name, c := range map[string]struct {
		cfg    Config
		rungs  []*rung
		discs  int
		torn   int      // segments with media missing, at most, in the picture
		active string   // at the end
		why    []Reason // of the switches
	}{
		"both well":                  {cfg: cfg, rungs: []*rung{{}, {backup: true, from: 0.5}}, active: "primary"},
		"the primary leaves":         {cfg: cfg, rungs: []*rung{{to: 11.3}, {backup: true}}, torn: 1, active: "backup", why: []Reason{Gone}},
		"at a key frame":             {cfg: cfg, rungs: []*rung{{to: 12}, {backup: true}}, torn: 1, active: "backup", why: []Reason{Gone}},
		"before the backup is known": {cfg: cfg, rungs: []*rung{{to: 11.3}, {backup: true, from: 10.9}}, discs: 1, torn: 1, active: "backup", why: []Reason{Gone}},
		// Whatever sound the primary had yet to send is lost: the end of one segment, what had begun of the next one, and the gap.
		"after a key frame":        {cfg: cfg, rungs: []*rung{{to: 12.1}, {backup: true}}, torn: 3, active: "backup", why: []Reason{Gone}},
		"before the backup begins": {cfg: cfg, rungs: []*rung{{to: 12.1}, {backup: true, from: 8.3, pending: zero(8.3)}}, torn: 3, active: "backup", why: []Reason{Gone}},
		"the backup leaves":        {cfg: cfg, rungs: []*rung{{}, {backup: true, to: 11.3}}, active: "primary"},
		"it stalls":                {cfg: cfg, rungs: []*rung{{silent: [2]float64{11.3, 40}}, {backup: true}}, torn: 1, active: "backup", why: []Reason{Silent}},
		"just before a segment":    {cfg: cfg, rungs: []*rung{{silent: [2]float64{11.9, 40}}, {backup: true}}, torn: 1, active: "backup", why: []Reason{Silent}},
		"it stalls and is back":    {cfg: cfg, rungs: []*rung{{silent: [2]float64{11.3, 17}}, {backup: true}}, torn: 1, active: "primary", why: []Reason{Silent, Returned}},
		"for a moment":             {cfg: cfg, rungs: []*rung{{silent: [2]float64{11.3, 11.9}}, {backup: true}}, torn: 1, active: "primary"},
		"for good":                 {cfg: keep, rungs: []*rung{{silent: [2]float64{11.3, 17}}, {backup: true}}, torn: 1, active: "backup", why: []Reason{Silent}},
		"and then the backup":      {cfg: keep, rungs: []*rung{{silent: [2]float64{11.3, 17}}, {backup: true, to: 26.7}}, torn: 2, active: "primary", why: []Reason{Silent, Gone}},
		"it comes again":           {cfg: cfg, rungs: []*rung{{to: 11.3}, {backup: true}, {from: 15.2}}, torn: 1, active: "primary", why: []Reason{Gone, Returned}},
		"with other times":         {cfg: cfg, rungs: []*rung{{to: 11.3}, {backup: true}, {from: 15.2, pending: zero(15.2)}}, torn: 1, active: "primary", why: []Reason{Gone, Returned}},
		"no key frames":            {cfg: cfg, rungs: []*rung{{pending: with(func(f *feed) { f.gop = 10000; f.keyAt = func(n int) bool { return n < 330 && n%60 == 0 } })}, {backup: true}}, torn: 2, active: "backup", why: []Reason{NoKeyFrames}},
		"the backup comes first": {cfg: cfg, rungs: []*rung{{from: 5.1}, {backup: true}}, active: "primary",
			why: []Reason{Returned}},
		"lagging": {cfg: cfg, rungs: []*rung{{to: 11.3}, {backup: true, lag: 0.4}, {from: 15.2, lag: 0.2}}, torn: 1, active: "primary", why: []Reason{Gone, Returned}},
		"ahead": {cfg: cfg, rungs: []*rung{{to: 11.3, lag: 0.4}, {backup: true}, {from: 15.2, lag: 0.4}}, torn: 1, active: "primary",
			why: []Reason{Returned, Gone, Returned}}, // the backup comes first
		"reordered otherwise": {cfg: cfg, rungs: []*rung{{to: 11.3}, {backup: true, pending: large}, {from: 15.2}}, torn: 1, active: "primary",
			why: []Reason{Gone, Returned}},
		"another source leaves":  {cfg: cfg, rungs: []*rung{{to: 11.3}, {backup: true, pending: other(0)}}, discs: 1, torn: 2, active: "backup", why: []Reason{Gone}},
		"another source stalls":  {cfg: cfg, rungs: []*rung{{silent: [2]float64{11.3, 40}}, {backup: true, pending: other(0)}}, discs: 1, torn: 2, active: "backup", why: []Reason{Silent}},
		"another source returns": {cfg: cfg, rungs: []*rung{{silent: [2]float64{11.3, 17}}, {backup: true, pending: other(0)}}, discs: 2, torn: 3, active: "primary", why: []Reason{Silent, Returned}},
	} {
		t.Run(name, func(t *testing.T) {
			o := origin(c.cfg)
			ladder(t, o, 32, c.rungs...)
			xs := watchAll(t, o, "video", "audio")
			for _, x := range xs {
				x.checkParts(c.cfg, false)
				missing, most := torn(x), c.torn
				for _, s := range x.segs {
					if s.Duration < int64(s.Init.Track.Timescale)/1000 {
						t.Errorf("%s: segment %d lasts %d ticks", x.r.ID, s.MSN, s.Duration)
					}
				}
				if _, discs := filled(x); discs != c.discs {
					t.Errorf("%s: %d discontinuities, want %d", x.r.ID, discs, c.discs)
				}
				if len(missing) > most {
					t.Errorf("%s: not whole: %v, want %d at most", x.r.ID, missing, most)
				}
			}
			if c.discs == 0 {
				sameTimes(t, 0.5/sourceRate, true, xs[0])
			}
			st, _ := o.Stream("live/a")
			status := st.Status()
			var active []string
			for _, in := range status.Inputs {
				if in.State == Leading || in.State == Following {
					active = append(active, map[bool]string{true: "backup", false: "primary"}[in.Backup])
				} else if in.State != Standby {
					t.Errorf("backup %v is %s: %s", in.Backup, in.State, in.Reason)
				}
			}
			if strings.Join(active, " ") != c.active {
				t.Errorf("active: %q, want %q: %+v", active, c.active, status.Inputs)
			}
			want := [len(Reasons)]uint64{}
			for _, w := range c.why {
				for i, r := range Reasons {
					if r == w {
						want[i]++
					}
				}
			}
			if status.Switches != want {
				t.Errorf("switches %v, want %v of %v", status.Switches, want, Reasons)
			}
			if len(st.Run().Renditions()) != 2 {
				t.Errorf("%d renditions", len(st.Run().Renditions()))
			}
		})
	}
}

// Every rung of a ladder has its backup, and goes over for itself; whoever else is there goes on as if nothing were.
func TestPairsOfALadder(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, WindowSegments: 100}
	for name, c := range map[string]struct {
		rungs []*rung
		torn  map[string]int // segments with media missing, at most
		why   [len(Reasons)]uint64
	}{
		"the leader leaves": {
			rungs: []*rung{{to: 11.3}, {name: "360p"}, {backup: true}, {name: "360p", backup: true}},
			torn:  map[string]int{"video": 1, "audio": 1}, why: [len(Reasons)]uint64{2: 1}},
		"a follower stalls": {
			rungs: []*rung{{}, {name: "360p", silent: [2]float64{11.3, 17}}, {backup: true}, {name: "360p", backup: true}},
			torn:  map[string]int{"video_360p": 1}, why: [len(Reasons)]uint64{0: 1, 4: 1}},
		"just before a segment": {
			rungs: []*rung{{}, {name: "360p", silent: [2]float64{11.8, 17}}, {backup: true}, {name: "360p", backup: true}},
			torn:  map[string]int{"video_360p": 1}, why: [len(Reasons)]uint64{0: 1, 4: 1}},
		"all primaries stall": {
			rungs: []*rung{{silent: [2]float64{11.3, 17}}, {name: "360p", silent: [2]float64{11.3, 17}}, {backup: true}, {name: "360p", backup: true}},
			torn:  map[string]int{"video": 1, "audio": 1, "video_360p": 1}, why: [len(Reasons)]uint64{0: 2, 4: 2}},
		"a backup alone": {
			rungs: []*rung{{to: 11.3}, {name: "360p"}, {backup: true, lag: 0.3}},
			torn:  map[string]int{"video": 1, "audio": 1}, why: [len(Reasons)]uint64{2: 1}},
		"a follower without its key frames": {
			rungs: []*rung{{}, {name: "360p", pending: &feed{fps: sourceRate, gop: 1 << 20, depth: 2, audio: 1, speed: 1,
				keyAt: func(n int) bool { return n < 330 && n%60 == 0 }}}, {backup: true}, {name: "360p", backup: true}},
			torn: map[string]int{"video_360p": 1}, why: [len(Reasons)]uint64{1: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			o := origin(cfg)
			ladder(t, o, 32, c.rungs...)
			xs := watchAll(t, o, "video", "video_360p", "audio")
			for _, x := range xs {
				x.holes = true
				x.checkParts(cfg, false)
				if _, discs := filled(x); discs != 0 {
					t.Errorf("%s: %d discontinuities", x.r.ID, discs)
				}
				if got := torn(x); len(got) > c.torn[x.r.ID] {
					t.Errorf("%s: not whole: %v, want %d at most", x.r.ID, got, c.torn[x.r.ID])
				}
			}
			sameTimes(t, 0.5/sourceRate, true, xs[:2]...)
			st, _ := o.Stream("live/a")
			if got := st.Status().Switches; got != c.why {
				t.Errorf("switches %v, want %v: %v", got, c.why, inputs(st))
			}
		})
	}
}

// A primary that pauses for a moment keeps its place where it is back before the backup has a key frame to begin with.
func TestPairPauses(t *testing.T) {
	cuts := func() *feed {
		return &feed{fps: sourceRate, gop: 60, depth: 2, audio: 1, speed: 1, keyAt: func(n int) bool { return n%97 == 50 }}
	}
	// Key frames are at 12, 14, 14.6, 16, 17.8 and 18 s.
	for _, at := range []float64{12.1, 12.3, 12.5, 12.7, 14.7, 16.4, 16.5, 16.6} {
		o := origin(Config{PartTarget: DefaultPartTarget, WindowSegments: 100})
		ladder(t, o, 24, &rung{silent: [2]float64{at, at + 1.15}, pending: cuts()}, &rung{backup: true, pending: cuts()})
		st, _ := o.Stream("live/a")
		if got := st.Status().Switches; got != [len(Reasons)]uint64{} {
			t.Errorf("a pause at %.1f s: switches %v of %v", at, got, Reasons)
		}
	}
}

// Where the other encoder's picture or sound is configured otherwise, a switch makes a discontinuity, and nothing else does.
func TestPairChanges(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, WindowSegments: 100}
	o := origin(cfg)
	mono := audioTrack()
	mono.Codec.Config = []byte{0x11, 0x88}
	mono.Channels = 1
	backup := &rung{backup: true, pending: &feed{fps: sourceRate, gop: 60, depth: 2, audio: 1, speed: 1, sound0: mono}}
	ladder(t, o, 32, &rung{silent: [2]float64{11.3, 17}}, backup)
	for _, x := range watchAll(t, o, "video", "audio") {
		x.holes = true
		x.checkParts(cfg, false)
		if _, discs := filled(x); discs != 2 {
			t.Errorf("%s: %d discontinuities, want 2", x.r.ID, discs)
		}
		if got := torn(x); len(got) > 2 {
			t.Errorf("%s: not whole: %v", x.r.ID, got)
		}
	}
}

// Sound alone has no key frames to compare: a switch makes a discontinuity.
func TestPairOfSound(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, WindowSegments: 100}
	sound := func() *feed { return &feed{fps: sourceRate, gop: 60, video: -1, speed: 1} }
	for name, c := range map[string]struct {
		silent [2]float64
		to     float64
		discs  int
	}{
		"leaves":                 {to: 11.3, discs: 1},
		"stalls":                 {silent: [2]float64{11.3, 40}, discs: 1},
		"stalls and comes again": {silent: [2]float64{11.3, 17}, discs: 2},
	} {
		t.Run(name, func(t *testing.T) {
			o := origin(cfg)
			ladder(t, o, 32, &rung{pending: sound(), silent: c.silent, to: c.to}, &rung{backup: true, pending: sound()})
			x := watch(t, rendition(t, o, "live/a", "audio"))
			x.holes = true
			x.checkParts(cfg, false)
			if _, discs := filled(x); discs != c.discs {
				t.Errorf("%d discontinuities, want %d", discs, c.discs)
			}
			if got := torn(x); len(got) > 2*c.discs {
				t.Errorf("not whole: %v", got)
			}
		})
	}
}

// Whatever primaries and backups do, segments are at the same times in all renditions, and what is shown is the same.
func TestAnyPairs(t *testing.T) {
	for seed := range often(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(seed), 11))
			cfg := Config{PartTarget: DefaultPartTarget, WindowSegments: 100, KeepBackup: rnd.IntN(3) == 0}
			o := origin(cfg)
			keyed := true
			var rungs []*rung
			for _, name := range []string{"", "360p"} {
				for _, backup := range []bool{false, true} {
					for at := 4 * rnd.Float64(); at < 50; {
						r := &rung{name: name, backup: backup, from: at, lag: 0.25 * rnd.Float64(), every: 1}
						r.pending = &feed{fps: sourceRate, gop: 60, depth: 2, audio: 1 - 2*rnd.IntN(2), speed: 1}
						if rnd.IntN(3) == 0 {
							r.pending.base = rnd.Int64N(1 << 30)
						}
						stay := 8 + 40*rnd.Float64()
						if rnd.IntN(2) == 0 {
							keyed = false // a picture that stands still too long is cut without one
							begin := at + stay*rnd.Float64()
							r.silent = [2]float64{begin, begin + 8*rnd.Float64()}
						}
						if rnd.IntN(4) == 0 { // its key frames stay away for a while
							keyed = false
							begin := int(sourceRate * (at + stay*rnd.Float64()))
							end := begin + rnd.IntN(int(12*sourceRate))
							r.pending.gop = 1 << 20
							r.pending.keyAt = func(n int) bool { return n%60 == 0 && (n < begin || n > end) }
						}
						r.to = at + stay
						at += stay + 0.5 + 10*rnd.Float64()
						rungs = append(rungs, r)
					}
				}
			}
			var v viewer
			for at := 1.0; at <= 55; at++ {
				ladder(t, o, at, rungs...)
				v.look(t, o)
			}
			v.check(t, cfg, keyed, 0.25)
		})
	}
}
