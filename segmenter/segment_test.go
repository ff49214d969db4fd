package segmenter

import (
	"bytes"
	"testing"

	"headwater/segmenter/store"
)

// A counter is a Writer that counts writes.
type counter struct {
	bytes.Buffer
	writes int
}

func (c *counter) Write(b []byte) (int, error) {
	c.writes++
	return c.Buffer.Write(b)
}

// Every range of a segment is the same bytes, however its parts lie, and those that lie side by side are written at once.
func TestSegmentWriteRange(t *testing.T) {
	text := []byte("abcdefghijklmnopqrstuvwx")
	file, other := store.New(), store.New()
	file.Mark()
	other.Mark()
	stored := func(f *store.File, sizes ...int) (parts []*Part) {
		rest := text
		for i, n := range sizes {
			to := f
			if f == nil {
				to = file
				if i%3 == 2 {
					to = other
				}
			}
			parts = append(parts, &Part{chunk: to.Append(rest[:n/2], rest[n/2:n])})
			rest = rest[n:]
		}
		return parts
	}
	for _, c := range []struct {
		name   string
		parts  []*Part
		writes int // for the whole
	}{
		{"side by side", stored(file, 5, 1, 8, 10), 1},
		{"one part", stored(file, 24), 1},
		{"in two files", stored(nil, 4, 4, 4, 4, 4, 4), 4},
		{"in the heap", stored(&store.File{}, 5, 9, 10), 3},
	} {
		s := &Segment{Parts: c.parts}
		for from := 0; from <= len(text); from++ {
			for n := 0; from+n <= len(text); n++ {
				var w counter
				if err := s.WriteRange(&w, from, n); err != nil || w.String() != string(text[from:from+n]) {
					t.Fatalf("%s: %d bytes from %d: %q, %v", c.name, n, from, w.String(), err)
				}
				if n == len(text) && w.writes != c.writes {
					t.Errorf("%s: %d writes, want %d", c.name, w.writes, c.writes)
				}
			}
		}
	}
}

// A player that begins with a segment at its time 0 drops what is presented before that, and with a key frame all up to the next one:
// none is presented before it is decoded because its time has been rounded.
func TestKeyFramesAreNotEarly(t *testing.T) {
	for _, fps := range []float64{24, 25, 29.97, 30, 50, 59.94, 60} {
		o := origin(Config{PartTarget: DefaultPartTarget, WindowSegments: 100})
		f := newFeed(t, o, "live/a", fps, int(2*fps)).tracks()
		f.run(60)
		early := 0
		for _, s := range rendition(t, o, "live/a", "video").Window().Segments {
			if s.Parts[0].Samples[0].CTO < 0 {
				early++
			}
		}
		if early > 0 {
			t.Errorf("%v frames a second: %d segments begin before their decode time", fps, early)
		}
	}
}
