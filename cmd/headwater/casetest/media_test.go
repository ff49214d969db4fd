package casetest

import (
	"bytes"
	"encoding/binary"
)

// Synthetic media: parameter sets that are real, and frames that nobody can decode but that say where they come from.

// A stamp ends every frame. By it the origin's clock is set, and what comes out can be compared with what went in.
type stamp struct {
	id      uint64 // rises with every frame of a case
	arrived int64  // simulated wall clock at which the origin receives it, Unix ns
	capture int64  // when it is to be presented by the encoder's own clock, ns
	display int64  // the simulated wall clock at which it was captured, Unix ns
}

var stampMagic = []byte("HWst")

const (
	stampWord = 10 // bytes of 64 bits, of which each has seven and a one: no start code is ever emulated (ITU-T H.264, 7.4.1)
	stampSize = 4 + 4*stampWord
)

func (s stamp) append(b []byte) []byte {
	b = append(b, stampMagic...)
	for _, v := range [...]uint64{s.id, uint64(s.arrived), uint64(s.capture), uint64(s.display)} {
		for i := stampWord - 1; i >= 0; i-- {
			b = append(b, 0x80|byte(v>>(7*i)))
		}
	}
	return b
}

// readStamp returns the stamp at the end of a frame.
func readStamp(frame []byte) (s stamp, ok bool) {
	if len(frame) < stampSize {
		return s, false
	}
	b := frame[len(frame)-stampSize:]
	if !bytes.HasPrefix(b, stampMagic) {
		return s, false
	}
	at := func(i int) (v uint64) {
		for _, x := range b[4+stampWord*i:][:stampWord] {
			v = v<<7 | uint64(x&0x7f)
		}
		return v
	}
	return stamp{at(0), int64(at(1)), int64(at(2)), int64(at(3))}, true
}

// A picture says what the video looks like.
type picture struct {
	width, height int
	fps           float64 // as the parameter sets state it; 0: they do not
	hevc          bool    // and 320x180 at 30 frames a second, whatever else is said here
}

// hvcC is a HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1) of a Main profile stream.
const hvcC = "\x01\x01\x60\x00\x00\x00\x90\x00\x00\x00\x00\x00\x3c\xf0\x00\xfc\xfd\xf8\xf8\x00\x00\x0f\x03" +
	"\xa0\x00\x01\x00\x18\x40\x01\x0c\x01\xff\xff\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x3c\x95\x90\x09" +
	"\xa1\x00\x01\x00\x2b\x42\x01\x01\x01\x60\x00\x00\x03\x00\x90\x00\x00\x03\x00\x00\x03\x00\x3c\xa0\x0a\x08\x0c\x1f\x3e\x59" +
	"\x59\x12\x93\x0b\xc0\x5a\x02\x00\x00\x03\x00\x02\x00\x00\x03\x00\x3c\x10" +
	"\xa2\x00\x01\x00\x06\x44\x01\xc0\x73\xc1\x89"

// avcC returns the AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1) of a High profile stream.
func (p picture) avcC() []byte {
	sps, pps := p.sps(), []byte{0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0}
	b := []byte{1, sps[1], sps[2], sps[3], 0xff, 0xe1}
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(sps))), sps...)
	b = append(binary.BigEndian.AppendUint16(append(b, 1), uint16(len(pps))), pps...)
	return append(b, 0xfd, 0xf8, 0xf8, 0)
}

// sps returns a sequence parameter set (ITU-T H.264, 7.3.2.1.1).
func (p picture) sps() []byte {
	var w bits
	w.u(100, 8)
	w.u(0, 8)
	w.u(42, 8)
	for _, v := range []uint32{0, 1, 0, 0} { // id, 4:2:0, 8 bits, 8 bits
		w.ue(v)
	}
	w.u(0, 2)                                // no lossless transform, no scaling matrices
	for _, v := range []uint32{0, 0, 4, 4} { // frame_num of 4 bits, order count type 0 of 8 bits, 4 reference frames
		w.ue(v)
	}
	w.u(0, 1)
	w.ue(uint32((p.width+15)/16 - 1))
	w.ue(uint32((p.height+15)/16 - 1))
	w.u(3, 2) // frames only, direct_8x8_inference
	if below := -p.height & 15; below > 0 {
		w.u(1, 1)
		for _, v := range []uint32{0, 0, 0, uint32(below / 2)} {
			w.ue(v)
		}
	} else {
		w.u(0, 1)
	}
	if p.fps == 0 {
		w.u(0, 1)
	} else {
		w.u(1, 1)
		w.u(0, 4)
		w.u(1, 1) // timing
		w.u(1001, 32)
		w.u(uint32(2*1001*p.fps+0.5), 32)
		w.u(1, 1)
		w.u(0, 4) // no HRDs, no pic_struct, no restrictions
	}
	w.u(1, 1)
	out, zeros := []byte{0x67}, 0
	for _, b := range w.b { // emulation prevention (7.4.1)
		if zeros >= 2 && b <= 3 {
			out, zeros = append(out, 3), 0
		}
		if zeros++; b != 0 {
			zeros = 0
		}
		out = append(out, b)
	}
	return out
}

// bits writes bits, most significant first.
type bits struct {
	b    []byte
	free uint
}

func (w *bits) u(v uint32, n int) {
	for n--; n >= 0; n-- {
		if w.free == 0 {
			w.b, w.free = append(w.b, 0), 8
		}
		w.free--
		w.b[len(w.b)-1] |= byte(v>>n&1) << w.free
	}
}

func (w *bits) ue(v uint32) {
	n := 0
	for (v+1)>>n > 1 {
		n++
	}
	w.u(0, n)
	w.u(v+1, n+1)
}

// asc returns the AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1) of AAC-LC.
func asc(rate, channels int) []byte {
	index := map[int]uint32{48000: 3, 44100: 4, 32000: 5, 24000: 6}[rate]
	var w bits
	w.u(2, 5)
	w.u(index, 4)
	w.u(uint32(channels), 4)
	w.u(0, 3)
	return w.b
}

// The frames of a picture.
const (
	idr      = iota
	other    // predicted
	recovery // an intra picture with a recovery point, where a decoder can begin that has been told so (ITU-T H.264, D.2.8)
)

// videoBody returns the body of an RTMP video message (Adobe Flash Video File Format 10.1, E.4.3.1).
func (p picture) videoBody(kind int, cts int32, s stamp) []byte {
	if p.hevc {
		return hevcBody(kind, cts, s)
	}
	b := []byte{0x27, 1, byte(cts >> 16), byte(cts >> 8), byte(cts)}
	nal := []byte{0x41, 0x9a, 0x24}
	switch kind {
	case idr:
		b[0], nal = 0x17, []byte{0x65, 0x88, 0x84}
	case recovery:
		b[0] = 0x17 // as encoders with open groups of pictures do
		sei := []byte{0x06, 6, 1, 0xc4, 0x80}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(sei))), sei...)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(nal)+stampSize))
	return s.append(append(b, nal...))
}

// hevcBody returns that of an enhanced one (Enhanced RTMP v2, ExVideoTagHeader); the recovery point is a CRA picture.
func hevcBody(kind int, cts int32, s stamp) []byte {
	head, nal := byte(0x91), []byte{0x26, 1, 0xaf}
	switch kind {
	case other:
		head, nal = 0xa1, []byte{2, 1, 0xd0}
	case recovery:
		nal = []byte{0x2a, 1, 0xaf}
	}
	b := []byte{head, 'h', 'v', 'c', '1', byte(cts >> 16), byte(cts >> 8), byte(cts)}
	b = binary.BigEndian.AppendUint32(b, uint32(len(nal)+stampSize))
	return s.append(append(b, nal...))
}

func audioBody(s stamp) []byte { return s.append([]byte{0xaf, 1, 0x21, 0x1b}) }

func videoHeader(p picture) []byte {
	if p.hevc {
		return []byte("\x90hvc1" + hvcC)
	}
	return append([]byte{0x17, 0, 0, 0, 0}, p.avcC()...)
}

func audioHeader(rate, channels int) []byte { return append([]byte{0xaf, 0}, asc(rate, channels)...) }
