package demo

import (
	"encoding/binary"
	"errors"
	"testing"

	"headwater/segmenter/media"
)

// The figures are those that make-clip.sh promises.
func TestBundledClip(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	if c.Meta == nil || len(c.Tracks) != 2 || c.Length != 16000 {
		t.Fatalf("got metadata %v, %d tracks, length %d", c.Meta != nil, len(c.Tracks), c.Length)
	}
	if v := c.Tracks[0]; v.Type != typeVideo || len(v.Tags) != 480 {
		t.Errorf("video: type %d, %d frames, want 480", v.Type, len(v.Tags))
	}
	if a := c.Tracks[1]; a.Type != typeAudio || len(a.Tags)*1024 != 16*48000 {
		t.Errorf("audio: type %d, %d frames, want exactly 16 s of 1,024 samples at 48 kHz", a.Type, len(a.Tags))
	}
	reordered := false
	for i, tag := range c.Tracks[0].Tags {
		// AVCVIDEOPACKET's CompositionTime, E.4.3.1.
		if cto := int(tag.Body[2])<<16 | int(tag.Body[3])<<8 | int(tag.Body[4]); cto > 67 {
			reordered = true
		}
		if key := tag.Body[0]>>4 == 1; key != (i%60 == 0) {
			t.Errorf("frame %d: key frame %v, want one every 60 frames", i, key)
		}
	}
	if !reordered {
		t.Error("the video has no B frames")
	}
	if len(clip) > 3<<20 {
		t.Errorf("%d bytes are more than a repository should carry", len(clip))
	}
}

// Over days, each track's times rise by its own cadence and the tracks keep their distance.
func TestLoopNeitherJumpsNorDrifts(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 500
	l := loop{clip: c}
	last := map[byte]uint64{}
	count := map[byte]uint64{}
	var before uint64
	for count[typeVideo] < rounds*480 {
		f := l.frame()
		if f.Time < before {
			t.Fatalf("frame at %d ms after one at %d ms", f.Time, before)
		}
		before = f.Time
		if n := count[f.Type]; n > 0 {
			step := f.Time - last[f.Type]
			low, high := uint64(33), uint64(34)
			if f.Type == typeAudio {
				low, high = 21, 22
			}
			if step < low || step > high {
				t.Fatalf("type %d, frame %d at %d ms: %d ms after the last", f.Type, n, f.Time, step)
			}
		}
		last[f.Type] = f.Time
		count[f.Type]++
	}
	if n := count[typeAudio]; n < rounds*750-4 || n > rounds*750+4 {
		t.Errorf("%d audio frames to %d video frames", n, count[typeVideo])
	}
}

// flvTag is one tag of an FLV file with the back pointer that follows it (E.3, E.4.1).
func flvTag(kind byte, time uint32, body ...byte) []byte {
	n := len(body)
	b := []byte{kind, byte(n >> 16), byte(n >> 8), byte(n), byte(time >> 16), byte(time >> 8), byte(time), byte(time >> 24), 0, 0, 0}
	return binary.BigEndian.AppendUint32(append(b, body...), uint32(11+n))
}

func flvFile(tags ...[]byte) []byte {
	b := []byte("FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00")
	for _, t := range tags {
		b = append(b, t...)
	}
	return b
}

var clips = []struct {
	name   string
	file   []byte
	length uint64 // 0: refused
}{
	{"video", flvFile(flvTag(9, 0, 0x17, 0), flvTag(9, 0, 0x17, 1), flvTag(9, 40, 0x27, 1)), 80},
	{"audio", flvFile(flvTag(8, 0, 0xaf, 0), flvTag(8, 0, 0xaf, 1), flvTag(8, 21, 0xaf, 1), flvTag(8, 43, 0xaf, 1)), 65},
	{"end of sequence left out", flvFile(flvTag(9, 0, 0x17, 0), flvTag(9, 0, 0x17, 1), flvTag(9, 40, 0x27, 1), flvTag(9, 40, 0x17, 2)), 80},
	{"equal times are set apart", flvFile(flvTag(9, 0, 0x17, 0), flvTag(9, 7, 0x17, 1), flvTag(9, 7, 0x27, 1)), 2},
	{"time of 32 bits", flvFile(flvTag(9, 0, 0x17, 0), flvTag(9, 0x01000000, 0x17, 1), flvTag(9, 0x01000028, 0x27, 1)), 80},
	{"empty", nil, 0},
	{"no tags", flvFile(), 0},
	{"not FLV", []byte("#EXTM3U\n#EXT-X-VERSION"), 0},
	{"header cut off", flvFile([]byte{9, 0, 0}), 0},
	{"body cut off", flvFile([]byte{9, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 2}), 0},
	{"offset beyond the end", []byte("FLV\x01\x05\xff\xff\xff\xff\x00\x00\x00\x00"), 0},
	{"no configuration", flvFile(flvTag(9, 0, 0x17, 1), flvTag(9, 40, 0x27, 1)), 0},
	{"one frame has no length", flvFile(flvTag(9, 0, 0x17, 0), flvTag(9, 0, 0x17, 1)), 0},
	{"audio longer than video", flvFile(flvTag(9, 0, 0x17, 0), flvTag(9, 0, 0x17, 1), flvTag(9, 40, 0x27, 1),
		flvTag(8, 0, 0xaf, 0), flvTag(8, 0, 0xaf, 1), flvTag(8, 80, 0xaf, 1)), 0},
}

func TestParse(t *testing.T) {
	for _, tt := range clips {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse(tt.file)
			if tt.length == 0 {
				var format *media.FormatError
				if !errors.As(err, &format) {
					t.Errorf("got error %v, want a FormatError", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.Length != tt.length {
				t.Errorf("length %d ms, want %d", c.Length, tt.length)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, tt := range clips {
		f.Add(tt.file)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			return
		}
		l := loop{clip: c}
		last := map[byte]uint64{}
		for range 100 {
			f := l.frame()
			if before, ok := last[f.Type]; ok && f.Time <= before {
				t.Fatalf("type %d at %d ms after %d ms", f.Type, f.Time, before)
			}
			last[f.Type] = f.Time
		}
	})
}
