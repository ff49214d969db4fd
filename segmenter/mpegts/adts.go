package mpegts

import (
	"fmt"

	"headwater/segmenter/media"
)

const (
	adtsBytes = 7         // a header without CRC
	maxADTS   = 1<<13 - 1 // a frame with its header
)

// samplingRates is table 1.18 of ISO/IEC 14496-3, by samplingFrequencyIndex.
var samplingRates = [...]uint32{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}

// An adtsHeader is the header of an ADTS frame (ISO/IEC 14496-3, 1.A.2.2.1 and 1.A.2.2.2) but for the frame's length.
type adtsHeader [adtsBytes]byte

// parseAAC makes the header from an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1). Of HE-AAC it is that of the core: ADTS has
// no way to signal SBR and PS, which decoders find in the frames (1.6.5.3).
func parseAAC(t *media.Track) (adtsHeader, error) {
	var h adtsHeader
	refuse := func(what string, args ...any) (adtsHeader, error) {
		return h, &media.UnsupportedError{What: fmt.Sprintf(what, args...) + " in MPEG-TS", Hint: "send AAC-LC in mono, stereo or 5.1"}
	}
	if t.Codec.Type != "mp4a" {
		return refuse("audio codec %s", t.Codec.Type)
	}
	r := bits{b: t.Codec.Config}
	object := r.object()
	index := r.rate()
	channels := r.take(4)
	if object == 5 || object == 29 { // SBR, PS: then the core's object type follows
		r.rate()
		object = r.object()
	}
	short := r.take(1) == 1 // frameLengthFlag of GASpecificConfig (4.4.1)
	switch {
	case r.over:
		return h, media.Formatf("AudioSpecificConfig", "ends early")
	case object < 1 || object > 4:
		return refuse("AAC object type %d", object)
	case index >= uint32(len(samplingRates)):
		return refuse("an AAC sampling rate outside the table")
	case channels < 1 || channels > 7:
		return refuse("AAC channel configuration %d", channels)
	case short:
		return refuse("AAC with 960 samples a frame")
	}
	h[0], h[1] = 0xff, 0xf1 // syncword, MPEG-4, no CRC
	h[2] = byte(object-1)<<6 | byte(index)<<2 | byte(channels>>2)
	h[3] = byte(channels << 6)
	h[5], h[6] = 0x1f, 0xfc // buffer fullness: variable rate; one raw data block
	return h, nil
}

// frame returns the header of a frame with size bytes of data, at most maxADTS-adtsBytes.
func (h adtsHeader) frame(size int) adtsHeader {
	n := size + adtsBytes
	h[3] |= byte(n >> 11)
	h[4] = byte(n >> 3)
	h[5] |= byte(n << 5)
	return h
}

// bits reads bits; past the end they are zero, and over is set.
type bits struct {
	b    []byte
	at   int
	over bool
}

func (r *bits) take(n int) (v uint32) {
	for range n {
		v <<= 1
		if r.at/8 >= len(r.b) {
			r.over = true
			continue
		}
		v |= uint32(r.b[r.at/8]>>(7-r.at%8)) & 1
		r.at++
	}
	return v
}

func (r *bits) object() uint32 {
	v := r.take(5)
	if v == 31 {
		v = 32 + r.take(6)
	}
	return v
}

// rate reads a sampling frequency and returns its index, also when it is written out.
func (r *bits) rate() uint32 {
	index := r.take(4)
	if index == 15 {
		hz := r.take(24)
		for i, v := range samplingRates {
			if v == hz {
				return uint32(i)
			}
		}
	}
	return index
}
