package transcode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	"headwater/segmenter/media"
)

// A discard is a Writer that takes everything.
type discard struct{ err error }

func (discard) SetTracks([]media.Track) error          { return nil }
func (d discard) WriteSample(int, *media.Sample) error { return d.err }
func (discard) Close(error) error                      { return nil }

// fed returns a Transcoder whose runs nobody serves.
func fed(w interface {
	SetTracks([]media.Track) error
	WriteSample(int, *media.Sample) error
	Close(error) error
}, tracks ...media.Track) *Transcoder {
	l := &Ladder{Rungs: []Rung{{Name: "a", Lines: 90, BitRate: 100_000}, {Name: "audio", Audio: true, BitRate: 96_000}}}
	t := newTranscoder(l, "live/x", w)
	t.started = true
	t.SetTracks(tracks)
	return t
}

// read makes n bytes that were queued come out of the ring; all with a negative n.
func read(r *ring, n int) []byte {
	var out []byte
	for n < 0 || len(out) < n {
		if r.head.Load() == r.tail.Load() {
			break
		}
		b, _ := r.next(nil)
		if n >= 0 {
			b = b[:min(len(b), n-len(out))]
		}
		out = append(out, b...)
		r.advance(len(b))
	}
	return out
}

// tags parses a whole stream.
func tags(t *testing.T, b []byte) (out []tag) {
	t.Helper()
	r := tagReader{r: bytes.NewReader(b)}
	for {
		g, err := r.next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		g.body = bytes.Clone(g.body)
		out = append(out, g)
	}
}

func nals(units ...string) []byte {
	var b []byte
	for _, u := range units {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(u))), u...)
	}
	return b
}

// The child's stream: what is in it, at which times, and what is not.
func TestFeed(t *testing.T) {
	tr := fed(discard{}, video(640, 360), audio(2))
	put := func(track int, dts int64, cto int32, sync bool, data []byte) {
		t.Helper()
		if err := tr.WriteSample(track, &media.Sample{DTS: dts, CTO: cto, Sync: sync, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	const start = int64(1) << 33 // ms: beyond FLV's clock
	put(0, (start-33)*90, 0, false, nals("\x41early"))
	put(1, (start-20)*48, 0, true, []byte("early"))
	put(0, start*90, 67*90, true, nals("\x06\x06", "\x65key"))
	put(1, (start-11_000)*48, 0, true, []byte("stale"))
	put(1, (start-3)*48, 0, true, []byte("before it"))
	put(0, (start+33)*90+1, 66*90-1, false, nals("\x06\x06\x01\x80", "\x41one", "\x41two"))
	put(0, (start+67)*90, -33*90, false, nals("\x06\x05\x01\x80", "\x41three"))
	r := tr.running()
	if tr.count.framesIn.Load() != 3 {
		t.Errorf("%d frames", tr.count.framesIn.Load())
	}
	want := []struct {
		kind byte
		ts   int64
		body string
	}{
		{9, 10000, "\x17\x00\x00\x00\x00\x01"},
		{8, 10000, "\xaf\x00\x11\x90"},
		{9, 10000, "\x17\x01\x00\x00\x43" + string(nals("\x06\x06", "\x65key"))},
		{8, 9997, "\xaf\x01before it"},
		{9, 10033, "\x27\x01\x00\x00\x42" + string(nals("\x41one", "\x41two"))},
		{9, 10067, "\x27\x01\xff\xff\xdf" + string(nals("\x06\x05\x01\x80", "\x41three"))},
	}
	got := tags(t, read(r.ring, -1))
	if len(got) != len(want) {
		t.Fatalf("%d tags: %v", len(got), got)
	}
	for i, g := range got {
		if w := want[i]; g.kind != w.kind || g.ts != w.ts || string(g.body) != w.body {
			t.Errorf("tag %d: %d at %d %q, want %d at %d %q", i, g.kind, g.ts, g.body, w.kind, w.ts, w.body)
		}
	}
	if tr.renew {
		t.Error("stale audio began a new run")
	}
}

// When a picture parameter set changes, the child goes on and is told; when the sequence parameter set or the size does, it does not.
func TestConfigChanges(t *testing.T) {
	config := func(sps, pps string) []byte {
		b := []byte{1, 0x42, 0, 0x1e, 0xff, 0xe1, 0, byte(len(sps))}
		b = append(append(b, sps...), 1, 0, byte(len(pps)))
		return append(b, pps...)
	}
	first := video(640, 360)
	first.Codec.Config = config("\x67\x42\x00\x1e\x11", "\x68\xce\x01")
	key := &media.Sample{Sync: true, Data: nals("\x65key")}
	for _, c := range []struct {
		name        string
		change      func(*media.Track)
		renew, tell bool
	}{
		{"bit rate", func(v *media.Track) { v.BitRate = 5 }, false, false},
		{"PPS", func(v *media.Track) { v.Codec.Config = config("\x67\x42\x00\x1e\x11", "\x68\xce\x02") }, false, true},
		{"SPS", func(v *media.Track) { v.Codec.Config = config("\x67\x42\x00\x1e\x12", "\x68\xce\x01") }, true, true},
		{"pixels", func(v *media.Track) { v.PixelAspect = media.Ratio{Num: 4, Den: 3} }, true, true},
	} {
		tr := fed(discard{}, first)
		tr.WriteSample(0, key)
		r := tr.running()
		read(r.ring, -1)
		second := first
		c.change(&second)
		tr.SetTracks([]media.Track{second})
		frame := *key
		frame.DTS = 90
		tr.WriteSample(0, &frame)
		if renewed := tr.running() != r; renewed != c.renew {
			t.Errorf("%s: a new child: %v", c.name, renewed)
		}
		told := bytes.Contains(read(tr.running().ring, -1), append([]byte{0x17, 0, 0, 0, 0}, second.Codec.Config...))
		if told != c.tell {
			t.Errorf("%s: told the child: %v", c.name, told)
		}
	}
}

// An audio configuration that changes takes another child.
func TestAudioConfigChanges(t *testing.T) {
	tr := fed(discard{}, audio(2))
	frame := &media.Sample{Sync: true, Data: []byte("a")}
	tr.WriteSample(0, frame)
	r := tr.running()
	mono := audio(1)
	mono.Codec.Config = []byte{0x11, 0x88}
	for _, c := range []struct {
		track media.Track
		renew bool
	}{{audio(2), false}, {mono, true}} {
		tr.SetTracks([]media.Track{c.track})
		tr.WriteSample(0, frame)
		if renewed := tr.running() != r; renewed != c.renew {
			t.Errorf("%x: a new child: %v", c.track.Codec.Config, renewed)
		}
	}
}

// A child that does not keep up loses whole GOPs, from a frame on until a key frame that comes when it has caught up.
func TestDrop(t *testing.T) {
	for _, c := range []struct {
		name string
		size int // of a frame; 25 a second
		fit  int // frames that are queued before the first is dropped
	}{
		{"time", 100, 101},
		{"bytes", 1 << 20, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := fed(discard{}, video(640, 360))
			data := nals("\x41" + string(make([]byte, c.size-5)))
			n := 0
			frame := func(key bool) {
				if err := tr.WriteSample(0, &media.Sample{DTS: int64(n) * 3600, Sync: key, Data: data}); err != nil {
					t.Fatal(err)
				}
				n++
			}
			gops := func() uint64 { return tr.count.droppedGOPs.Load() }
			frame(true)
			for gops() == 0 && n < 1000 {
				frame(false)
			}
			if n-1 != c.fit {
				t.Fatalf("frame %d was the first to be dropped, want %d", n-1, c.fit)
			}
			fedIn := tr.count.framesIn.Load()
			frame(false)
			frame(true)
			frame(false)
			if gops() != 2 {
				t.Errorf("%d GOPs dropped, want the rest of one and another", gops())
			}
			r := tr.running()
			read(r.ring, len(r.ring.buf)/3)
			if c.name == "bytes" {
				frame(true) // not yet by half
				if gops() != 3 {
					t.Errorf("resumed too early")
				}
			}
			read(r.ring, -1)
			frame(false)
			if tr.count.framesIn.Load() != fedIn {
				t.Error("resumed without a key frame")
			}
			dropped := tr.count.droppedFrames.Load()
			if want := uint64(n) - fedIn; dropped != want {
				t.Errorf("%d frames dropped, want %d", dropped, want)
			}
			frame(true)
			frame(false)
			if tr.count.framesIn.Load() != fedIn+2 {
				t.Error("not resumed")
			}
			at := int64(n-2) * 3600
			if _, lost := tr.exact.get(at/90-r.base, at); !lost {
				t.Error("the first frame after the loss does not say so")
			}
			if _, lost := tr.exact.get((at+3600)/90-r.base, at+3600); lost {
				t.Error("nor should the second")
			}
			if g := tags(t, append([]byte("FLV\x01\x01\x00\x00\x00\x09\x00\x00\x00\x00"), read(r.ring, -1)...)); len(g) != 2 || g[0].body[0] != 0x17 {
				t.Errorf("%d tags", len(g))
			}
		})
	}
}

// A child's start waits a while for a track that was announced, and not for ever.
func TestWaitsForAnnounced(t *testing.T) {
	announced := media.Track{ID: 2, Kind: media.Audio}
	tr := fed(discard{}, video(640, 360), announced)
	key := func(s int64) {
		tr.WriteSample(0, &media.Sample{DTS: s * 90000, Sync: true, Data: nals("\x65")})
	}
	key(0)
	key(2)
	if tr.running() != nil {
		t.Fatal("did not wait")
	}
	key(4)
	if r := tr.running(); r == nil || len(r.plan.rungs) != 1 {
		t.Fatal("waits for ever")
	}
	tr.SetTracks([]media.Track{video(640, 360), audio(2)})
	key(6)
	if r := tr.running(); len(r.plan.rungs) != 2 {
		t.Error("the audio that came late has no rung")
	}
}

// What the source's Writer returns is returned, and the sample that it refused is not transcoded.
func TestSourceError(t *testing.T) {
	refused := errors.New("refused")
	tr := fed(discard{refused}, video(640, 360))
	if err := tr.WriteSample(0, &media.Sample{Sync: true, Data: nals("\x65")}); err != refused {
		t.Error(err)
	}
	if tr.running() != nil {
		t.Error("it was transcoded")
	}
}

// Time near the end of FLV's clock takes a new child.
func TestClockEnds(t *testing.T) {
	tr := fed(discard{}, video(640, 360))
	key := func(ms int64) *run {
		tr.WriteSample(0, &media.Sample{DTS: ms * 90, Sync: true, Data: nals("\x65")})
		return tr.running()
	}
	first := key(0)
	if key(lastTime-headroom) != first {
		t.Error("began anew early")
	}
	second := key(lastTime - headroom + 1)
	if second == first || second.base != lastTime-2*headroom+1 {
		t.Errorf("did not begin anew, base %d", second.base)
	}
}

func TestRing(t *testing.T) {
	r := newRing(make([]byte, 16))
	var in, out []byte
	for i := range 100 {
		b := bytes.Repeat([]byte{byte(i)}, i%12)
		if len(b) > r.free() {
			t.Fatalf("%d bytes free", r.free())
		}
		r.put(b)
		r.publish()
		in, out = append(in, b...), append(out, read(r, -1)...)
	}
	if !bytes.Equal(in, out) {
		t.Error("not the same bytes")
	}
	r.put([]byte("last"))
	r.publish()
	r.close()
	if b, ok := r.next(nil); !ok || !slices.Contains(b, 'l') {
		t.Errorf("%q, %v", b, ok)
	}
	read(r, -1)
	if b, ok := r.next(nil); ok {
		t.Errorf("%q after the end", b)
	}
}

// Two goroutines, one ring.
func TestRingConcurrent(t *testing.T) {
	const size = 1 << 16
	r := newRing(make([]byte, 1<<10))
	go func() {
		for i := 0; i < size; {
			n := min(1+i%37, size-i, r.free())
			for range n {
				r.put([]byte{byte(i * 7 >> 3)})
				i++
			}
			r.publish()
		}
		r.close()
	}()
	i := 0
	for {
		b, ok := r.next(nil)
		if !ok {
			break
		}
		for _, v := range b {
			if v != byte(i*7>>3) {
				t.Fatalf("byte %d is %d", i, v)
			}
			i++
		}
		r.advance(len(b))
	}
	if i != size {
		t.Errorf("%d bytes", i)
	}
}

// BenchmarkFeed is one video sample's way into the queue, and the pump's out of it.
func BenchmarkFeed(b *testing.B) {
	for _, name := range []string{"passed on", "and queued"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			tr := fed(discard{}, video(640, 360))
			if name == "passed on" {
				tr.plan = nil
			}
			data := nals("\x41"+string(make([]byte, 12_000)), "\x41"+string(make([]byte, 12_000)))
			s := media.Sample{Data: data}
			b.SetBytes(int64(len(data)))
			for i := 0; b.Loop(); i++ {
				s.DTS, s.Sync = int64(i)*3000, i%60 == 0
				if err := tr.WriteSample(0, &s); err != nil {
					b.Fatal(err)
				}
				if r := tr.current; r != nil {
					for r.ring.head.Load() > r.ring.tail.Load() {
						chunk, _ := r.ring.next(nil)
						r.ring.advance(len(chunk))
					}
				}
			}
			if n := tr.count.droppedGOPs.Load(); n > 0 {
				b.Fatalf("%d GOPs dropped", n)
			}
		})
	}
}

// A source whose configuration comes and goes with every key frame costs neither memory nor a line of the log each time.
func TestChangesAllTheTime(t *testing.T) {
	const changes = 199 // the last is one that a rung is made of
	b := newBench(t, "ffmpeg", Rung{Name: "a", Lines: 90, BitRate: 100_000}, Rung{Name: "b", Lines: 180, BitRate: 100_000})
	tr := newTranscoder(&b.Ladder, "live/x", discard{})
	tr.started = true // nobody serves the runs
	sizes := []media.Track{video(640, 360), video(160, 90), video(192, 108)}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range changes {
		if err := tr.SetTracks([]media.Track{sizes[i%len(sizes)]}); err != nil {
			t.Fatal(err)
		}
		if err := tr.WriteSample(0, &media.Sample{DTS: int64(i) * 900, Sync: true, Data: nals("\x65")}); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / queueSize; n > 2 {
		t.Errorf("%d queues were allocated", n)
	}
	if n := strings.Count(b.log.String(), "left out"); n == 0 || n > maxTold {
		t.Errorf("%d lines in the log", n)
	}
	// What is queued in the end is the last run's alone.
	r := tr.running()
	if got := tags(t, read(r.ring, -1)); len(got) != 2 || got[1].ts != headroom {
		t.Errorf("%d tags: %+v", len(got), got)
	}
}
