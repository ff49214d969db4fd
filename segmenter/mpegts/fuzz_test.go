package mpegts

import (
	"encoding/binary"
	"errors"
	"testing"

	"headwater/segmenter/media"
	"headwater/segmenter/mpegts/tstest"
)

// A source of the fuzzer's bytes; past the end they are zero.
type tape []byte

func (b *tape) take(n int) []byte {
	v := make([]byte, n)
	*b = (*b)[copy(v, *b):]
	return v
}

func (b *tape) u16() int { return int(binary.BigEndian.Uint16(b.take(2))) }

// source makes a Source of the fuzzer's bytes, with a table that may or may not match the data.
func (b *tape) source(t *media.Track) *Source {
	s := &Source{Track: t, Delay: int64(int16(b.u16()))}
	for range b.take(1)[0] % 4 {
		c := Chunk{Time: int64(int32(binary.BigEndian.Uint32(b.take(4)))) << (b.take(1)[0] % 33)}
		if n := len(s.Chunks); n > 0 && c.Time%2 == 0 {
			c.Time = s.Chunks[n-1].Time
			for _, r := range s.Chunks[n-1].Samples {
				c.Time += int64(r.Duration)
			}
		}
		size := 0
		for range b.take(1)[0] % 64 {
			flags := b.take(1)[0]
			r := media.SampleInfo{Duration: uint32(b.u16()) << (flags & 3), CTO: int32(int16(b.u16())), Size: uint32(b.u16() >> (flags >> 4)), Sync: flags&4 != 0}
			c.Samples = append(c.Samples, r)
			size += int(r.Size)
		}
		if b.take(1)[0] == 1 {
			size++
		}
		c.Data = make([]byte, size)
		at := 0
		for at < size && len(*b) > 0 {
			at += copy(c.Data[at:], *b)
			*b = (*b)[min(at, len(*b)):]
		}
		s.Chunks = append(s.Chunks, c)
	}
	return s
}

// FuzzAppendSegment: sources of any kind are refused properly, or become packets of which the parser objects to nothing
// but what is in the samples themselves.
func FuzzAppendSegment(f *testing.F) {
	f.Add(byte(3), uint32(48000), []byte(nil), []byte{0x11, 0x90}, []byte{0, 0, 1})
	f.Add(byte(1), uint32(90000), []byte{1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 1, 0x67, 1, 0, 1, 0x68}, []byte{},
		[]byte{0, 0, 1, 0, 0, 0, 0, 0, 2, 4, 0x0b, 0xb8, 0, 0, 0, 6, 0, 0x0b, 0xb8, 0, 0, 0, 6, 0, 0, 0, 0, 2, 0x65, 1, 0, 0, 0, 2, 0x41, 1})
	f.Add(byte(2), uint32(8000), []byte{}, []byte{0x15, 0x88}, []byte{0, 0, 1, 0, 0, 0, 0, 0, 3, 4, 4, 0, 0, 0, 0, 1, 4, 4, 0, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, which byte, scale uint32, avcC, config, data []byte) {
		if len(data) > 1<<16 || len(avcC) > 1<<10 {
			return
		}
		video, audio := avcTrack(1<<(which>>6%3)), aacTrack(48000)
		if len(avcC) > 0 {
			video.Codec.Config = avcC
		}
		if len(config) > 0 {
			audio.Codec.Config = config
		}
		if which&8 != 0 {
			video.Timescale = scale
		}
		if which&16 != 0 {
			audio.Timescale = scale
		}
		b := tape(data)
		var v, a *Source
		if which&1 != 0 {
			v = b.source(video)
		}
		if which&2 != 0 {
			a = b.source(audio)
		}
		var parts []byte
		for i := range uint64(2) {
			s, err := AppendSegment(nil, i, v, a)
			if err != nil {
				var format *media.FormatError
				var unsupported *media.UnsupportedError
				if !errors.As(err, &format) && !errors.As(err, &unsupported) || len(s) != 0 {
					t.Fatalf("%T: %v, %d bytes", err, err, len(s))
				}
				return
			}
			parts = append(parts, s...)
			// What the parser finds depends on the samples; but every PID must come to a multiple of 16.
			r, _ := tstest.Check([][]byte{s})
			for pid, n := range r.Packets {
				if pid&^1 == videoPID && n[0]%counters != 0 || pid&^1 != videoPID && n[0] != 1 {
					t.Fatalf("%d packets on PID %#x", n[0], pid)
				}
			}
			for i, p := range r.PES {
				if p.Data == nil {
					t.Fatalf("PES packet %d was not understood", i)
				}
			}
			for i := 1; i < len(r.PCR); i++ {
				if d := r.PCR[i].Value - r.PCR[i-1].Value; d < 0 || d > pcrGap {
					t.Fatalf("PCR gap %d", d)
				}
			}
		}
		if len(parts)%packetSize != 0 {
			t.Fatal("not whole packets")
		}
	})
}
