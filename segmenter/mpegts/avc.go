package mpegts

import (
	"bytes"
	"encoding/binary"

	"headwater/segmenter/media"
)

// NAL unit types (ITU-T H.264, table 7-1).
const (
	nalIDR = 5
	nalSPS = 7
	nalPPS = 8
	nalAUD = 9
)

// startCode begins every NAL unit of a byte stream (ITU-T H.264, annex B), with the zero_byte that only some need.
var startCode = []byte{0, 0, 0, 1}

// delimiter is an access unit delimiter that promises no slice types; ISO/IEC 13818-1 2.14.1 wants one first in each
// access unit.
var delimiter = []byte{0, 0, 0, 1, nalAUD, 0xf0}

// avcParams is what an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1) says that samples do not.
type avcParams struct {
	lengthSize int
	sets       []byte // the parameter sets, each with a length of two bytes, in pieces of the record
	more       []byte
	size       int // bytes of all with start codes
}

func parseAVC(t *media.Track) (avcParams, error) {
	const where = "AVC configuration record"
	var p avcParams
	if t.Codec.Type != "avc1" {
		return p, &media.UnsupportedError{What: "video codec " + t.Codec.Type + " in MPEG-TS", Hint: "send H.264"}
	}
	b := t.Codec.Config
	if len(b) < 7 || b[0] != 1 {
		return p, media.Formatf(where, "is none")
	}
	if p.lengthSize = int(b[4]&3) + 1; p.lengthSize == 3 {
		return p, media.Formatf(where, "has a NAL unit length size of 3")
	}
	take := func(b []byte, n int) (sets, rest []byte, err error) {
		end := 0
		for range n {
			if len(b)-end < 2 {
				return nil, nil, media.Formatf(where, "ends before its parameter sets")
			}
			size := int(binary.BigEndian.Uint16(b[end:]))
			if end += 2; len(b)-end < size {
				return nil, nil, media.Formatf(where, "ends inside its parameter sets")
			}
			end += size
			p.size += len(startCode) + size
		}
		return b[:end], b[end:], nil
	}
	var rest []byte
	var err error
	if p.sets, rest, err = take(b[6:], int(b[5]&0x1f)); err != nil {
		return p, err
	}
	if len(rest) == 0 {
		return p, media.Formatf(where, "ends before its PPS")
	}
	p.more, _, err = take(rest[1:], int(rest[0]))
	return p, err
}

// write writes the parameter sets with start codes.
func (p *avcParams) write(o *out) {
	for _, sets := range [...][]byte{p.sets, p.more} {
		for len(sets) > 0 {
			end := 2 + int(binary.BigEndian.Uint16(sets))
			o.write(startCode)
			o.write(sets[2:end])
			sets = sets[end:]
		}
	}
}

// has says whether nal is one of the parameter sets.
func (p *avcParams) has(nal []byte) bool {
	for _, sets := range [...][]byte{p.sets, p.more} {
		for len(sets) > 0 {
			end := 2 + int(binary.BigEndian.Uint16(sets))
			if bytes.Equal(sets[2:end], nal) {
				return true
			}
			sets = sets[end:]
		}
	}
	return false
}

// unit takes the first NAL unit off a sample. Its length is checked.
func (p *avcParams) unit(b []byte) (nal, rest []byte, err error) {
	const where = "AVC sample"
	if len(b) < p.lengthSize {
		return nil, nil, media.Formatf(where, "has %d bytes after its last NAL unit", len(b))
	}
	var size uint32
	switch p.lengthSize {
	case 1:
		size = uint32(b[0])
	case 2:
		size = uint32(binary.BigEndian.Uint16(b))
	default:
		size = binary.BigEndian.Uint32(b)
	}
	b = b[p.lengthSize:]
	if uint64(size) > uint64(len(b)) {
		return nil, nil, media.Formatf(where, "has a NAL unit of %d bytes where %d are left", size, len(b))
	}
	return b[:size], b[size:], nil
}

// keeps says whether a NAL unit of a sample is written: not when delimiter or the record's parameter sets stand for it.
func (p *avcParams) keeps(nal []byte) bool {
	if len(nal) == 0 {
		return false
	}
	switch nal[0] & 0x1f {
	case nalAUD:
		return false
	case nalSPS, nalPPS:
		return !p.has(nal)
	}
	return true
}

// measure returns how many bytes a sample takes in a byte stream, without the record's parameter sets, and whether it is an
// IDR picture.
func (p *avcParams) measure(sample []byte) (size int, idr bool, err error) {
	size = len(delimiter)
	for len(sample) > 0 {
		var nal []byte
		if nal, sample, err = p.unit(sample); err != nil {
			return 0, false, err
		}
		if p.keeps(nal) {
			size += len(startCode) + len(nal)
			idr = idr || nal[0]&0x1f == nalIDR
		}
	}
	return size, idr, nil
}

// writeUnits writes the NAL units of a sample that has been measured.
func (p *avcParams) writeUnits(o *out, sample []byte) {
	for len(sample) > 0 {
		nal, rest, err := p.unit(sample)
		if err != nil {
			return
		}
		if p.keeps(nal) {
			o.write(startCode)
			o.write(nal)
		}
		sample = rest
	}
}
