package flv

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"

	"headwater/segmenter/media"
)

// A checker is a Writer that checks what every sample and track must be like.
type checker struct {
	t      *testing.T
	tracks []media.Track
}

func (c *checker) SetTracks(tracks []media.Track) error {
	if len(tracks) < len(c.tracks) || len(tracks) > 2 {
		c.t.Fatalf("%d tracks after %d", len(tracks), len(c.tracks))
	}
	for i, t := range tracks {
		if i < len(c.tracks) && t.Kind != c.tracks[i].Kind {
			c.t.Fatalf("track %d changed its kind", i)
		}
		if t.Ready() && (t.Timescale == 0 || t.Codec.String == "") {
			c.t.Fatalf("track %+v", t)
		}
		if t.Ready() && t.Kind == media.Video && t.Codec.Config[4]&3 != 3 {
			c.t.Fatal("length size is not 4")
		}
	}
	c.tracks = tracks
	return nil
}

func (c *checker) WriteSample(track int, s *media.Sample) error {
	if track >= len(c.tracks) || !c.tracks[track].Ready() {
		c.t.Fatalf("sample of track %d of %d", track, len(c.tracks))
	}
	if len(s.Data) == 0 {
		c.t.Fatal("empty sample")
	}
	if c.tracks[track].Kind == media.Audio {
		if !s.Sync || s.CTO != 0 {
			c.t.Fatalf("audio sample %+v", s)
		}
		return nil
	}
	idr, picture := false, false
	for b := s.Data; len(b) > 0; {
		if len(b) < 5 {
			c.t.Fatalf("%d bytes after the last NAL unit", len(b))
		}
		n := int(binary.BigEndian.Uint32(b))
		if n == 0 || n > len(b)-4 {
			c.t.Fatalf("NAL unit of %d bytes, %d left", n, len(b)-4)
		}
		switch typ := b[4] & 0x1f; typ {
		case 7, 8, 9:
			c.t.Fatalf("NAL unit of type %d in a sample", typ)
		case 1, 2, 3, 4, 5:
			picture = true
			idr = idr || typ == 5
		}
		b = b[4+n:]
	}
	if idr != s.Sync || !picture {
		c.t.Fatalf("sync %v, IDR %v, picture %v", s.Sync, idr, picture)
	}
	return nil
}

func (c *checker) Close(error) error { return nil }

// parserError fails unless err is one of the two that a parser may return.
func parserError(t *testing.T, err error) {
	t.Helper()
	var format *media.FormatError
	var unsupported *media.UnsupportedError
	if err != nil && !errors.As(err, &format) && !errors.As(err, &unsupported) {
		t.Fatalf("%T: %v", err, err)
	}
}

// seed adds each pair of messages of one kind that follow each other in a case.
func seed(f *testing.F, kind byte, add func(first, second []byte)) {
	for _, c := range cases {
		var last []byte
		for _, m := range c.messages {
			if m.kind == kind {
				b, err := hex.DecodeString(m.body)
				if err != nil {
					f.Fatal(err)
				}
				add(last, b)
				last = b
			}
		}
	}
}

func FuzzVideo(f *testing.F) {
	seed(f, 'v', func(first, second []byte) {
		for size := range byte(3) {
			f.Add(size, int64(40), first, second)
		}
	})
	f.Fuzz(func(t *testing.T, size byte, ts int64, first, second []byte) {
		d := Demuxer{W: &checker{t: t}}
		records := [...]string{"", avcA1, avcA2, avcA}
		if r := records[size%4]; r != "" {
			if err := v(0, "1700000000", r).send(&d); err != nil {
				t.Fatal(err)
			}
		}
		for _, b := range [][]byte{first, second} {
			if err := d.Video(ts, 0, b); err != nil {
				parserError(t, err)
				return
			}
			ts = ts/2 + 1
		}
	})
}

func FuzzAudio(f *testing.F) {
	seed(f, 'a', func(first, second []byte) { f.Add(int64(40), first, second) })
	f.Fuzz(func(t *testing.T, ts int64, first, second []byte) {
		d := Demuxer{W: &checker{t: t}}
		for _, b := range [][]byte{first, second} {
			if err := d.Audio(ts, 0, b); err != nil {
				parserError(t, err)
				return
			}
		}
	})
}

func FuzzData(f *testing.F) {
	seed(f, 'd', func(first, second []byte) { f.Add(second) })
	f.Fuzz(func(t *testing.T, b []byte) {
		d := Demuxer{W: &checker{t: t}}
		parserError(t, d.Data(b))
	})
}
