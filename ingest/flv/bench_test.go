package flv

import (
	"encoding/hex"
	"runtime"
	"testing"

	"headwater/segmenter/media"
)

// discard is a Writer that takes everything.
type discard struct{ samples, bytes int }

func (d *discard) SetTracks([]media.Track) error { return nil }
func (d *discard) WriteSample(_ int, s *media.Sample) error {
	d.samples++
	d.bytes += len(s.Data)
	return nil
}
func (d *discard) Close(error) error { return nil }

// A second is the messages of one second of a stream: 30 access units of 12 kB, the first an IDR picture, with
// delimiters, parameter sets and SEI as hardware encoders send them, and 47 frames of audio.
type second struct {
	config, video, audio [][]byte
	work                 []byte // video bodies are modified
}

func newSecond(record string, lengthSize int, enhanced bool) *second {
	hexed := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			panic(err)
		}
		return b
	}
	start, frame := "1700000000", "1701000000"
	if enhanced {
		start, frame = "9061766331", "a361766331"
	}
	s := &second{config: [][]byte{hexed(start + record), hexed("af00" + ascA)}, work: make([]byte, 0, 1<<16)}
	for i := range 30 {
		nals := []string{"09f0", "0601ff", "41" + hex.EncodeToString(make([]byte, 6000)), "41" + hex.EncodeToString(make([]byte, 6000))}
		if i == 0 {
			nals = []string{"09f0", spsA, ppsA, "0601ff", "65" + hex.EncodeToString(make([]byte, 24000))}
		}
		body := hexed(frame)
		for _, n := range nals {
			b := hexed(n)
			length := []byte{0, 0, byte(len(b) >> 8), byte(len(b))}
			body = append(append(body, length[4-lengthSize:]...), b...)
		}
		s.video = append(s.video, body)
	}
	for range 47 {
		s.audio = append(s.audio, append([]byte{0xaf, 1}, make([]byte, 340)...))
	}
	return s
}

func (s *second) start(t testing.TB, d *Demuxer) {
	if err := d.Video(0, 0, s.config[0]); err != nil {
		t.Fatal(err)
	}
	if err := d.Audio(0, 0, s.config[1]); err != nil {
		t.Fatal(err)
	}
}

func (s *second) play(t testing.TB, d *Demuxer, n int64) {
	for i, b := range s.video {
		s.work = append(s.work[:0], b...)
		if err := d.Video(n*1000+int64(i)*1000/30, 0, s.work); err != nil {
			t.Fatal(err)
		}
	}
	for i, b := range s.audio {
		if err := d.Audio(n*1000+int64(i)*1024/48, 0, b); err != nil {
			t.Fatal(err)
		}
	}
}

var seconds = []struct {
	name       string
	record     string
	lengthSize int
	enhanced   bool
}{{"legacy", avcA, 4, false}, {"enhanced", avcA, 4, true}, {"length size 2", avcA2, 2, false}}

// TestNoAllocation counts over ten stream-seconds, after one to let buffers grow.
func TestNoAllocation(t *testing.T) {
	for _, c := range seconds {
		t.Run(c.name, func(t *testing.T) {
			var w discard
			d := Demuxer{W: &w}
			s := newSecond(c.record, c.lengthSize, c.enhanced)
			s.start(t, &d)
			s.play(t, &d, 0)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for n := range int64(10) {
				s.play(t, &d, n+1)
			}
			runtime.ReadMemStats(&after)
			if n := after.Mallocs - before.Mallocs; n > 5 { // the runtime's own
				t.Errorf("%d allocations in ten stream-seconds of %d samples", n, w.samples)
			}
			if w.samples != 11*77 {
				t.Errorf("%d samples", w.samples)
			}
		})
	}
}

func BenchmarkDemuxer(b *testing.B) {
	for _, c := range seconds {
		b.Run(c.name, func(b *testing.B) {
			var w discard
			d := Demuxer{W: &w}
			s := newSecond(c.record, c.lengthSize, c.enhanced)
			s.start(b, &d)
			b.ReportAllocs()
			b.ResetTimer()
			for n := range b.N {
				s.play(b, &d, int64(n))
			}
			b.SetBytes(int64(w.bytes / b.N))
			b.ReportMetric(float64(w.samples)/b.Elapsed().Seconds(), "samples/s")
		})
	}
}
