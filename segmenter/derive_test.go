package segmenter

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"headwater/segmenter/media"
)

// What is made of a publication is waited for, is laid beside it by its times alone, 0.3 s late, and has audio of its own; advice is
// for the source.
func TestDerive(t *testing.T) {
	for name, c := range map[string]struct {
		gop  int // frames, of which there are 30 a second
		made []string
		want string  // renditions of the first playlist, and which of them are lower
		at   float64 // of that, at the latest, s
	}{
		"all":           {60, []string{"360p", "audio"}, "video audio video_360p audio_audio(lower)", 5},
		"one is absent": {120, []string{"360p"}, "video audio video_360p", 12.5},
		"none":          {120, nil, "video audio", 12.5},
	} {
		t.Run(name, func(t *testing.T) {
			const step, late = 0.1, 0.3
			o := origin(Config{PartTarget: DefaultPartTarget})
			src := newFeed(t, o, "live/a", 30, c.gop).tracks()
			src.pub.Expect([]string{"360p", "audio"})
			st, _ := o.Stream("live/a")
			var made []*feed
			ready := 0.0
			for at := step; at < 20; at += step {
				src.to(at)
				if from := float64(c.gop) / 30; made == nil && at > from+late { // the first key frame was missed
					for _, rung := range c.made {
						f := &feed{t: t, pub: derived(t, o, rung), fps: 30, gop: c.gop, wall: src.wall + late*media.Second, audio: -1, payload: make([]byte, 4000), speed: 1}
						f.frames = c.gop
						f.base = int64(src.depth) * 1000 / 30 // presented when the source is: it has no B-frames
						if rung == "audio" {
							f.video, f.audio, f.base = -1, 0, 0
							f.audios = int(from * 48000 / 1024)
						}
						made = append(made, f.tracks())
					}
				}
				for _, f := range made {
					f.to(at - late)
				}
				if ready > 0 || st.Run() == nil || !st.Run().IsReady() {
					continue
				}
				ready = at
				var got []string
				for _, d := range st.Run().Presentation().Renditions {
					id := d.Rendition.ID
					if d.Rendition.Lower {
						id += "(lower)"
					}
					got = append(got, id)
				}
				if s := strings.Join(got, " "); s != c.want || at > c.at {
					t.Errorf("after %.1f s: %s; want %s by %.1f s", at, s, c.want, c.at)
				}
			}
			if ready == 0 {
				t.Fatal("never ready")
			}
			for _, in := range st.Status().Inputs {
				want := string(Leading)
				if in.Rung != "" {
					want = fmt.Sprint(Following, SharedBase, 0)
				}
				got := string(in.State)
				if in.Rung != "" {
					got = fmt.Sprint(in.State, in.By, len(in.Advice))
				}
				if got != want {
					t.Errorf("%s: %s, want %s", in.Rung, got, want)
				}
			}
			if a := st.Status().Advice; c.gop == 120 && len(a) != 1 || len(a) > 0 && !strings.HasPrefix(a[0].Text, "keyframes every 4 s") {
				t.Errorf("advice: %q", a)
			}
			if len(c.made) == 0 {
				return
			}
			// The segments are those of the source.
			source, rung := rendition(t, o, "live/a", "video").Window(), rendition(t, o, "live/a", "video_360p").Window()
			n := 0
			for _, s := range source.Segments {
				for _, x := range rung.Segments {
					if x.MSN == s.MSN {
						n++
						if x.Start != s.Start || x.Duration != s.Duration || x.Gap {
							t.Errorf("segment %d: %d to %d, of the source %d to %d", s.MSN, x.Start, x.Duration, s.Start, s.Duration)
						}
					}
				}
			}
			if n < 3 {
				t.Errorf("%d segments in common", n)
			}
		})
	}
}

// derived opens what is made of live/a.
func derived(t *testing.T, o *Origin, rung string) *Publication {
	t.Helper()
	p, err := o.Open("live/a", rung, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p.Derive("")
	return p
}

// to feeds up to a time of media.
func (f *feed) to(at float64) {
	for f.video >= 0 && float64(f.frames)/f.fps < at || f.video < 0 && float64(f.audios)*1024/48000 < at {
		f.run(1 / f.fps)
	}
}

// When the source's times jump, what is made of it jumps with it, a little later; both go on, together.
func TestDeriveJumps(t *testing.T) {
	for name, jump := range map[string]int64{"forward": 100_000, "back": -9_000} {
		t.Run(name, func(t *testing.T) {
			const step, late, gop = 0.1, 0.3, 60
			o := origin(Config{PartTarget: DefaultPartTarget, WindowSegments: 100})
			src := newFeed(t, o, "live/a", 30, gop).tracks()
			src.base = 20_000
			var made []*feed
			for at := step; at < 40; at += step {
				if src.base == 20_000 && at > 11 {
					src.base += jump
				}
				src.to(at)
				if made == nil && at > 2+late {
					for _, rung := range []string{"360p", "audio"} {
						f := &feed{t: t, pub: derived(t, o, rung), fps: 30, gop: gop, wall: src.wall + late*media.Second, audio: -1, payload: make([]byte, 4000), speed: 1}
						f.frames, f.base = gop, src.base+int64(src.depth)*1000/30
						if rung == "audio" {
							f.video, f.audio, f.base, f.audios = -1, 0, src.base, 2*48000/1024
						}
						made = append(made, f.tracks())
					}
				}
				for _, f := range made {
					if f.base < 20_100 && f.base > 19_900 && at-late > 11 {
						f.base += jump
					}
					f.to(at - late)
				}
			}
			for _, f := range made {
				a, b := f.pub.shift.Load(), src.pub.shift.Load()
				if a, b := media.Rescale(a.ticks, a.scale, 90000), media.Rescale(b.ticks, b.scale, 90000); !f.pub.based || a != b {
					t.Errorf("%s is moved by %d ticks, the source by %d", f.pub.Rung, a, b)
				}
			}
			st, _ := o.Stream("live/a")
			for _, r := range st.Run().Renditions() {
				for _, s := range r.Window().Segments {
					if s.Gap {
						t.Errorf("%s: segment %d is a gap", r.ID, s.MSN)
					}
				}
			}
		})
	}
}

// A source whose clock is not the leader's is moved along with the leader's key frames, and its other tracks with it.
func TestShareFollows(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget, WindowSegments: 100})
	slow := func(perSecond float64) func(n int) int64 {
		return func(n int) int64 { return int64(float64(n) / perSecond) }
	} // a thousandth
	feed := func(video, audio int, jitter func(n int) int64) *feed {
		return &feed{fps: sourceRate, gop: 60, depth: 2, video: video, audio: audio, speed: 1, base: 20_000, jitter: jitter}
	}
	track := feed(-1, 0, slow(46.875))
	track.beside = true
	source, beside := &rung{name: "", pending: feed(0, 1, slow(sourceRate))}, &rung{name: "track1", from: 1, pending: track}
	ladder(t, o, 150, &rung{name: "1080p", pending: feed(0, -1, nil)}, source, beside)
	if !source.pub.based || !beside.pub.based {
		st, _ := o.Stream("live/a")
		t.Fatal(inputs(st))
	}
	at := func(p *Publication) int64 { s := p.shift.Load(); return media.Rescale(s.ticks, s.scale, media.Second) }
	if moved := at(source.pub) - at(beside.pub); abs(moved) > media.Second/sourceRate {
		t.Errorf("the source has been moved by %v more than its track", time.Duration(moved))
	}
}
