package journal

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var entries = []Segment{
	{MSN: 1<<64 - 1, DiscSeq: 1<<32 - 1, Start: -1 << 63, Duration: 1<<63 - 1, Wall: 1 << 62, At: 1<<63 - 1, Size: 1<<32 - 1, Arrived: -5, IFrame: 7,
		Samples: 1<<32 - 1, Init: 1<<16 - 1, Disc: true, Independent: true},
	{MSN: 1, Duration: 2, Gap: true},
	{MSN: 2, Size: 9, IFrame: 9, Disc: true},
}

func TestIndex(t *testing.T) {
	var b []byte
	for i := range entries {
		b = AppendSegment(b, &entries[i])
	}
	if len(b) != len(entries)*SegmentSize {
		t.Fatalf("%d bytes", len(b))
	}
	for i, want := range entries {
		var got Segment
		at := b[i*SegmentSize:]
		if err := DecodeSegment(&got, at); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("-written +read:\n%s", d)
		}
		for n := range SegmentSize {
			if DecodeSegment(&got, at[:n]) == nil {
				t.Fatalf("%d bytes are an entry", n)
			}
			at[n] ^= 4
			if DecodeSegment(&got, at) == nil {
				t.Fatalf("byte %d may be another", n)
			}
			at[n] ^= 4
		}
	}
	for _, s := range []Segment{{}, {Size: 1, Gap: true}, {Size: 1, IFrame: 2}, {Size: 1, At: -1}, {Size: 1, Duration: -1}} {
		if DecodeSegment(&s, AppendSegment(nil, &s)) == nil {
			t.Errorf("%+v can be", s)
		}
	}
}

// FuzzIndex: whatever is an entry is written like that.
func FuzzIndex(f *testing.F) {
	for i := range entries {
		f.Add(AppendSegment(nil, &entries[i]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Segment
		if DecodeSegment(&s, b) == nil && !slices.Equal(AppendSegment(nil, &s), b[:SegmentSize]) {
			t.Fatalf("%+v", s)
		}
	})
}

func TestDeltas(t *testing.T) {
	for _, want := range []Deltas{nil, {5}, {-1 << 63, 1<<63 - 1, 1<<63 - 1, 0}, {180000, 360000, 540000}} {
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got Deltas
		if err := json.Unmarshal(b, &got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v became %s and %v, %v", want, b, got, err)
		}
		if b, err = json.Marshal([]int64(want)); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &got); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s became %v, %v", b, got, err)
		}
	}
	for _, bad := range []string{`"gA=="`, `"?"`, `5`} { // a number without its end
		if err := json.Unmarshal([]byte(bad), new(Deltas)); err == nil {
			t.Errorf("%s is a list", bad)
		}
	}
}
