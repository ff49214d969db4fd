package cmaf

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"headwater/segmenter/media"
)

// tables are sample tables of every layout that AppendHead chooses among.
func tables() (out [][]media.SampleInfo) {
	for bits := range 32 {
		rows := make([]media.SampleInfo, 1+bits%3)
		for i := range rows {
			rows[i] = media.SampleInfo{Duration: 3000, Size: 100}
			if bits&1 != 0 {
				rows[i].Duration += uint32(i)
			}
			if bits&2 != 0 {
				rows[i].Size += uint32(i)
			}
			if bits&4 != 0 {
				rows[i].CTO = int32(i*3000 - 1)
			}
			rows[i].Sync = bits&8 != 0 && i == 0 || bits&16 != 0
		}
		out = append(out, rows)
	}
	return out
}

func chunk(seq, track uint32, time uint64, rows []media.SampleInfo) []byte {
	b := AppendHead(nil, seq, track, time, rows)
	for i := range rows {
		b = append(b, make([]byte, rows[i].Size)...)
	}
	return b
}

func TestParseHead(t *testing.T) {
	for i, rows := range tables() {
		b := chunk(7, 2, 1<<40+5, rows)
		h, err := ParseHead(b)
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		var d int64
		for _, r := range rows {
			d += int64(r.Duration)
		}
		want := Head{Sequence: 7, Track: 2, Time: 1<<40 + 5, Samples: rows, Size: HeadSize(rows), Payload: len(b) - HeadSize(rows)}
		if diff := cmp.Diff(want, h); diff != "" || h.Duration() != d {
			t.Errorf("%d: -written +read:\n%s", i, diff)
		}
		for n := range h.Size {
			if _, err := ParseHead(b[:n]); err == nil {
				t.Fatalf("%d: %d bytes of %d are a head", i, n, h.Size)
			}
		}
	}
}

// FuzzParseHead: whatever is read as a head is what AppendHead writes for it, but for fields that it does not keep.
func FuzzParseHead(f *testing.F) {
	for _, rows := range tables() {
		f.Add(chunk(1, 1, 9000, rows))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHead(b)
		if err != nil {
			return
		}
		if h.Size > len(b) || len(h.Samples) == 0 || h.Payload < 0 {
			t.Fatalf("%+v of %d bytes", h, len(b))
		}
		again := AppendHead(nil, h.Sequence, h.Track, h.Time, h.Samples)
		g, err := ParseHead(again)
		g.Size = h.Size // the layout may be a smaller one
		if err != nil || !cmp.Equal(g, h) {
			t.Fatalf("%+v\n%+v\n%v", h, g, err)
		}
	})
}
