package cmaf

import (
	"encoding/binary"

	"headwater/segmenter/media"
)

// A Head is what AppendHead has written.
type Head struct {
	Sequence uint32
	Track    uint32
	Time     uint64 // tfdt, ticks of the track
	Samples  []media.SampleInfo
	Size     int // bytes, those of the mdat's header included
	Payload  int // bytes of the samples, which follow
}

// Duration is that of its samples together, in ticks.
func (h *Head) Duration() int64 {
	var d int64
	for i := range h.Samples {
		d += int64(h.Samples[i].Duration)
	}
	return d
}

// Limits on what is read.
const (
	MaxHead    = 4 << 20 // bytes
	maxSamples = 1 << 16
)

// BoxSize is how long a box is whose first 8 bytes are b, which AppendHead has written: none has a 64-bit size.
func BoxSize(b []byte) int { return int(binary.BigEndian.Uint32(b)) }

// MdatHeader is how long the header of an mdat box is.
const MdatHeader = mdatHeader

// ParseHead reads the head of the chunk that b begins with: what AppendHead writes, and no other form of a moof box. The error
// is a *media.FormatError.
func ParseHead(b []byte) (h Head, err error) {
	r := reader{b: b}
	moof := r.box("moof")
	mfhd := moof.box("mfhd")
	mfhd.u32()
	h.Sequence = mfhd.u32()
	traf := moof.box("traf")

	tfhd := traf.box("tfhd")
	flags := tfhd.u32()
	h.Track = tfhd.u32()
	var all media.SampleInfo // what is said once
	if flags&tfhdDefaultDuration != 0 {
		all.Duration = tfhd.u32()
	}
	if flags&tfhdDefaultSize != 0 {
		all.Size = tfhd.u32()
	}
	if flags&tfhdDefaultFlags != 0 {
		all.Sync = isSync(tfhd.u32())
	}
	tfdt := traf.box("tfdt")
	wide := tfdt.u32()
	h.Time = uint64(tfdt.u32())<<32 | uint64(tfdt.u32())

	trun := traf.box("trun")
	columns := trun.u32() &^ (1 << 24)
	n := int(trun.u32())
	offset := int(trun.u32())
	first, given := all.Sync, columns&trunFirstFlags != 0
	if given {
		first = isSync(trun.u32())
	}
	row := 0
	for _, c := range [...]uint32{trunDuration, trunSize, trunFlags, trunOffset} {
		if columns&c != 0 {
			row += 4
		}
	}
	if r.bad || moof.bad || mfhd.bad || tfhd.bad || tfdt.bad || trun.bad || traf.bad || wide != 1<<24 || columns&trunDataOffset == 0 ||
		flags&tfhdBaseIsMoof == 0 || n <= 0 || n > maxSamples || len(trun.b) != n*row {
		return Head{}, media.Formatf("moof", "not of the form that is written here")
	}
	h.Samples = make([]media.SampleInfo, n)
	var payload uint64
	for i := range h.Samples {
		s := all
		if i == 0 {
			s.Sync = first
		}
		if columns&trunDuration != 0 {
			s.Duration = trun.u32()
		}
		if columns&trunSize != 0 {
			s.Size = trun.u32()
		}
		if columns&trunFlags != 0 {
			s.Sync = isSync(trun.u32())
		}
		if columns&trunOffset != 0 {
			s.CTO = int32(trun.u32())
		}
		payload += uint64(s.Size)
		h.Samples[i] = s
	}
	at := len(b) - len(r.b)
	if len(r.b) < mdatHeader || string(r.b[4:8]) != "mdat" || uint64(BoxSize(r.b)) != mdatHeader+payload || offset != at+mdatHeader {
		return Head{}, media.Formatf("moof", "another mdat follows than that of its samples")
	}
	h.Size, h.Payload = at+mdatHeader, int(payload)
	return h, nil
}

func isSync(flags uint32) bool { return flags == syncFlags }

// A reader reads numbers and boxes. Once bad it reads zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) u32() uint32 {
	if len(r.b) < 4 {
		r.b, r.bad = nil, true
		return 0
	}
	v := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

// box takes the box of that kind that comes next, and returns what is in it.
func (r *reader) box(kind string) reader {
	if len(r.b) < 8 || string(r.b[4:8]) != kind {
		r.b, r.bad = nil, true
		return reader{bad: true}
	}
	n := BoxSize(r.b)
	if n < 8 || n > len(r.b) {
		r.b, r.bad = nil, true
		return reader{bad: true}
	}
	in := reader{b: r.b[8:n]}
	r.b = r.b[n:]
	return in
}
