package casetest

import (
	"math"
	"path"
	"slices"
)

// skew returns the greatest distance, in seconds, between when the sound of a segment is presented and when the picture is, by the
// clock of the encoder, in the run's segments that both have, but for those that hold a change of it.
func (c *checker) skew(run string) (most float64) {
	off := map[uint64][2]float64{}
	for _, x := range c.tracks {
		if x.run != run {
			continue
		}
		k := 0
		if x.audio {
			k = 1
		}
		for _, g := range x.segments {
			if len(g.frames) == 0 {
				continue
			}
			o := off[g.MSN]
			o[k] = float64(g.frames[0].pts)/g.scale - float64(g.frames[0].capture)/1e9
			off[g.MSN] = o
		}
	}
	for _, o := range off {
		if o[0] != 0 && o[1] != 0 {
			most = max(most, math.Abs(o[0]-o[1]))
		}
	}
	return most
}

// A total is what all of a run's, or all runs', playlists had.
type total struct {
	runs, discs, inits int
	gap                float64 // s, of the video, or of the audio without one
	audioGap           float64
	got                [2]int // frames of video and audio
	targets            []int
	ended              bool
	durations          map[int64]int // of audio frames, ticks
	latency            []float64     // by segment of the leading track: from its date to the arrival of its first frame, s
}

func (c *checker) total() (t total) {
	runs := map[string]bool{}
	t.durations = map[int64]int{}
	for _, x := range c.tracks {
		maps := map[string]bool{}
		for _, g := range x.segments {
			maps[path.Base(g.Map)] = true
		}
		leads := !x.audio || !slices.ContainsFunc(c.tracks, func(y *track) bool { return y.run == x.run && !y.audio })
		if x.audio {
			t.got[1] += len(x.got)
		} else {
			t.got[0] += len(x.got)
		}
		t.inits += len(maps)
		if !runs[x.run] {
			runs[x.run] = true
			t.runs++
			t.targets = append(t.targets, x.list.Target)
		}
		for _, g := range x.segments {
			if g.Gap && leads {
				t.gap += g.dur
			}
			if g.Gap && x.audio {
				t.audioGap += g.dur
			}
			if x.audio {
				for _, f := range g.frames {
					t.durations[f.dur]++
				}
			}
			if leads && g.Discontinuity {
				t.discs++
			}
			if leads && len(g.frames) > 0 {
				t.latency = append(t.latency, float64(g.frames[0].arrived-g.pdt.UnixNano())/1e9)
			}
		}
		t.ended = x.list.End
	}
	return t
}
