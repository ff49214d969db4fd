package journal

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"

	"headwater/segmenter/media"
)

// A Segment is an entry of an index: a complete segment whose chunks lie one after the other in the rendition's file. All entries
// are SegmentSize bytes long, so that one is found by its number.
type Segment struct {
	MSN, DiscSeq          uint64 // DiscSeq less than 1<<32
	Start, Duration, Wall int64
	At                    int64  // where it is in the rendition's file
	Size                  uint32 // bytes
	Arrived               int64  // when its last sample did, Unix ns
	IFrame                uint32 // bytes from its beginning on that hold its first I-frame; 0: it begins with none
	Samples               uint32
	Init                  uint16
	Disc, Independent     bool
	Gap                   bool // then Size is 0
}

// SegmentSize is the length of an entry in bytes.
const SegmentSize = 72

const (
	flagDisc = 1 << iota
	flagIndependent
	flagGap
)

// AppendSegment appends an entry of an index.
func AppendSegment(dst []byte, s *Segment) []byte {
	be, at := binary.BigEndian, len(dst)
	dst = be.AppendUint64(dst, s.MSN)
	dst = be.AppendUint64(dst, uint64(s.Start))
	dst = be.AppendUint64(dst, uint64(s.Duration))
	dst = be.AppendUint64(dst, uint64(s.Wall))
	dst = be.AppendUint64(dst, uint64(s.At))
	dst = be.AppendUint64(dst, uint64(s.Arrived))
	dst = be.AppendUint32(dst, s.Size)
	dst = be.AppendUint32(dst, s.IFrame)
	dst = be.AppendUint32(dst, s.Samples)
	dst = be.AppendUint32(dst, uint32(s.DiscSeq))
	dst = be.AppendUint16(dst, s.Init)
	var flags uint16
	for _, f := range [...]struct {
		on  bool
		bit uint16
	}{{s.Disc, flagDisc}, {s.Independent, flagIndependent}, {s.Gap, flagGap}} {
		if f.on {
			flags |= f.bit
		}
	}
	dst = be.AppendUint16(dst, flags)
	return be.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
}

// DecodeSegment decodes the entry that b begins with into s. The error is a *media.FormatError for bytes that are none.
func DecodeSegment(s *Segment, b []byte) error {
	be := binary.BigEndian
	if len(b) < SegmentSize {
		return media.Formatf("index", "ends within an entry")
	}
	b = b[:SegmentSize]
	if crc32.Checksum(b[:SegmentSize-4], castagnoli) != be.Uint32(b[SegmentSize-4:]) {
		return media.Formatf("index", "a wrong checksum")
	}
	flags := be.Uint16(b[66:])
	*s = Segment{
		MSN: be.Uint64(b), Start: int64(be.Uint64(b[8:])), Duration: int64(be.Uint64(b[16:])), Wall: int64(be.Uint64(b[24:])),
		At: int64(be.Uint64(b[32:])), Arrived: int64(be.Uint64(b[40:])),
		Size: be.Uint32(b[48:]), IFrame: be.Uint32(b[52:]), Samples: be.Uint32(b[56:]), DiscSeq: uint64(be.Uint32(b[60:])),
		Init: be.Uint16(b[64:]), Disc: flags&flagDisc != 0, Independent: flags&flagIndependent != 0, Gap: flags&flagGap != 0,
	}
	if s.At < 0 || s.Duration < 0 || s.IFrame > s.Size || s.Gap != (s.Size == 0) || flags >= flagGap<<1 {
		return media.Formatf("index", "an entry of nothing that there can be")
	}
	return nil
}

// Deltas are numbers that rise, or stay, by much the same each time. In JSON they are the varints of their differences, in base64.
type Deltas []int64

// MarshalJSON encodes d.
func (d Deltas) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 4*len(d)+binary.MaxVarintLen64)
	last := int64(0)
	for _, v := range d {
		b = binary.AppendVarint(b, v-last)
		last = v
	}
	out := append(make([]byte, 0, base64.StdEncoding.EncodedLen(len(b))+2), '"')
	return append(base64.StdEncoding.AppendEncode(out, b), '"'), nil
}

// UnmarshalJSON decodes what MarshalJSON has made, and an array of the numbers, which is what it used to make.
func (d *Deltas) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]int64)(d))
	}
	var s []byte
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*d = nil
	for v, last := (&varints{b: s}), int64(0); len(v.b) > 0; {
		last += v.signed()
		if v.bad {
			return media.Formatf("journal", "a list that ends within a number")
		}
		*d = append(*d, last)
	}
	return nil
}
