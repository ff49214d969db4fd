package segmenter

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"headwater/segmenter/media"
)

// Whatever an encoder does with its timestamps, and however often it comes back, every Window keeps the rules.
func TestAnythingGoes(t *testing.T) {
	for seed := range often(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(seed), 1))
			fps := []float64{7, 12.5, 24000.0 / 1001, 25, 30000.0 / 1001, 30, 50, 60, 144}[rnd.IntN(9)]
			cfg := Config{PartTarget: []time.Duration{0, 200, 334, 500, 1000}[rnd.IntN(5)] * time.Millisecond,
				LongGOP: []LongGOP{Stretch, CutGOP}[rnd.IntN(2)]}
			o := origin(cfg)
			gop := max(int(fps*(0.3+4*rnd.Float64())), 1)
			var v, a *watcher
			wall := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()
			for session := range 1 + rnd.IntN(4) {
				f := newFeed(t, o, "live/a", fps, gop)
				f.depth = rnd.IntN(4)
				f.base = int64(rnd.IntN(1 << 30))
				f.ahead = int64(rnd.IntN(500)) - 250
				f.wall = wall
				amount := int64(rnd.IntN(8))
				late := rnd.IntN(2) == 0
				f.jitter = func(n int) int64 {
					if amount == 0 {
						return 0
					}
					return rnd.Int64N(2*amount+1) - amount
				}
				if rnd.IntN(3) == 0 {
					p := 0.02 * rnd.Float64()
					f.keyAt = func(n int) bool { return n == 0 || n%gop == 0 || rnd.Float64() < p }
				}
				f.tracks().run(0.5)
				if late {
					f.run(20)
				}
				if st, _ := o.Stream("live/a"); v == nil && st.Run() != nil {
					if r, ok := st.Run().Rendition("video"); ok {
						v = watch(t, r)
					}
					if r, ok := st.Run().Rendition("audio"); ok {
						a = watch(t, r)
					}
				}
				for range 1 + rnd.IntN(6) {
					switch rnd.IntN(6) {
					case 0: // frames are lost
						f.frames += rnd.IntN(int(fps)*3 + 1)
					case 1: // audio is lost
						f.audios += rnd.IntN(200)
					case 2: // time jumps
						f.base += rnd.Int64N(7200_000) - 3600_000
						f.base = max(f.base, 0)
					case 3: // everything stands still
						d := rnd.IntN(8)
						f.frames += d * int(fps)
						f.audios += int(float64(d) * 46.875)
					case 4: // a burst of what was held up: the clock runs, the media follows
						f.wall += rnd.Int64N(3e9)
					}
					f.run(5 + 10*rnd.Float64())
				}
				wall = f.at(math.Max(float64(f.frames)/fps, float64(f.audios)/46.875)) + rnd.Int64N(40e9)
				var reason error
				if rnd.IntN(2) == 0 {
					reason = errors.New("reset")
				}
				if err := f.pub.Close(reason); err != nil {
					t.Fatal(err)
				}
				_ = session
			}
			if v == nil || a == nil {
				t.Fatal("nothing was cut")
			}
			v.follow().checkParts(cfg, false)
			a.follow().checkParts(cfg, false)
			vs, as := map[uint64]*Segment{}, a.segs
			for _, s := range v.segs {
				vs[s.MSN] = s
			}
			for _, s := range as {
				if u := vs[s.MSN]; u != nil && (u.DiscSeq != s.DiscSeq || u.Discontinuity != s.Discontinuity) {
					t.Errorf("segment %d: discontinuity %d in video, %d in audio (RFC 8216bis 6.2.4)", s.MSN, u.DiscSeq, s.DiscSeq)
				} else if u != nil && !s.Gap {
					// An audio segment that begins late because audio was missing is still inside its video segment.
					d := float64(s.Start)/48000 - float64(u.Start)/90000
					if d < -0.25 || d > float64(u.Duration)/90000+0.25 {
						t.Errorf("segment %d starts %.3f s away in audio", s.MSN, d)
					}
				}
			}
		})
	}
}

// The sample path allocates for parts, not for samples.
func TestAllocations(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(60)
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	f.run(60)
	runtime.ReadMemStats(&b)
	// 30 + 47 samples and about 6 parts a second. A part is a Part, its table, its payload, a Window, its channel, its
	// sibling edges; a segment adds itself, its list of parts and, now and then, the list of segments.
	if per := float64(b.Mallocs-a.Mallocs) / 60; per > 6*7+12 {
		t.Errorf("%.1f allocations for a second of media", per)
	}
}

// A changed configuration begins a discontinuity with a new initialization section, at the key frame that brings it.
func TestConfigurationChange(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget}
	o := origin(cfg)
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(13)
	v, a := watch(t, rendition(t, o, "live/a", "video")), watch(t, rendition(t, o, "live/a", "audio"))
	f.tracks().run(1) // the same again changes nothing
	nt := videoTrack()
	nt.Codec.Config = append([]byte(nil), testAVCC...)
	nt.Codec.Config[3] = 0x20
	nt.Codec.Config[10] = 0x20
	nt.Codec.String = "avc1.640020"
	if err := f.pub.SetTracks([]media.Track{nt, audioTrack()}); err != nil {
		t.Fatal(err)
	}
	f.run(13)
	v.follow().check(cfg)
	a.follow().check(cfg)
	aligned(t, v, a, 1024.0/48000)
	var at []int
	for i, s := range v.segs {
		if s.Discontinuity {
			at = append(at, i)
		}
		if (s.Init.Track.Codec.String == "avc1.640020") != (len(at) > 0) {
			t.Errorf("segment %d: %s", i, s.Init.Track.Codec.String)
		}
	}
	if len(at) != 1 || v.segs[at[0]].DiscSeq != 1 || v.w.DiscSeq != 0 {
		t.Errorf("discontinuities at %v", at)
	}
	// The discontinuity's own number rises in the playlist when its tag has left (RFC 8216bis 6.2.2).
	f.run(60)
	if got := v.follow().w.DiscSeq; got != 1 {
		t.Errorf("discontinuity sequence %d after its tag has left", got)
	}
	if v.segs[0].Init.Hash == v.w.Init().Hash {
		t.Error("a new configuration under the old name")
	}
}
