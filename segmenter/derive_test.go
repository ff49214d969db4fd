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
			if a := st.Status().Advice; c.gop == 120 && len(a) != 1 || len(a) > 0 && !strings.HasPrefix(a[0], "keyframes every 4 s") {
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
