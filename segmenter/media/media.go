// Package media is the vocabulary the whole house shares: Track, Codec and Sample, rational time, and the two errors by
// which a parser says whose fault it was. It imports the standard library only.
package media

import (
	"fmt"
	"math/bits"
)

// Kind is the kind of an elementary stream.
type Kind uint8

// The kinds of elementary stream. The zero Kind is no kind at all.
const (
	Video Kind = iota + 1
	Audio
)

// String returns "video" or "audio".
func (k Kind) String() string {
	switch k {
	case Video:
		return "video"
	case Audio:
		return "audio"
	}
	return "unknown"
}

// A Codec describes how to decode a track.
type Codec struct {
	// Type is the sample entry's four-character code (ISO/IEC 14496-12, 8.5.2): "avc1", "hvc1", "mp4a".
	Type string
	// String is the element of a CODECS attribute (RFC 6381): "avc1.640029", "mp4a.40.2".
	String string
	// Config is the configuration record that the encoder sent, unchanged: an AVCDecoderConfigurationRecord
	// (ISO/IEC 14496-15, 5.3.3.1), a HEVCDecoderConfigurationRecord (8.3.3.1) or an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1). Nobody modifies it after the
	// Track has been handed on.
	Config []byte
}

// Ratio is an exact rational number; the zero Ratio means unknown.
type Ratio struct{ Num, Den uint32 }

// Float returns the ratio as a number, 0 when unknown.
func (r Ratio) Float() float64 {
	if r.Den == 0 {
		return 0
	}
	return float64(r.Num) / float64(r.Den)
}

// Color is how a video track's samples map to light (ISO/IEC 23091-2). Zero values mean unspecified.
type Color struct {
	Primaries, Transfer, Matrix uint8
	FullRange                   bool
}

// A Track is one elementary stream.
//
// A Track whose Codec.Config is nil has been announced (by metadata) but not yet described by the bitstream: whoever
// receives it may wait a while for a Track that is.
type Track struct {
	ID        uint32 // track_ID in the packaged form; the same for one kind of track over the life of a rendition
	Kind      Kind
	Codec     Codec
	Timescale uint32 // ticks a second of Sample.DTS and Sample.CTO: 90000 for video, the sampling rate for audio
	Language  string // BCP 47; "" is unknown
	Label     string // for people; "" is none
	BitRate   int    // bits a second as the encoder announced it; 0 is unknown

	// Video only.
	Width, Height int   // as displayed, after cropping, before the pixel aspect ratio is applied
	PixelAspect   Ratio // zero is square
	FrameRate     Ratio // as the parameter sets state it; zero when they do not
	Color         Color

	// Audio only.
	SampleRate   int // Hz, of the decoder's output (for HE-AAC twice the core rate, when signalled)
	Channels     int
	FrameSamples int // ticks of Timescale that one coded frame lasts: 1024 for AAC-LC
}

// Ready says whether the bitstream has described the track.
func (t *Track) Ready() bool { return t.Codec.Config != nil }

// A Sample is one coded access unit in decode order. Data is in CMAF sample format (length-prefixed NAL units for H.264 and HEVC)
// and belongs to the caller again when the call it was passed to returns.
type Sample struct {
	DTS      int64 // Track.Timescale ticks, unwrapped
	CTO      int32 // PTS - DTS, in the same ticks
	Sync     bool  // IDR, verified in the bitstream; every audio frame
	Recovery bool  // not Sync, but a CRA picture, or one with a recovery point: as a rule where an open GOP begins
	Lost     bool  // input was lost just before this sample
	Arrived  int64 // wall clock of arrival, Unix ns, stamped once per read by the listener
	// Clock is the time of day that the stream itself gives to what is presented at DTS + CTO, ns after midnight, where midnight
	// is Day; 0 is none. It is the same in every encoding of one source, and otherwise need not be right.
	Clock int64
	Data  []byte
}

// SampleInfo is one row of a sample table: what is kept of a Sample when its Data has been appended to a payload. The
// fields are those of a trun row (ISO/IEC 14496-12, 8.8.8).
type SampleInfo struct {
	Duration uint32 // ticks
	Size     uint32 // bytes
	CTO      int32  // ticks
	Sync     bool
}

// Rescale returns v ticks of timescale from in timescale to, rounded to nearest, halves away from zero. It is exact for
// every v whose result fits in an int64.
func Rescale(v int64, from, to uint32) int64 {
	if from == to || from == 0 {
		return v
	}
	neg := v < 0
	u := uint64(v)
	if neg {
		u = -u
	}
	hi, lo := bits.Mul64(u, uint64(to))
	lo, c := bits.Add64(lo, uint64(from)/2, 0)
	hi += c
	if hi >= uint64(from) {
		hi = uint64(from) - 1 // the result does not fit; saturate instead of dividing into a panic
	}
	q, _ := bits.Div64(hi, lo, uint64(from))
	if neg {
		return -int64(q)
	}
	return int64(q)
}

// Second is the timescale of nanoseconds, for Rescale.
const Second = 1_000_000_000

// Day is a day in nanoseconds.
const Day = 24 * 60 * 60 * Second

// A FormatError says that the peer sent garbage: the bytes break the format that they claim to be in.
type FormatError struct {
	Where string // what was being read: "rtmp chunk", "avcC"
	What  string // what was wrong with it
}

func (e *FormatError) Error() string { return e.Where + ": " + e.What }

// Formatf returns a *FormatError.
func Formatf(where, format string, args ...any) error {
	return &FormatError{Where: where, What: fmt.Sprintf(format, args...)}
}

// An UnsupportedError says that the peer sent something valid that is not handled here.
type UnsupportedError struct {
	What string // the thing: "audio codec MP3"
	Hint string // what to do instead: "send AAC"
}

func (e *UnsupportedError) Error() string {
	if e.Hint == "" {
		return e.What + " is not supported"
	}
	return e.What + " is not supported: " + e.Hint
}
