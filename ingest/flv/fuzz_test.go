package flv

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"

	"headwater/ingest"
	"headwater/ingest/amf0"
	"headwater/segmenter/media"
)

// A checker is a Writer that checks what every sample and track must be like.
type checker struct {
	t      *testing.T
	tracks []media.Track
	closed bool
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
		if t.Ready() && t.Kind == media.Video && lengthSize(&t) != 4 {
			c.t.Fatal("length size is not 4")
		}
	}
	c.tracks = tracks
	return nil
}

// lengthSize is that of the samples of a video track.
func lengthSize(t *media.Track) int {
	if t.Codec.Type == "hvc1" {
		return int(t.Codec.Config[21]&3) + 1
	}
	return int(t.Codec.Config[4]&3) + 1
}

func (c *checker) WriteSample(track int, s *media.Sample) error {
	if s.Clock < 0 || s.Clock > media.Day || s.Clock != 0 && (!s.Sync || c.closed) {
		c.t.Fatalf("sample %+v", s)
	}
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
		typ := b[4] & 0x1f
		left, slice, isIDR := typ >= 7 && typ <= 9, typ >= 1 && typ <= 5, typ == 5
		if c.tracks[track].Codec.Type == "hvc1" {
			typ = b[4] >> 1 & 0x3f
			left, slice, isIDR = typ >= 32 && typ <= 37, typ < 32, typ >= 16 && typ <= 20
		}
		if left {
			c.t.Fatalf("NAL unit of type %d in a sample", typ)
		}
		picture, idr = picture || slice, idr || isIDR
		b = b[4+n:]
	}
	if idr != s.Sync || !picture {
		c.t.Fatalf("sync %v, IDR %v, picture %v", s.Sync, idr, picture)
	}
	return nil
}

func (c *checker) Close(error) error {
	if c.closed {
		c.t.Fatal("closed twice")
	}
	c.closed = true
	return nil
}

// parserError fails unless err is one of the two that a parser may return.
func parserError(t *testing.T, err error) {
	t.Helper()
	var format *media.FormatError
	var unsupported *media.UnsupportedError
	if err != nil && !errors.As(err, &format) && !errors.As(err, &unsupported) {
		t.Fatalf("%T: %v", err, err)
	}
}

// checked is a Demuxer whose Writers are checkers, but for that of track 3, which cannot be opened, and that must be closed well.
func checked(t *testing.T) *Demuxer {
	return &Demuxer{W: &checker{t: t}, Open: func(id int) (ingest.Writer, error) {
		if id < 1 || id >= MaxTracks {
			t.Fatalf("track %d", id)
		}
		if id == 3 {
			return nil, ingest.ErrInUse
		}
		return &checker{t: t}, nil
	}}
}

// seed adds each pair of messages of one kind that follow each other in a case.
func seed(f *testing.F, kind byte, add func(first, second []byte)) {
	var all [][]message
	for _, c := range cases {
		all = append(all, c.messages)
	}
	for _, c := range multitrack {
		all = append(all, c.messages)
	}
	all = append(all, []message{onFI(0, "onFI", st("13:59:07.250")), onFI(0, "@setDataFrame", "onFi", amf0.Object{"tc": "13:59:07;12"})},
		[]message{v(0, "1700000000", avcT), v(0, "1701000000", nal(seiT), idr)})
	for _, messages := range all {
		var last []byte
		for _, m := range messages {
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
		d := checked(t)
		defer d.Close(nil)
		records := [...]string{"", avcA1, avcA2, avcA}
		if r := records[size%4]; r != "" {
			if err := v(0, "1700000000", r).send(d); err != nil {
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
		d := checked(t)
		defer d.Close(nil)
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
		d := checked(t)
		defer d.Close(nil)
		parserError(t, d.Data(5, b))
	})
}
