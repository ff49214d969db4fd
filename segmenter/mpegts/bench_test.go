package mpegts

import (
	"testing"
)

// TestEstimate: room is made once, and not much too much.
func TestEstimate(t *testing.T) {
	for _, c := range feeds {
		for i := range 3 {
			video, audio := c.video(i), c.sound(i)
			m := muxer{}
			size, err := m.plan(video, audio)
			if err != nil {
				t.Fatal(err)
			}
			b, err := AppendSegment(nil, 0, video, audio)
			if err != nil {
				t.Fatal(err)
			}
			if len(b) > size || size > 2*len(b)+20000 || c.bits >= 1_000_000 && size > len(b)+len(b)/8 {
				t.Errorf("%s: estimated %d bytes for %d", c.name, size, len(b))
			}
		}
	}
}

// TestNoAllocation: into a slice that is large enough nothing is allocated but the muxer, however many samples there are.
func TestNoAllocation(t *testing.T) {
	f := feed{seconds: 2, parts: 6, num: 24000, den: 1001, reorder: true, bits: 1_000_000, rate: 48000, audio: 341, language: "en"}
	video, audio := f.video(0), f.sound(0)
	dst := make([]byte, 0, 1<<20)
	if n := testing.AllocsPerRun(20, func() {
		if _, err := AppendSegment(dst, 1, video, audio); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations a segment", n)
	}
}

// BenchmarkAppendSegment writes a segment of 2 s: into new memory, as a cache does, and into old. Bytes are those of the segment.
func BenchmarkAppendSegment(b *testing.B) {
	for _, c := range []struct {
		name string
		feed
	}{
		{"400kbps", feed{seconds: 2, parts: 6, num: 24, den: 1, bits: 400_000, rate: 48000, audio: 171}},
		{"6Mbps", feed{seconds: 2, parts: 6, num: 30, den: 1, reorder: true, bits: 6_000_000, rate: 48000, audio: 341}},
		{"audio", feed{seconds: 2, parts: 6, rate: 48000, audio: 341}},
	} {
		video, audio := c.video(0), c.sound(0)
		run := func(name string, dst func() []byte) {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					s, err := AppendSegment(dst(), 1, video, audio)
					if err != nil {
						b.Fatal(err)
					}
					b.SetBytes(int64(len(s)))
				}
			})
		}
		run("new", func() []byte { return nil })
		old := make([]byte, 0, 4<<20)
		run("old", func() []byte { return old })
	}
}
