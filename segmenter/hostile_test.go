package segmenter

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"headwater/segmenter/media"
)

// Metadata that announces video which never comes does not keep audio from being played (waiting ends after 3 s).
func TestAnnouncedVideoNeverComes(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	f := newFeed(t, o, "live/a", 30, 60)
	f.video = -1
	if err := f.pub.SetTracks([]media.Track{{Kind: media.Video}, audioTrack()}); err != nil {
		t.Fatal(err)
	}
	f.run(12)
	if r := rendition(t, o, "live/a", "audio"); !r.Run.IsReady() {
		t.Error("not ready after 12 s")
	}
}

// Audio that was promised by a header only makes no rendition (no promise in CODECS that is not kept).
func TestAudioHeaderOnly(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	f := newFeed(t, o, "live/a", 30, 60).tracks()
	f.audio = -1
	f.run(3.5)
	r := rendition(t, o, "live/a", "video")
	if !r.Run.IsReady() {
		t.Error("not ready after 3.5 s")
	}
	if n := len(r.Run.Renditions()); n != 1 {
		t.Errorf("%d renditions", n)
	}
}

// Audio that pauses and comes back in step costs the video nothing.
func TestAudioPause(t *testing.T) {
	for _, pause := range []float64{0.5, 1.9, 2.5, 3, 5, 8, 30} {
		cfg := Config{PartTarget: DefaultPartTarget}
		o := origin(cfg)
		f := newFeed(t, o, "live/a", 30, 60).tracks().run(10)
		v, a := watch(t, rendition(t, o, "live/a", "video")), watch(t, rendition(t, o, "live/a", "audio"))
		for range int(pause * 30) {
			f.frame()
		}
		f.audios = int(float64(f.frames) / 30 * 46.875)
		f.run(20)
		v.follow().check(cfg)
		a.follow().checkParts(cfg, false)
		for _, s := range v.segs {
			if s.Discontinuity {
				t.Errorf("%g s: a discontinuity", pause)
			}
		}
		if got, want := int(v.r.Stats().Samples), f.frames-10; got < want {
			t.Errorf("%g s: %d of %d frames", pause, got, want)
		}
		if last := a.w.LastMSN(); last+1 < v.w.LastMSN() {
			t.Errorf("%g s: audio is at %d, video at %d", pause, last, v.w.LastMSN())
		}
		for _, s := range a.segs[len(a.segs)-3:] {
			if s.Gap {
				t.Errorf("%g s: audio does not come back", pause)
			}
		}
	}
}

// When the timestamps of one track alone jump, the other goes on and the track is heard again within seconds.
func TestOneTrackJumps(t *testing.T) {
	const hour = 3600
	for _, c := range []struct{ video, audio int64 }{{hour, 0}, {-hour, 0}, {0, hour}, {0, -hour}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			cfg := Config{PartTarget: DefaultPartTarget}
			o := origin(cfg)
			f := newFeed(t, o, "live/a", 30, 60)
			f.base = 2 * hour * 1000
			f.tracks().run(10)
			v, a := watch(t, rendition(t, o, "live/a", "video")), watch(t, rendition(t, o, "live/a", "audio"))
			for range 900 {
				base := f.base
				f.base += c.video * 1000
				f.frame()
				f.base = base + c.audio*1000
				for float64(f.audios)/46.875 < float64(f.frames)/30 {
					f.sound()
				}
				f.base = base
			}
			v.follow().checkParts(cfg, false)
			a.follow().checkParts(cfg, false)
			if got := a.r.Stats().Samples; got < 1500 {
				t.Errorf("%d audio frames of %d", got, f.audios)
			}
			if got := v.r.Stats().Samples; got < 1100 {
				t.Errorf("%d video frames of %d", got, f.frames)
			}
			for _, s := range a.segs[len(a.segs)-3:] {
				if s.Gap {
					t.Error("audio stays away")
				}
			}
		})
	}
}

// Video that comes after audio has begun is there from its first key frame on.
func TestVideoLate(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget}
	o := origin(cfg)
	f := newFeed(t, o, "live/a", 30, 250)
	f.video, f.audio = -1, 0
	f.tracks().run(8)
	a := watch(t, rendition(t, o, "live/a", "audio"))
	if err := f.pub.SetTracks([]media.Track{audioTrack(), videoTrack()}); err != nil {
		t.Fatal(err)
	}
	f.video, f.frames = 1, 250 // a key frame, at 8.33 s
	f.run(3)
	v := watch(t, rendition(t, o, "live/a", "video"))
	f.run(17)
	v.follow().checkParts(cfg, false)
	a.follow().checkParts(cfg, false)
	if got := v.r.Stats().Samples; int(got) < f.frames-250-20 {
		t.Errorf("%d video frames of %d", got, f.frames-250)
	}
	discs := 0
	for _, s := range a.segs {
		if s.Discontinuity {
			discs++
		}
	}
	if discs != 1 {
		t.Errorf("%d discontinuities in audio", discs)
	}
}

// Frames that last longer than a part may are refused with advice before decode times have fallen far behind.
func TestSlowFrames(t *testing.T) {
	for _, fps := range []float64{0.6, 1, 2, 2.9} {
		o := origin(Config{PartTarget: DefaultPartTarget})
		f := newFeed(t, o, "live/a", fps, 2)
		if err := f.pub.SetTracks([]media.Track{videoTrack()}); err != nil {
			t.Fatal(err)
		}
		var err error
		for n := 0; n < 4000 && err == nil; n++ {
			s := media.Sample{DTS: int64(float64(n) * 90000 / fps), Sync: n%2 == 0, Arrived: f.at(float64(n) / fps), Data: f.payload}
			err = f.pub.WriteSample(0, &s)
		}
		var u *media.UnsupportedError
		if !errors.As(err, &u) || !strings.Contains(err.Error(), "part target") {
			t.Errorf("%g frames a second: %v", fps, err)
		}
	}
}

// A configuration that changes with every key frame ends the publication instead of filling memory with segments and
// initialization sections.
func TestConfigurationChurn(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	f := newFeed(t, o, "live/a", 30, 1).tracks()
	var err error
	n := 0
	for ; n < 1000 && err == nil; n++ {
		nt := videoTrack()
		nt.Codec.Config = append(append([]byte(nil), testAVCC...), byte(n))
		if err = f.pub.SetTracks([]media.Track{nt, audioTrack()}); err == nil {
			s := media.Sample{DTS: int64(n) * 9, Sync: true, Arrived: f.wall + int64(n)*100_000, Data: f.payload[:10]}
			err = f.pub.WriteSample(0, &s)
		}
	}
	var fe *media.FormatError
	if !errors.As(err, &fe) || n > 2*maxBreaks {
		t.Errorf("after %d changes: %v", n, err)
	}
}

// What an origin keeps is bounded, for streams without video too, and so is how many streams it has.
func TestLimits(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	o.MaxBytes, o.MaxStreams = 4<<20, 3
	f := newFeed(t, o, "live/a", 30, 60)
	f.video, f.audio = -1, 0
	f.tracks()
	big := make([]byte, 50_000)
	var err error
	for n := 0; n < 1000 && err == nil; n++ {
		s := media.Sample{DTS: int64(n) * 1024, Sync: true, Arrived: f.wall, Data: big}
		err = f.pub.WriteSample(0, &s)
	}
	if !errors.Is(err, errFull) {
		t.Error(err)
	}
	if _, err := o.Open("live/b", "", time.Now()); !errors.Is(err, errFull) {
		t.Error(err)
	}
	f.pub.Close(err)
	now := time.Now()
	for range 300 {
		now = now.Add(time.Second)
		o.Tick(now)
	}
	if n := o.kept.Load(); n != 0 {
		t.Errorf("%d bytes are counted as kept when nothing is", n)
	}
	for i := range 4 {
		_, err := o.Open(fmt.Sprintf("live/%d", i), "", now)
		if (err != nil) != (i == 3) {
			t.Errorf("stream %d: %v", i, err)
		}
	}
}

// Segments beside long audio frames keep the target duration (RFC 8216bis 4.4.3.1).
func TestLongAudioFrames(t *testing.T) {
	for _, rate := range []int{8000, 11025, 16000, 22050} {
		cfg := Config{PartTarget: DefaultPartTarget}
		o := origin(cfg)
		f := newFeed(t, o, "live/a", 30, 73) // 2.433 s
		at := audioTrack()
		at.Timescale, at.SampleRate = uint32(rate), rate
		if err := f.pub.SetTracks([]media.Track{videoTrack(), at}); err != nil {
			t.Fatal(err)
		}
		f.audio = -1
		sounds := 0
		step := func(n int) {
			for range n {
				f.frame()
				for float64(sounds)*1024/float64(rate) < float64(f.frames)/30 {
					s := media.Sample{DTS: int64(sounds) * 1024, Sync: true, Arrived: f.at(float64(f.frames) / 30), Data: f.payload[:100]}
					if err := f.pub.WriteSample(1, &s); err != nil {
						t.Fatal(err)
					}
					sounds++
				}
			}
		}
		step(30)
		v, a := watch(t, rendition(t, o, "live/a", "video")), watch(t, rendition(t, o, "live/a", "audio"))
		step(1800)
		v.follow().checkParts(cfg, false)
		a.follow().checkParts(cfg, false)
		if len(a.segs) < 15 {
			t.Errorf("%d Hz: %d segments", rate, len(a.segs))
		}
	}
}

// A publisher that comes and goes leaves a playlist of three target durations of media, however long it was away
// (RFC 8216bis 6.2.2).
func TestFlappingPublisher(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	var wall int64
	for i := range 60 {
		f := newFeed(t, o, "live/a", 30, 60)
		wall = f.wall + int64(i)*20e9
		f.wall = wall
		f.tracks().run(0.3)
		f.pub.Close(errors.New("reset"))
	}
	w := rendition(t, o, "live/a", "video").Window()
	var sum int64
	for _, s := range w.Segments {
		sum += s.Duration
	}
	if sum < 3*2*90000 {
		t.Errorf("the playlist lasts %.2f s", float64(sum)/90000)
	}
}

// A segment stays for its duration and that of the longest playlist it was in, also when segments become shorter
// (RFC 8216bis 6.2.2).
func TestRetentionShrinks(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget, TargetDuration: 4 * time.Second})
	f := newFeed(t, o, "live/a", 30, 132)
	f.tracks().run(0.1)
	v := watch(t, rendition(t, o, "live/a", "video"))
	left := map[uint64]int64{} // when a segment left the playlist
	kept := map[uint64]int64{} // until when it must stay
	var longest int64
	for step := range 3000 {
		if step == 1500 {
			f.gop = 90
		}
		f.run(0.1)
		w := v.r.Window()
		if len(w.Segments) == 0 {
			continue
		}
		edge := w.Segments[len(w.Segments)-1].Start + w.Segments[len(w.Segments)-1].Duration
		longest = max(longest, edge-w.Segments[0].Start)
		for _, s := range v.follow().segs {
			if s.MSN < w.Segments[0].MSN && left[s.MSN] == 0 {
				left[s.MSN] = edge
				kept[s.MSN] = edge + s.Duration + longest
			}
			if _, ok := w.Segment(s.MSN); !ok && edge < kept[s.MSN] {
				t.Fatalf("segment %d is gone %.1f s too early", s.MSN, float64(kept[s.MSN]-edge)/90000)
			}
		}
	}
}

// A frame rate stated too low does not spoil the start.
func TestStatedTooLow(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	f := newFeed(t, o, "live/a", 30, 60)
	f.depth = 0
	vt := videoTrack()
	vt.FrameRate = media.Ratio{Num: 1, Den: 1}
	if err := f.pub.SetTracks([]media.Track{vt, audioTrack()}); err != nil {
		t.Fatal(err)
	}
	f.run(10)
	for _, s := range rendition(t, o, "live/a", "video").Window().Segments {
		for _, p := range s.Parts {
			for _, r := range p.Samples {
				if r.CTO > 9000 || r.CTO < -9000 {
					t.Fatalf("a composition offset of %d ticks", r.CTO)
				}
			}
		}
	}
}

// A publication that is refused before anything of it could be played leaves nothing to play.
func TestRefusedLeavesNothing(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(0.5)
	st, _ := o.Stream("live/a")
	f.pub.Close(&media.UnsupportedError{What: "audio codec MP3"})
	if st.Run() != nil || o.kept.Load() != 0 {
		t.Error("a run is left")
	}
	// One that could be is not hurt.
	f = newFeed(t, o, "live/a", 30, 60).tracks().run(5)
	f.pub.Close(&media.UnsupportedError{What: "audio codec MP3"})
	if st.Run() == nil || st.Run().Ended() {
		t.Error("what was published is lost")
	}
}

// Audio that lags behind the video leaves a playlist without holes when its publisher is lost, wherever that is.
func TestLostWhileAudioLags(t *testing.T) {
	for at := 3.0; at < 7.2; at += 0.07 {
		cfg := Config{PartTarget: DefaultPartTarget}
		o := origin(cfg)
		f := newFeed(t, o, "live/a", 30, 60)
		f.ahead = -230
		f.tracks().run(0.5)
		v, a := watch(t, rendition(t, o, "live/a", "video")), watch(t, rendition(t, o, "live/a", "audio"))
		f.run(at)
		f.pub.Close(errors.New("reset"))
		g := newFeed(t, o, "live/a", 30, 60)
		g.wall += 20e9
		g.tracks().run(5)
		v.follow().check(cfg)
		a.follow().check(cfg)
		for _, s := range a.segs {
			var sum int64
			for _, p := range s.Parts {
				sum += p.Duration
			}
			if !s.Gap && max(s.Duration-sum, sum-s.Duration) > 1024 {
				t.Errorf("lost after %.2f s: segment %d lasts %d, its parts %d", at, s.MSN, s.Duration, sum)
			}
		}
	}
}

// A picture that has stood still for long is written late. Where the encoder goes then, its segment ends where it is presented.
func TestStillAndGone(t *testing.T) {
	for _, long := range []LongGOP{Stretch, CutGOP} {
		for _, more := range []int{1, 2, 4} { // frames after that
			for _, tick := range []float64{0, 12.7, 15.8} { // 0: it says goodbye
				cfg := Config{PartTarget: DefaultPartTarget, LongGOP: long}
				o := origin(cfg)
				f := newFeed(t, o, "live/a", 30, map[LongGOP]int{Stretch: 60, CutGOP: 250}[long]).tracks()
				f.depth = 0
				f.run(10.6)
				for float64(f.audios)*1024/48000 < 12.55 {
					f.sound()
				}
				f.frames += 58
				for range more {
					f.frame()
				}
				if tick == 0 {
					f.pub.Close(errors.New("reset"))
				} else {
					o.Tick(time.Unix(0, f.at(tick)))
				}
				for _, id := range []string{"video", "audio"} {
					x := watch(t, rendition(t, o, "live/a", id))
					x.holes = true
					x.checkParts(cfg, false)
				}
			}
		}
	}
}

// A picture stands still from one segment into the next, and sound goes on: none is too long.
func TestStillAcrossABoundary(t *testing.T) {
	for _, part := range []time.Duration{0, DefaultPartTarget} {
		for _, gop := range []int{24, 30} {
			for _, pause := range []float64{1.5, 1.7, 1.97} {
				cfg := Config{WindowSegments: 100, TargetDuration: time.Second, PartTarget: part}
				o := origin(cfg)
				f := newFeed(t, o, "live/a", 30, gop).tracks()
				from := gop*6 - 1
				to := from + int(pause*30)
				for f.frames < 12*30 {
					if f.frames >= from && f.frames < to {
						f.frames++
						continue
					}
					for float64(f.audios)*1024/48000 < float64(f.frames)/30 {
						f.sound()
					}
					f.frame()
				}
				for _, id := range []string{"video", "audio"} {
					x := watch(t, rendition(t, o, "live/a", id))
					x.holes = true
					x.checkParts(cfg, false)
				}
			}
		}
	}
}
