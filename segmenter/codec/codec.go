// Package codec turns the configuration records that encoders send into media.Tracks. It runs once per configuration,
// never per sample. It reads parameter sets only: what it does not know how to describe it refuses with a
// media.UnsupportedError, and what breaks its own format with a media.FormatError.
//
// The bits are read by gomedia's bit reader. It panics past the end and trusts the numbers it reads,
// so it works on a copy and behind one recover. gomedia's SPS and AudioSpecificConfig decoders are not used: the first takes its allocation sizes
// from the stream, skips scaling lists as if they had no contents and loses the height of an aspect ratio, the second
// knows two bytes.
package codec

import (
	"slices"

	bits "github.com/yapingcat/gomedia/go-codec"

	"headwater/segmenter/media"
)

// The track_ID of each kind of track. They are constants so that all members of a switching set share them
// (ISO/IEC 23000-19, 7.3.4.1) and a reconnect does not renumber them.
const (
	videoID = 1
	audioID = 2
)

// A reader reads the bits of one parameter set. Its methods panic when there are none left; only decode makes one.
type reader struct {
	*bits.BitStream
	size int // bits in all
}

// decode calls f with a reader over a copy of b and turns a panic of the reader into a FormatError.
func decode(where string, b []byte, f func(r reader) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = media.Formatf(where, "ends early or is malformed")
		}
	}()
	return f(reader{bits.NewBitStream(slices.Clone(b)), 8 * len(b)})
}

// left is the number of bits not yet read.
func (r reader) left() int { return r.RemainBits() }

// pos is the number of bits already read.
func (r reader) pos() int { return r.size - r.left() }

// u reads n bits, 1 to 32.
func (r reader) u(n int) uint32 { return uint32(r.GetBits(n)) }

func (r reader) flag() bool { return r.GetBit() == 1 }

// ue reads ue(v) (ITU-T H.264, 9.1). More than 31 leading zeros are outside of every range in the standard, and would
// overflow the value.
func (r reader) ue() uint32 {
	start := r.left()
	v := r.ReadUE()
	if start-r.left() > 63 {
		panic("ue(v) out of range")
	}
	return uint32(v)
}

// se reads se(v) (ITU-T H.264, 9.1.1).
func (r reader) se() int32 {
	v := int64(r.ue())
	if v%2 == 0 {
		return int32(-v / 2)
	}
	return int32((v + 1) / 2)
}
