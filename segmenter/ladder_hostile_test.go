package segmenter

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"headwater/segmenter/media"
)

// sounds publishes audio alone beside others, on the time base that ladder gives them, from a time of the source on for so many
// seconds; it is ahead of the others by so many seconds in what it carries.
func sounds(t *testing.T, o *Origin, name, language string, from, seconds, ahead float64, beside ...*rung) *Publication {
	t.Helper()
	wall := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	pub, err := o.Open("live/a", name, wall)
	if err != nil {
		t.Fatal(err)
	}
	tr := audioTrack()
	tr.Language = language
	if err := pub.SetTracks([]media.Track{tr}); err != nil {
		t.Fatal(err)
	}
	for i := range int(seconds * 46.875) {
		at := from + float64(i)*1024/48000
		ladder(t, o, at, beside...)
		s := media.Sample{DTS: int64(200+(at+ahead)*1000) * 48, Sync: true, Arrived: wall.UnixNano() + int64(at*1e9), Data: make([]byte, 300)}
		if err := pub.WriteSample(0, &s); err != nil {
			t.Fatal(err)
		}
	}
	return pub
}

// The same audio as another publication's waits, and takes over when that leaves.
func TestAudioTwice(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget, WindowSegments: 100})
	a := &rung{name: "", to: 12}
	b := &rung{name: "720p"}
	b.pending = &feed{fps: sourceRate, gop: 60, depth: 2, audio: -1, speed: 1}
	pub := sounds(t, o, "audio", "", 3, 15, 0, a, b)
	if in := pub.input.Load(); in.State != Following {
		t.Errorf("after the feeder has left it is %s", in.State)
	}
	x := watchAll(t, o, "audio")[0]
	x.checkParts(Config{PartTarget: DefaultPartTarget}, false)
	if gaps := len(x.segs) - media0(x); gaps > 2 {
		t.Errorf("%d gaps", gaps)
	}
}

// Audio alone on the others' time base is laid on it, wherever it arrives within a second.
func TestAudioAlone(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget, WindowSegments: 100})
	a := &rung{name: ""}
	pub := sounds(t, o, "fr", "fr", 3, 8, 0, a)
	if in := pub.input.Load(); in.State != Following || in.By != SharedBase {
		t.Errorf("%s by %q", in.State, in.By)
	}
	video, audio := a.pub.shift.Load(), pub.shift.Load()
	if d := media.Rescale(audio.ticks, audio.scale, 90000) - video.ticks; d > 90 || d < -90 {
		t.Errorf("audio is %d ticks from its picture", d)
	}
	// One that runs ahead leaves no more than the picture has come to.
	ahead := sounds(t, o, "de", "de", 11, 6, 0.45, a)
	if err := ahead.Close(nil); err != nil {
		t.Fatal(err)
	}
	ladder(t, o, 25, a)
	for _, x := range watchAll(t, o, "audio_fr", "audio_de") {
		x.checkParts(Config{PartTarget: DefaultPartTarget}, false)
		aligned2(t, watchAll(t, o, "video")[0], x)
	}
}

// aligned2 holds that what both list begins at the same time, to within an audio frame (RFC 8216bis 6.2.4).
func aligned2(t *testing.T, v, a *watcher) {
	t.Helper()
	at := map[uint64]float64{}
	for _, s := range v.segs {
		at[s.MSN] = float64(s.Start) / 90000
	}
	for _, s := range a.segs {
		if want, ok := at[s.MSN]; ok && (float64(s.Start)/48000-want > 0.023 || float64(s.Start)/48000-want < -0.023) {
			t.Errorf("%s: segment %d begins at %.3f s, elsewhere at %.3f s", a.r.ID, s.MSN, float64(s.Start)/48000, want)
		}
	}
}

// A leader that trickles is not waited for: whoever is on time takes the lead.
func TestSlowLeader(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, WindowSegments: 100}
	o := origin(cfg)
	a, b := &rung{name: "1080p"}, &rung{name: "720p"}
	ladder(t, o, 9.5, a, b)
	for at := 10; at < 50; at++ {
		a.wall += int64(time.Second) * 29 / 30 // one frame a second
		a.picture()
		ladder(t, o, float64(at), b)
	}
	x := watchAll(t, o, "video_720p")[0]
	x.checkParts(cfg, false)
	if n := media0(x); n < 20 {
		st, _ := o.Stream("live/a")
		t.Errorf("%d segments with media of %d in 50 s: %v", n, len(x.segs), inputs(st))
	}
}

// A stream has so many renditions and no more, and who does not lead any more cannot be made to.
func TestLadderLimits(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	var pubs []*Publication
	for i := range MaxRenditions {
		pub, err := o.Open("live/a", fmt.Sprint(i, "p"), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		pubs = append(pubs, pub)
	}
	if _, err := o.Open("live/a", "more", time.Now()); !errors.Is(err, errRenditions) {
		t.Errorf("one more: %v", err)
	}
	for _, p := range pubs {
		p.Close(nil)
	}

	a, b := &rung{name: "1080p"}, &rung{name: "720p"}
	o = origin(Config{PartTarget: DefaultPartTarget})
	ladder(t, o, 9.5, a, b)
	run := b.pub.run
	a.pub.Close(errors.New("reset"))
	b.pub.Close(errors.New("reset"))
	if run.seize(b.pub, b.pub.arrived+int64(5*time.Second), true) || run.leads(b.pub) {
		t.Error("a publication that has left leads")
	}
}
