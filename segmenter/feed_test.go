package segmenter

import (
	"cmp"
	"math"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"headwater/segmenter/media"
)

// avcC of 1280x720 High without timing information, and an AudioSpecificConfig of 48 kHz stereo AAC-LC.
var (
	testAVCC = []byte{1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 22,
		0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0,
		1, 0, 6, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0}
	testASC = []byte{0x11, 0x90}
)

func videoTrack() media.Track {
	return media.Track{ID: 1, Kind: media.Video, Codec: media.Codec{Type: "avc1", String: "avc1.64001f", Config: testAVCC},
		Timescale: 90000, Width: 1280, Height: 720}
}

func audioTrack() media.Track {
	return media.Track{ID: 2, Kind: media.Audio, Codec: media.Codec{Type: "mp4a", String: "mp4a.40.2", Config: testASC},
		Timescale: 48000, SampleRate: 48000, Channels: 2, FrameSamples: 1024}
}

// often is how often a test does again and again what no two goroutines do at one time: with the race detector, which makes it
// ten times slower and finds nothing in it, a quarter of n. .ci/run runs these tests without it too.
func often(n int) int {
	if raceEnabled {
		return (n + 3) / 4
	}
	return n
}

// A feed is an encoder: it makes the samples of one publication with timestamps in whole milliseconds, as RTMP has them, and
// delivers them in the order of their decode times.
type feed struct {
	t     testing.TB
	pub   *Publication
	fps   float64
	gop   int   // frames
	depth int   // composition offset of a key frame, frames
	base  int64 // of the timestamps, ms
	wall  int64 // Unix ns at frame 0
	ahead int64 // by how much audio arrives before video of the same time, ms

	frames, audios int
	video, audio   int // track index, -1: none
	payload        []byte
	size           int // bytes of a frame; 0 is 1000 to 4000
	keyAt          func(n int) bool
	openAt         func(n int) bool  // whether the nth frame, if it is no key frame, is a recovery point
	jitter         func(n int) int64 // ms, added to video timestamps
	speed          float64           // of the wall clock
	sound0         media.Track       // the audio track; the zero Track is audioTrack
	beside         bool              // shares the source's times
}

func newFeed(t testing.TB, o *Origin, name string, fps float64, gop int) *feed {
	t.Helper()
	wall := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	pub, err := o.Open(name, "", wall)
	if err != nil {
		t.Fatal(err)
	}
	return &feed{t: t, pub: pub, fps: fps, gop: gop, depth: 2, wall: wall.UnixNano(), video: 0, audio: 1, payload: make([]byte, 4000), speed: 1}
}

func (f *feed) tracks() *feed {
	f.t.Helper()
	var ts []media.Track
	if f.video >= 0 {
		ts = append(ts, videoTrack())
	}
	if f.audio >= 0 {
		a := f.sound0
		if a.Kind == 0 {
			a = audioTrack()
		}
		ts = append(ts, a)
	}
	if err := f.pub.SetTracks(ts); err != nil {
		f.t.Fatal(err)
	}
	return f
}

// run feeds d seconds of media.
func (f *feed) run(d float64) *feed {
	f.t.Helper()
	end := d
	start := math.Inf(1)
	if f.video >= 0 {
		start = float64(f.frames) / f.fps
	}
	if f.audio >= 0 {
		start = min(start, float64(f.audios)*1024/48000)
	}
	end += start
	for {
		v, a := math.Inf(1), math.Inf(1)
		if f.video >= 0 {
			v = float64(f.frames) / f.fps
		}
		if f.audio >= 0 {
			a = float64(f.audios)*1024/48000 - float64(f.ahead)/1000
		}
		if min(v, a) >= end {
			return f
		}
		if v <= a {
			f.frame()
		} else {
			f.sound()
		}
	}
}

func (f *feed) at(sec float64) int64 { return f.wall + int64(sec*1e9/f.speed) }

func (f *feed) frame() {
	f.t.Helper()
	n := f.frames
	f.frames++
	sec := float64(n) / f.fps
	ms := f.base + int64(math.Round(sec*1000))
	if f.jitter != nil {
		ms += f.jitter(n)
	}
	key := n%f.gop == 0
	if f.keyAt != nil {
		key = f.keyAt(n)
	}
	cto := int64(math.Round(float64(f.depth)/f.fps*1000)) * 90
	if !key && f.depth > 0 && n%2 == 1 {
		cto = 0
	}
	s := media.Sample{DTS: ms * 90, CTO: int32(cto), Sync: key, Arrived: f.at(sec), Data: f.payload[:1000+n*37%3000]}
	s.Recovery = !key && f.openAt != nil && f.openAt(n)
	if f.size > 0 {
		s.Data = f.payload[:f.size]
	}
	if err := f.pub.WriteSample(f.video, &s); err != nil {
		f.t.Fatalf("frame %d: %v", n, err)
	}
}

func (f *feed) sound() {
	f.t.Helper()
	n := f.audios
	f.audios++
	sec := float64(n) * 1024 / 48000
	ms := f.base + int64(math.Round(sec*1000))
	if f.jitter != nil && f.video < 0 {
		ms += f.jitter(n)
	}
	scale := cmp.Or(f.sound0.Timescale, 48000)
	s := media.Sample{DTS: media.Rescale(ms, 1000, scale), Sync: true, Arrived: f.at(sec), Data: f.payload[:300+n%50]}
	if err := f.pub.WriteSample(f.audio, &s); err != nil {
		f.t.Fatalf("audio frame %d: %v", n, err)
	}
}

func rendition(t testing.TB, o *Origin, name, id string) *Rendition {
	t.Helper()
	s, ok := o.Stream(name)
	if !ok || s.Run() == nil {
		t.Fatalf("no run of %s", name)
	}
	r, ok := s.Run().Rendition(id)
	if !ok {
		t.Fatalf("no rendition %s of %s", id, name)
	}
	return r
}

// origin returns an origin that has a mark, and no other the same.
func origin(cfg Config) *Origin {
	return &Origin{Config: func(string) Config { return cfg }, Mark: strconv.FormatInt(origins.Add(1), 36)}
}

var origins atomic.Int64
