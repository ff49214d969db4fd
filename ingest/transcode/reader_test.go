package transcode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"headwater/ingest"
	"headwater/segmenter/media"
)

const fileHeader = "FLV\x01\x01\x00\x00\x00\x09\x00\x00\x00\x00"

// sequenceHeader is a tag's body, with a configuration record that ffmpeg 5.1 and libx264 made.
const sequenceHeader = "\x17\x00\x00\x00\x00" +
	"\x01\x42\xc0\x0d\xff\xe1\x00\x18\x67\x42\xc0\x0d\xd9\x01\x41\xfb\x01\x10\x00\x00" +
	"\x03\x00\x10\x00\x00\x03\x03\x20\xf1\x42\xa4\x80\x01\x00\x05\x68\xcb\x83\xcb\x20"

// flvTag makes one by the format's text.
func flvTag(kind byte, ts uint32, body string) string {
	n := uint32(len(body))
	b := binary.BigEndian.AppendUint32(nil, uint32(kind)<<24|n)
	b = append(b, byte(ts>>16), byte(ts>>8), byte(ts), byte(ts>>24), 0, 0, 0)
	b = append(b, body...)
	return string(binary.BigEndian.AppendUint32(b, n+11))
}

var streams = []struct {
	name, in string
	tags     int
	err      string // "" is io.EOF
}{
	{"nothing", "", 0, ""},
	{"header", fileHeader, 0, ""},
	{"longer header", "FLV\x01\x05\x00\x00\x00\x0b\x00\x00\x00\x00\x00\x00" + flvTag(8, 0, "a"), 1, ""},
	{"tags", fileHeader + flvTag(18, 0, "meta") + flvTag(9, 1<<24+5, "v") + flvTag(8, 1<<31-1, ""), 3, ""},
	{"large tag", fileHeader + flvTag(9, 0, strings.Repeat("x", 1<<20)), 1, ""},
	{"not FLV", "FLX\x01\x01\x00\x00\x00\x09\x00\x00\x00\x00", 0, "does not begin"},
	{"version", "FLV\x02\x01\x00\x00\x00\x09\x00\x00\x00\x00", 0, "does not begin"},
	{"offset", "FLV\x01\x01\xff\xff\xff\xff\x00\x00\x00\x00", 0, "does not begin"},
	{"short header", fileHeader[:5], 0, "ends inside"},
	{"short tag header", fileHeader + flvTag(9, 0, "v")[:7], 0, "ends inside"},
	{"short tag", fileHeader + flvTag(9, 0, "v") + flvTag(9, 0, "video")[:13], 1, "ends inside"},
	{"body cut off", fileHeader + flvTag(9, 0, "v")[:11], 0, "ends inside"},
	{"promise", fileHeader + "\x09\x7f\xff\xff\x00\x00\x00\x00\x00\x00\x00", 0, "ends inside"},
	{"too large", fileHeader + "\x09\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00", 0, "more than"},
	{"encrypted", fileHeader + flvTag(0x29, 0, "v"), 0, "type 41"},
	{"unknown", fileHeader + flvTag(7, 0, "v"), 0, "type 7"},
	{"negative", fileHeader + flvTag(9, 1<<31, "v"), 0, "negative"},
	{"size after", fileHeader + flvTag(9, 0, "v")[:12] + "\x00\x00\x00\x0d", 0, "says that"},
}

func TestReader(t *testing.T) {
	for _, c := range streams {
		for _, in := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in)), iotest.DataErrReader(strings.NewReader(c.in))} {
			r := tagReader{r: in}
			n := 0
			var err error
			for err == nil {
				var g tag
				if g, err = r.next(); err == nil {
					n++
					if cap(g.body) > len(g.body) {
						t.Errorf("%s: a body can be appended to", c.name)
					}
				}
			}
			var format *media.FormatError
			if n != c.tags || (c.err == "") != (err == io.EOF) || c.err != "" && (!strings.Contains(err.Error(), c.err) || !errors.As(err, &format)) {
				t.Errorf("%s: %d tags, %v", c.name, n, err)
			}
			if _, again := r.next(); again != err {
				t.Errorf("%s: then %v", c.name, again)
			}
			if limit := 2*len(c.in) + 4*readStep; len(r.buf) > limit {
				t.Errorf("%s: %d bytes of buffer", c.name, len(r.buf))
			}
		}
	}
	failing := errors.New("disk on fire")
	r := tagReader{r: io.MultiReader(strings.NewReader(fileHeader), iotest.ErrReader(failing))}
	if _, err := r.next(); !errors.Is(err, failing) {
		t.Error(err)
	}
}

// FuzzChild reads a rung that may be anything.
func FuzzChild(f *testing.F) {
	for _, c := range streams {
		if len(c.in) < 1<<16 { // a large one takes the fuzzer's time
			f.Add(false, []byte(c.in))
		}
	}
	f.Add(false, []byte(fileHeader+flvTag(9, 10_000, sequenceHeader)+flvTag(9, 10_000, "\x17\x01\x00\x00\x00"+string(nals("\x65key")))+
		flvTag(9, 10_033, "\x27\x01\x00\x00\x00"+string(nals("\x41one")))))
	f.Add(true, []byte(fileHeader+flvTag(8, 10_000, "\xaf\x00\x12\x10")+flvTag(8, 10_000, "\xaf\x01frame")))
	f.Fuzz(func(t *testing.T, audioRung bool, b []byte) {
		var w recorder
		l := &Ladder{Open: func(string, Rung) (ingest.Writer, error) { return &w, nil }}
		tr := newTranscoder(l, "live/x", nil)
		rung := planned{Rung: Rung{Name: "a", Audio: audioRung}}
		run := &run{plan: &plan{}, base: 1 << 33}
		o := newOutput(tr, run, rung)
		err := o.read(bytes.NewReader(b))
		var format *media.FormatError
		var unsupported *media.UnsupportedError
		if err != nil && !errors.As(err, &format) && !errors.As(err, &unsupported) {
			t.Fatalf("%T: %v", err, err)
		}
		if len(w.steps) > 0 && w.steps[0].tracks == nil {
			t.Fatal("a sample before any track")
		}
		for i, s := range w.steps {
			switch {
			case s.tracks != nil && (len(s.tracks) != 1 || !s.tracks[0].Ready() || (s.tracks[0].Kind == media.Audio) != audioRung):
				t.Fatalf("tracks %+v", s.tracks)
			case s.tracks == nil && i == 1 && !s.sample.Sync:
				t.Fatal("begins without a key frame")
			}
		}
	})
}

// BenchmarkRung is one video frame's way from the child's pipe to the rung's Writer.
func BenchmarkRung(b *testing.B) {
	l := &Ladder{Open: func(string, Rung) (ingest.Writer, error) { return discard{}, nil }}
	tr := newTranscoder(l, "live/x", nil)
	o := newOutput(tr, &run{plan: &plan{}}, planned{Rung: Rung{Name: "a"}})
	frame := []byte(flvTag(9, 0, "\x17\x01\x00\x00\x00"+string(nals("\x65"+strings.Repeat("x", 5000)))))
	src := &repeater{head: []byte(fileHeader + flvTag(9, 0, sequenceHeader)), frame: frame, n: b.N}
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	b.ResetTimer()
	if err := o.read(src); err != nil {
		b.Fatal(err)
	}
	if n := tr.count.framesOut.Load(); n != uint64(b.N) {
		b.Fatalf("%d frames of %d", n, b.N)
	}
}

// A repeater reads as head and n frames, a frame later each time.
type repeater struct {
	head, frame, left []byte
	n, at             int
}

func (r *repeater) Read(b []byte) (int, error) {
	if len(r.left) == 0 {
		switch {
		case r.head != nil:
			r.left, r.head = r.head, nil
		case r.at == r.n:
			return 0, io.EOF
		default:
			ms := r.at % 1_000_000 * 33
			r.frame[4], r.frame[5], r.frame[6], r.frame[7] = byte(ms>>16), byte(ms>>8), byte(ms), byte(ms>>24)
			r.left = r.frame
			r.at++
		}
	}
	n := copy(b, r.left)
	r.left = r.left[n:]
	return n, nil
}
