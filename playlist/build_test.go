package playlist

import (
	"fmt"
	"testing"
	"time"

	"headwater/segmenter"
	"headwater/segmenter/media"
)

// epoch is the wall clock at which the broadcasts of the tests begin.
var epoch = time.Date(2025, 11, 25, 1, 16, 0, 123_456_789, time.UTC).UnixNano()

const firstMSN = 1764033360

// A lane feeds one rendition through segmenter's own API. Frame i is decoded, and presented, at i*den/num seconds.
type lane struct {
	r        *segmenter.Rendition
	in       *segmenter.Init
	num, den int64
	perPart  int64 // frames
	i        int64 // next frame
	shift    int64 // nanoseconds that the wall clock has gained on the timeline, by pauses
	msn      uint64
	disc     uint64
	key      bool // the next part begins with a sync sample
	size     int  // bytes a frame
}

func initOf(track media.Track, n int) *segmenter.Init {
	return &segmenter.Init{Track: track, Hash: fmt.Sprintf("%024x", n)}
}

func videoTrack() media.Track {
	return media.Track{ID: 1, Kind: media.Video, Timescale: 90000, Width: 1280, Height: 720,
		Codec: media.Codec{Type: "avc1", String: "avc1.64001f"}}
}

func audioTrack() media.Track {
	return media.Track{ID: 2, Kind: media.Audio, Timescale: 48000, SampleRate: 48000, Channels: 2, FrameSamples: 1024,
		Codec: media.Codec{Type: "mp4a", String: "mp4a.40.2"}}
}

func newLane(run *segmenter.Run, id string, track media.Track, num, den int64) *lane {
	l := &lane{r: run.AddRendition(id, track.Kind), in: initOf(track, int(track.ID)), num: num, den: den, msn: run.FirstMSN, key: true, size: 100}
	l.perPart = max(int64(run.Config.PartTarget)*num/(den*int64(time.Second)), 1)
	l.r.Start(l.start(false))
	return l
}

func (l *lane) at(i int64) int64 { return i * int64(l.in.Track.Timescale) * l.den / l.num }
func (l *lane) now() int64       { return l.at(l.i) }
func (l *lane) seconds() float64 { return float64(l.i) * float64(l.den) / float64(l.num) }

func (l *lane) start(discontinuity bool) segmenter.Start {
	if discontinuity {
		l.disc++
	}
	return segmenter.Start{MSN: l.msn, Time: l.now(), NextPart: l.now(), Discontinuity: discontinuity, DiscSeq: l.disc, Init: l.in,
		ProgramTime: epoch + l.shift + media.Rescale(l.now(), l.in.Track.Timescale, media.Second)}
}

// part appends a part of n frames.
func (l *lane) part(n int64) {
	p := &segmenter.Part{Time: l.now(), Duration: l.at(l.i+n) - l.now(), Independent: l.key || l.in.Track.Kind == media.Audio}
	for k := range n {
		p.Samples = append(p.Samples, media.SampleInfo{Duration: uint32(l.at(l.i+k+1) - l.at(l.i+k)), Size: uint32(l.size), Sync: p.Independent && k == 0})
	}
	l.key = false
	l.i += n
	l.r.Append(p, make([]byte, int(n)*l.size))
}

// fill appends parts of that many frames in all; the last may be short.
func (l *lane) fill(frames int64, each func()) {
	for frames > 0 {
		n := min(l.perPart, frames)
		l.part(n)
		frames -= n
		if each != nil {
			each()
		}
	}
}

// cut completes the open segment and begins the next, with a key frame.
func (l *lane) cut(discontinuity bool) {
	l.msn++
	end := l.now()
	s := l.start(discontinuity)
	l.key = true
	l.r.Cut(end, &s)
}

// gap lets the open segment, which has no part, last that many frames, and cuts.
func (l *lane) gap(frames int64, discontinuity bool) {
	l.i += frames
	l.cut(discontinuity)
}

// A broadcast is a run of 30 frames a second with 48 kHz sound, cut every two seconds.
type broadcast struct {
	run          *segmenter.Run
	video, audio *lane
}

func newBroadcast(cfg segmenter.Config) *broadcast {
	run := segmenter.NewRun("m1abc", nil, cfg, firstMSN, epoch)
	return &broadcast{run, newLane(run, "video", videoTrack(), 30, 1), newLane(run, "audio", audioTrack(), 48000, 1024)}
}

func lowLatency() *broadcast {
	return newBroadcast(segmenter.Config{PartTarget: segmenter.DefaultPartTarget})
}

// frames is how many of the lane's frames reach t seconds.
func (l *lane) frames(t float64) int64 {
	n := int64(0)
	for float64(l.i+n)*float64(l.den) < t*float64(l.num)-1e-6 {
		n++
	}
	return n
}

// segments adds n segments of six parts.
func (b *broadcast) segments(n int) *broadcast {
	for range n {
		b.parts(6)
		b.cut(false)
	}
	return b
}

// parts adds n parts of ten frames to the video and what belongs to it to the audio.
func (b *broadcast) parts(n int) *broadcast {
	for range n {
		b.video.part(10)
		for k := b.audio.frames(b.video.seconds()); k >= b.audio.perPart; k -= b.audio.perPart {
			b.audio.part(b.audio.perPart)
		}
	}
	return b
}

func (b *broadcast) cut(discontinuity bool) *broadcast {
	b.audio.fill(b.audio.frames(b.video.seconds()), nil)
	b.video.cut(discontinuity)
	b.audio.cut(discontinuity)
	return b
}

func (b *broadcast) end() *broadcast {
	for _, l := range []*lane{b.video, b.audio} {
		if len(l.r.Window().Open.Parts) > 0 {
			l.r.Cut(l.now(), nil)
		}
	}
	b.run.End()
	return b
}

// text renders w without a cache.
func text(w *segmenter.Window, skip Skip) string { return string(AppendMedia(nil, w, skip)) }

func mustEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
