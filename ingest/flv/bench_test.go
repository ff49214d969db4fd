package flv

import (
	"encoding/hex"
	"runtime"
	"testing"

	"headwater/ingest"
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

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func newSecond(record string, lengthSize int, enhanced bool) *second {
	hexed := mustHex
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

// multi makes each message one of four tracks, with the same in each.
func (s *second) multi() *second {
	four := func(head string, bodies []byte) []byte {
		m := mustHex(head)
		for id := range byte(4) {
			m = append(append(m, id, byte(len(bodies)>>16), byte(len(bodies)>>8), byte(len(bodies))), bodies...)
		}
		return m
	}
	s.config = [][]byte{four("9610"+avc1, s.config[0][5:]), four("9510"+mp4a, s.config[1][2:])}
	for i, b := range s.video {
		s.video[i] = four("a613"+avc1, b[5:])
	}
	for i, b := range s.audio {
		s.audio[i] = four("9511"+mp4a, b[2:])
	}
	return s
}

var seconds = []struct {
	name       string
	record     string
	lengthSize int
	enhanced   bool
	tracks     int
}{{"legacy", avcA, 4, false, 1}, {"enhanced", avcA, 4, true, 1}, {"length size 2", avcA2, 2, false, 1}, {"four tracks", avcA, 4, true, 4}}

// TestNoAllocation counts over ten stream-seconds, three times, after one to let buffers grow.
func TestNoAllocation(t *testing.T) {
	for _, c := range seconds {
		t.Run(c.name, func(t *testing.T) {
			var w discard
			d := Demuxer{W: &w, Open: func(int) (ingest.Writer, error) { return &w, nil }}
			s := newSecond(c.record, c.lengthSize, c.enhanced)
			if c.tracks > 1 {
				s.multi()
			}
			s.start(t, &d)
			s.play(t, &d, 0)
			mallocs := uint64(1 << 63)
			for turn := range int64(3) { // the runtime has its own now and then
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for n := range int64(10) {
					s.play(t, &d, 1+10*turn+n)
				}
				runtime.ReadMemStats(&after)
				mallocs = min(mallocs, after.Mallocs-before.Mallocs)
			}
			if mallocs > 5 {
				t.Errorf("%d allocations in ten stream-seconds of %d samples", mallocs, w.samples/31*10)
			}
			if w.samples != 31*77*c.tracks {
				t.Errorf("%d samples", w.samples)
			}
		})
	}
}

func BenchmarkDemuxer(b *testing.B) {
	for _, c := range seconds {
		b.Run(c.name, func(b *testing.B) {
			var w discard
			d := Demuxer{W: &w, Open: func(int) (ingest.Writer, error) { return &w, nil }}
			s := newSecond(c.record, c.lengthSize, c.enhanced)
			if c.tracks > 1 {
				s.multi()
			}
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
