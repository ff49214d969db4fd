package segmenter

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"headwater/segmenter/media"
)

// Whatever publications come, leave and come back with other audio, in any order: the audio of everybody who is there is in a
// rendition that says what it is.
func TestAnyAudio(t *testing.T) {
	for seed := range often(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(seed), 11))
			o := origin(Config{PartTarget: DefaultPartTarget, WindowSegments: 100})
			const end = 60
			var rungs []*rung
			for _, name := range []string{"", "720p", "360p", "de", "source"} {
				for at := 3 * float64(rnd.IntN(3)); at < end-15; {
					f := &feed{fps: sourceRate, gop: 60, depth: 2, audio: 1, speed: 1, sound0: audioTrack()}
					f.sound0.Language = []string{"en", "de"}[rnd.IntN(2)]
					f.sound0.BitRate = []int{0, 64_000, 160_000}[rnd.IntN(3)]
					if name == "de" || rnd.IntN(5) == 0 {
						f.video, f.audio = -1, 0
					} else if rnd.IntN(6) == 0 {
						f.audio = -1
					}
					r := &rung{name: name, from: at, lag: 0.05 * float64(rnd.IntN(4)), every: 1, pending: f}
					if stay := 8 + 30*rnd.Float64(); at+stay < end-15 {
						r.to = at + stay
						at += stay + 0.5 + 10*rnd.Float64()
					} else {
						at = end
					}
					rungs = append(rungs, r)
					if name == "" && rnd.IntN(2) == 0 {
						f.base = rnd.Int64N(1 << 20)
						track := &feed{fps: sourceRate, video: -1, speed: 1, sound0: audioTrack(), beside: true, base: f.base}
						track.sound0.Label = "track1"
						rungs = append(rungs, &rung{name: "track1", from: r.from, to: r.to, lag: r.lag, pending: track})
					}
				}
			}
			ladder(t, o, end, rungs...)
			st, _ := o.Stream("live/a")
			run := st.Run()
			for _, r := range rungs {
				if r.late || r.feed == nil || r.audio < 0 {
					continue
				}
				found := false
				for _, x := range run.Renditions() {
					w := x.Window()
					if x.Kind == media.Audio && sameSound(&w.Init().Track, &r.sound0) && len(w.Segments) > 1 && !w.Segments[len(w.Segments)-2].Gap {
						found = true
					}
				}
				if !found {
					var has []string
					for _, x := range run.Renditions() {
						w := x.Window()
						has = append(has, fmt.Sprintf("%s(%s %d gap=%v)", x.ID, w.Init().Track.Language, w.Init().Track.BitRate, len(w.Segments) > 1 && w.Segments[len(w.Segments)-2].Gap))
					}
					t.Errorf("the audio of %q (%s %d, video %d) from %.1f s is nowhere: %v %v", r.name, r.sound0.Language, r.sound0.BitRate, r.video, r.from, has, inputs(st))
				}
			}
		})
	}
}

// The source's audio changes while others have what it was: they take its rendition, and it goes on in another.
func TestLadderAudioChanges(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget, WindowSegments: 100})
	a, b := &rung{name: ""}, &rung{name: "720p"}
	ladder(t, o, 9, a, b)
	mono := audioTrack()
	mono.Channels, mono.Codec.Config = 1, []byte{0x11, 0x88}
	if err := a.pub.SetTracks([]media.Track{videoTrack(), mono}); err != nil {
		t.Fatal(err)
	}
	ladder(t, o, 30, a, b)
	sounds := map[int]string{}
	for _, x := range a.pub.run.Renditions() {
		w := x.Window()
		if x.Kind == media.Audio && !w.Segments[len(w.Segments)-1].Gap {
			sounds[w.Init().Track.Channels] += x.ID
		}
	}
	if sounds[1] == "" || sounds[2] == "" {
		st, _ := o.Stream("live/a")
		t.Errorf("audio by channels: %v; %v", sounds, inputs(st))
	}
}

// Audio that has waited long for its picture is laid beside the leader like any other.
func TestAudioWithoutItsPicture(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget, WindowSegments: 100})
	f := &feed{fps: sourceRate, gop: 60, video: -1, speed: 1, sound0: audioTrack()}
	f.sound0.Language = "fr"
	ladder(t, o, 30, &rung{name: ""}, &rung{name: "720p", to: 8}, &rung{name: "720p", from: 10, pending: f})
	x := watchAll(t, o, "audio_720p")[0]
	x.checkParts(Config{PartTarget: DefaultPartTarget}, false)
	if n := media0(x); n < 6 {
		st, _ := o.Stream("live/a")
		t.Errorf("%d segments with media of %d: %v", n, len(x.segs), inputs(st))
	}
}

// Of two that begin together with audio in other timescales one feeds it, and when that leaves the other does.
func TestAudioTimescales(t *testing.T) {
	for _, leaver := range []string{"", "720p"} {
		o := origin(Config{PartTarget: DefaultPartTarget, WindowSegments: 100})
		var rungs []*rung
		for name, scale := range map[string]uint32{"": 48000, "720p": 44100} {
			f := &feed{fps: sourceRate, gop: 60, depth: 2, audio: 1, speed: 1, base: 20_000, sound0: audioTrack()}
			f.sound0.Timescale = scale
			r := &rung{name: name, from: 0.97, pending: f}
			if name == leaver {
				r.to = 10
			}
			rungs = append(rungs, r)
		}
		ladder(t, o, 30, rungs...)
		w := rendition(t, o, "live/a", "audio").Window()
		if w.Segments[len(w.Segments)-1].Gap || w.Segments[1].Gap {
			st, _ := o.Stream("live/a")
			t.Errorf("after %q has left: %v", leaver, inputs(st))
		}
	}
}
