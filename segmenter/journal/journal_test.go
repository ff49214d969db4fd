package journal

import (
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headwater/segmenter/media"
)

var records = []any{
	&Run{Stream: "live/a", ID: "m1abc", Boot: "b", FirstMSN: 1764033360, Epoch: 1764033360_000_000_001, TargetDuration: 2e9, PartTarget: 334e6,
		WindowMin: 12e9, WindowSegments: 8, Target: 2, Slack: 450e6, Heard: 1764033370e9, Last: 1764033365, Discs: 3, Decided: 10e9, Edge: -1, Moved: 60e6, Due: true,
		Event: true, Record: 3600e9},
	&Boundary{MSN: 1764033365, DiscSeq: 3, Time: 10e9, Moved: -30e6, Disc: true},
	&Rendition{ID: "video_720p", Kind: media.Video, Rung: "720p", Lower: true},
	&Init{Track: media.Track{ID: 1, Kind: media.Video, Codec: media.Codec{Type: "avc1", String: "avc1.64001f", Config: []byte{1, 2}}, Timescale: 90000,
		Language: "en", Label: "<&>", BitRate: 1, Width: 1280, Height: 720, PixelAspect: media.Ratio{Num: 4, Den: 3}, FrameRate: media.Ratio{Num: 30, Den: 1},
		Color: media.Color{Primaries: 1, Transfer: 2, Matrix: 3, FullRange: true}, SampleRate: 48000, Channels: 2, FrameSamples: 1024},
		Bytes: []byte{0, 255, 3}, Number: 7},
	&Begin{Rendition: 1, Init: 2, MSN: 1 << 63, DiscSeq: 9, Time: -5, NextPart: -1, Wall: 1 << 62, Disc: true},
	&Part{Rendition: 3, At: 1 << 40, Size: 1 << 20, Head: 120, Time: 1 << 50, Duration: 30000, Arrived: 1 << 60, Independent: true,
		Samples: []media.SampleInfo{{Duration: 1<<32 - 1, Size: 1<<32 - 1, CTO: -1 << 31, Sync: true}, {Duration: 1, Size: 0, CTO: 1<<31 - 1}}},
	&Cut{Rendition: 31, End: 1 << 55},
	&State{Rendition: 1, First: 2, Until: []int64{5, 6}, Listed: 1, Longest: 2, NextPart: -1, Tail: 4, Parts: 1, Segments: 2, Gaps: 3, Samples: 4,
		Bytes: 5, Dropped: 6, Adjusted: 7, Peak: 8, MediaBytes: 1<<64 - 1, MediaTicks: 10, IFramePeak: 11, IFrameBytes: 12, IFrameTicks: 13},
	&Stored{Rendition: 31, Base: 1, From: 1 << 63, To: 1<<64 - 1},
	&Recording{Began: -1, Ended: 1 << 62, Bytes: 1 << 50, Keep: 3600e9},
	&Begun{},
	&Ended{},
}

func file(t testing.TB) (b []byte, ends []int) {
	b = AppendHeader(nil)
	if len(b) != HeaderSize {
		t.Fatalf("a header of %d bytes", len(b))
	}
	for _, r := range records {
		b = Append(b, r)
		ends = append(ends, len(b))
	}
	return b, ends
}

func readAll(b []byte) (got []any, d *Decoder, err error) {
	d, _, err = NewDecoder(b)
	if err != nil {
		return nil, nil, err
	}
	for {
		r, err := d.Next()
		if err != nil {
			return got, d, err
		}
		got = append(got, r)
	}
}

func TestRoundTrip(t *testing.T) {
	b, _ := file(t)
	got, d, err := readAll(b)
	if err != io.EOF || d.Offset() != len(b) {
		t.Fatalf("%v at %d of %d", err, d.Offset(), len(b))
	}
	if diff := cmp.Diff(records, got); diff != "" {
		t.Errorf("-written +read:\n%s", diff)
	}
}

// A file that ends anywhere is its whole records.
func TestTorn(t *testing.T) {
	b, ends := file(t)
	for n := range b {
		got, d, err := readAll(b[:n])
		if n < HeaderSize {
			if err == nil {
				t.Fatalf("%d bytes are a file", n)
			}
			continue
		}
		whole, want := 0, ErrTorn
		at := HeaderSize
		for _, e := range ends {
			if e <= n {
				whole++
				at = e
			}
		}
		if n == at {
			want = io.EOF
		}
		if len(got) != whole || d.Offset() != at || err != want {
			t.Fatalf("%d bytes: %d records, want %d; at %d, want %d; %v", n, len(got), whole, d.Offset(), at, err)
		}
	}
}

// Any byte that is not what was written is found, wherever it is; or the file seems to end before it.
func TestDamage(t *testing.T) {
	b, ends := file(t)
	for i := HeaderSize; i < len(b); i++ {
		b[i] ^= 0x41
		got, _, err := readAll(b)
		var format *media.FormatError
		if err != ErrTorn && !errors.As(err, &format) {
			t.Fatalf("byte %d: %v", i, err)
		}
		for k := range got {
			if ends[k] > i {
				t.Fatalf("byte %d: record %d is read", i, k)
			}
		}
		b[i] ^= 0x41
	}
}

func TestHeader(t *testing.T) {
	b := AppendHeader(nil)
	if _, state, err := NewDecoder(b); state != Current || err != nil {
		t.Errorf("state %c, %v", state, err)
	}
	b[StateAt] = Failed
	if _, state, err := NewDecoder(b); state != Failed || err != nil {
		t.Errorf("state %c, %v", state, err)
	}
	b[len(magic)-1]++
	if _, _, err := NewDecoder(b); err == nil {
		t.Error("another version is read")
	}
}

func FuzzDecoder(f *testing.F) {
	b, _ := file(f)
	f.Add(b)
	for _, r := range records {
		f.Add(Append(AppendHeader(nil), r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _, err := readAll(b)
		if err == nil {
			t.Fatal("no end")
		}
		// Bodies, past the checksum, that a fuzzer does not guess.
		if len(b) > 1 {
			if r, err := decode(b[0], b[1:]); err == nil {
				got = append(got, r)
			}
		}
		for _, r := range got {
			again, _, err := readAll(Append(AppendHeader(nil), r))
			if err != io.EOF || len(again) != 1 {
				t.Fatalf("%#v cannot be read again: %v", r, err)
			}
		}
	})
}

func BenchmarkAppendPart(b *testing.B) {
	p := &Part{At: 1 << 30, Size: 150_000, Head: 200, Time: 1 << 40, Duration: 30000, Arrived: 1 << 60, Samples: make([]media.SampleInfo, 10)}
	for i := range p.Samples {
		p.Samples[i] = media.SampleInfo{Duration: 3000, Size: 15000, CTO: 6000}
	}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = Append(dst[:0], p)
	}
	b.SetBytes(int64(len(dst)))
}
