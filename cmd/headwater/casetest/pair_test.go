package casetest

import (
	"testing"

	"headwater/segmenter"
)

// A pairCase is what happens to two encoders of one camera, the primary and the backup, and what comes of it.
type pairCase struct {
	name     string
	cfg      segmenter.Config
	do       func(l *ladder, primary, backup *encoder)
	discs    int
	gap      float64 // s of the picture that are gaps, at most
	switches map[segmenter.Reason]float64
	active   string
}

var pairCases = []pairCase{
	{name: "both well", do: func(l *ladder, primary, backup *encoder) { l.connect(primary, backup).run(30) }, active: "primary"},
	{name: "the primary is lost", do: func(l *ladder, primary, backup *encoder) {
		l.connect(primary, backup).run(11.3).lose(reset, primary).run(15)
	}, gap: 2, switches: map[segmenter.Reason]float64{segmenter.Gone: 1}, active: "backup"},
	{name: "and returns", do: func(l *ladder, primary, backup *encoder) {
		l.connect(primary, backup).run(11.3).lose(reset, primary).run(4).connect(primary).run(20)
	}, gap: 2, switches: map[segmenter.Reason]float64{segmenter.Gone: 1, segmenter.Returned: 1}, active: "primary"},
	{name: "and returns, the backup keeps its place", cfg: segmenter.Config{KeepBackup: true}, do: func(l *ladder, primary, backup *encoder) {
		l.connect(primary, backup).run(11.3).lose(reset, primary).run(4).connect(primary).run(20)
	}, gap: 2, switches: map[segmenter.Reason]float64{segmenter.Gone: 1}, active: "backup"},
	{name: "it is half open", do: func(l *ladder, primary, backup *encoder) {
		l.connect(primary, backup).run(11.3).lose(mute, primary).run(15)
	}, gap: 2, switches: map[segmenter.Reason]float64{segmenter.Silent: 1}, active: "backup"},
	{name: "its key frames stay away", do: func(l *ladder, primary, backup *encoder) {
		l.connect(primary, backup).run(11.3)
		primary.keyAt = func(int) bool { return false }
		l.run(15)
	}, gap: 2, switches: map[segmenter.Reason]float64{segmenter.NoKeyFrames: 1}, active: "backup"},
	{name: "the backup has another timeline", do: func(l *ladder, primary, backup *encoder) {
		backup.vbase, backup.abase, backup.gop = 3*hour, 3*hour, 50
		l.connect(primary, backup).run(11.3).lose(reset, primary).run(20)
	}, discs: 1, gap: 4, switches: map[segmenter.Reason]float64{segmenter.Gone: 1}, active: "backup"},
	{name: "the backup is lost", do: func(l *ladder, primary, backup *encoder) {
		l.connect(primary, backup).run(11.3).lose(reset, backup).run(15)
	}, active: "primary"},
}

// Whichever of two encoders feeds it, it is one stream, on one timeline where theirs is one.
func TestPairCases(t *testing.T) {
	for _, c := range pairCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := c.cfg
			cfg.PartTarget = segmenter.DefaultPartTarget
			h := newHarness(t, cfg)
			h.check.lossy, h.check.pair = true, true
			l := &ladder{h: h, on: map[*encoder]bool{}}
			for _, role := range []string{"", "backup"} {
				e := newEncoder(t, h)
				e.role = role
				l.rungs = append(l.rungs, e)
			}
			c.do(l, l.rungs[0], l.rungs[1])
			h.check.finish()
			for _, p := range h.check.problems {
				t.Error(p)
			}
			got := h.check.total()
			if got.runs != 1 || got.discs != c.discs || got.gap > c.gap {
				t.Errorf("%d runs, %d discontinuities of %d, gaps of %.3f s, not at most %v", got.runs, got.discs, c.discs, got.gap, c.gap)
			}
			for _, why := range segmenter.Reasons {
				if n := h.metric(`headwater_input_switches_total{reason="` + string(why) + `",stream="live/a"}`); n != c.switches[why] {
					t.Errorf("%v switches: %s, not %v", n, why, c.switches[why])
				}
			}
			for _, role := range []string{"primary", "backup"} {
				if n := h.metric(`headwater_input_active{rendition="",role="` + role + `",stream="live/a"}`); n != float64(b2i(role == c.active)) {
					t.Errorf("the %s is active: %v", role, n)
				}
			}
			if t.Failed() {
				for _, x := range h.check.tracks {
					t.Logf("%s: %s", x.id, x.outline())
				}
			}
		})
	}
}
