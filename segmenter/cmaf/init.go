// Package cmaf writes the two forms of CMAF bytes (ISO/IEC 23000-19): the CMAF header of a track, which HLS calls a Media
// Initialization Section, and what stands before the payload of a CMAF chunk. Its output is a function of its
// arguments alone: no clock, no random number, no map, so that two origins fed alike give identical bytes.
//
// It knows H.264 (avc1), HEVC (hvc1) and AAC (mp4a). It reads nothing.
package cmaf

import (
	"encoding/binary"
	"strings"

	"headwater/segmenter/media"
)

// AppendInit appends to dst the CMAF header of t: ftyp and a moov without samples. It is the same as long as what t says
// of decoding and presentation is; BitRate, FrameRate and names of the encoder are not in it. t must be Ready.
//
// There is no edit list: composition offsets are signed, so presentation may start at the first decode time without
// one (brand cmf2), and a live AAC track is passed on with its priming. There is no btrt: what an encoder announces as its
// bit rate comes late and changes, and a changed header is a discontinuity.
func AppendInit(dst []byte, t *media.Track) []byte {
	b := builder{dst}
	b.box("ftyp", func() {
		b.str("iso6") // major brand
		b.u32(0)
		b.str("iso6cmfccmf2")
	})
	b.box("moov", func() {
		b.full("mvhd", 0, 0, func() {
			b.u64(0) // creation and modification time: none, they would change the bytes
			b.u32(t.Timescale)
			b.u32(0)       // duration: the movie has no samples, its fragments do
			b.u32(1 << 16) // rate
			b.u16(1 << 8)  // volume
			b.zero(10)
			b.matrix()
			b.zero(24)
			b.u32(t.ID + 1) // next_track_ID
		})
		b.box("trak", func() { b.trak(t) })
		b.box("mvex", func() {
			// The defaults stay zero: every chunk states its own (cmf2 asks for chunks that need no trex).
			b.full("trex", 0, 0, func() {
				b.u32(t.ID)
				b.u32(1) // sample description
				b.zero(12)
			})
		})
	})
	return b.b
}

const trackFlags = 0x7 // enabled, in movie, in preview

func (b *builder) trak(t *media.Track) {
	b.full("tkhd", 0, trackFlags, func() {
		b.u64(0)
		b.u32(t.ID)
		b.u32(0)
		b.u32(0) // duration
		b.zero(8)
		b.u16(0) // layer
		b.u16(0) // alternate group
		if t.Kind == media.Audio {
			b.u16(1 << 8) // volume
		} else {
			b.u16(0)
		}
		b.u16(0)
		b.matrix()
		w, h := displaySize(t)
		b.u32(w)
		b.u32(h)
	})
	b.box("mdia", func() {
		b.full("mdhd", 0, 0, func() {
			b.u64(0)
			b.u32(t.Timescale)
			b.u32(0) // duration
			b.u16(packLanguage(t.Language))
			b.u16(0)
		})
		b.full("hdlr", 0, 0, func() {
			b.u32(0)
			if t.Kind == media.Audio {
				b.str("soun")
			} else {
				b.str("vide")
			}
			b.zero(12)
			b.cstr(t.Label)
		})
		if t.Language != "" {
			// mdhd has room for three letters; here is the whole tag (ISO/IEC 14496-12, 8.4.6).
			b.full("elng", 0, 0, func() { b.cstr(t.Language) })
		}
		b.box("minf", func() {
			if t.Kind == media.Audio {
				b.full("smhd", 0, 0, func() { b.zero(4) })
			} else {
				b.full("vmhd", 0, 1, func() { b.zero(8) })
			}
			b.box("dinf", func() {
				b.full("dref", 0, 0, func() {
					b.u32(1)
					b.full("url ", 0, 1, func() {}) // in this file
				})
			})
			b.box("stbl", func() {
				b.full("stsd", 0, 0, func() {
					b.u32(1)
					if t.Kind == media.Audio {
						b.box(t.Codec.Type, func() { b.audioEntry(t) })
					} else {
						b.box(t.Codec.Type, func() { b.visualEntry(t) })
					}
				})
				b.full("stts", 0, 0, func() { b.u32(0) })
				b.full("stsc", 0, 0, func() { b.u32(0) })
				b.full("stsz", 0, 0, func() { b.u64(0) })
				b.full("stco", 0, 0, func() { b.u32(0) })
			})
		})
	})
}

// displaySize is the size of the picture with square pixels, 16.16 fixed point (ISO/IEC 14496-12, 8.3.2.3).
func displaySize(t *media.Track) (w, h uint32) {
	if t.Kind != media.Video {
		return 0, 0
	}
	const most = 1<<32 - 1
	wide := uint64(t.Width) << 16
	if t.PixelAspect.Num != 0 && t.PixelAspect.Den != 0 {
		wide = uint64(media.Rescale(int64(wide), t.PixelAspect.Den, t.PixelAspect.Num))
	}
	return uint32(min(wide, most)), uint32(min(uint64(t.Height)<<16, most))
}

// configBox is the type of the box that has a video track's configuration record (ISO/IEC 14496-15, 5.4.2.1, 8.4.1.1).
func configBox(t *media.Track) string {
	if t.Codec.Type == "hvc1" {
		return "hvcC"
	}
	return "avcC"
}

// visualEntry is the body of a VisualSampleEntry (ISO/IEC 14496-12, 12.1.3; ISO/IEC 14496-15, 5.4.2).
func (b *builder) visualEntry(t *media.Track) {
	b.zero(6)
	b.u16(1) // data reference
	b.zero(16)
	b.u16(uint16(t.Width))
	b.u16(uint16(t.Height))
	b.u32(72 << 16) // dots an inch, each way
	b.u32(72 << 16)
	b.u32(0)
	b.u16(1)   // frames in a sample
	b.zero(32) // compressor name
	b.u16(0x18)
	b.u16(0xffff)
	b.box(configBox(t), func() { b.b = append(b.b, t.Codec.Config...) })
	if c := t.Color; c != (media.Color{}) {
		b.box("colr", func() {
			b.str("nclx")
			if c.Primaries|c.Transfer|c.Matrix == 0 {
				c.Matrix = unspecified
			}
			b.u16(uint16(orUnspecified(c.Primaries)))
			b.u16(uint16(orUnspecified(c.Transfer)))
			b.u16(uint16(c.Matrix)) // 0 is the identity beside known primaries
			if c.FullRange {
				b.u8(0x80)
			} else {
				b.u8(0)
			}
		})
	}
	if p := t.PixelAspect; p.Num != 0 && p.Den != 0 {
		b.box("pasp", func() {
			b.u32(p.Num)
			b.u32(p.Den)
		})
	}
}

const unspecified = 2 // of colour primaries, transfer characteristics and matrix coefficients (ISO/IEC 23091-2)

func orUnspecified(v uint8) uint8 {
	if v == 0 {
		return unspecified
	}
	return v
}

// Descriptor tags and values (ISO/IEC 14496-1, 7.2.6).
const (
	tagES            = 3
	tagDecoderConfig = 4
	tagDecoderInfo   = 5
	tagSLConfig      = 6

	objectMPEG4Audio = 0x40
	streamAudio      = 0x05<<2 | 1
	slConfigMP4      = 2
)

// audioEntry is the body of an AudioSampleEntry with an esds (ISO/IEC 14496-12, 12.2.3; ISO/IEC 14496-14, 6.7).
func (b *builder) audioEntry(t *media.Track) {
	b.zero(6)
	b.u16(1) // data reference
	b.zero(8)
	b.u16(uint16(t.Channels))
	b.u16(16) // bits a sample, by convention
	b.u32(0)
	if t.SampleRate < 1<<16 {
		b.u32(uint32(t.SampleRate) << 16)
	} else {
		b.u32(0) // does not fit; the AudioSpecificConfig says it
	}
	b.full("esds", 0, 0, func() {
		asc := t.Codec.Config
		info := descriptorSize(len(asc))
		config := descriptorSize(13 + info)
		sl := descriptorSize(1)
		b.descriptor(tagES, 3+config+sl)
		b.u16(0) // ES_ID: the track is the stream
		b.u8(0)
		b.descriptor(tagDecoderConfig, 13+info)
		b.u8(objectMPEG4Audio)
		b.u8(streamAudio)
		b.zero(3 + 4 + 4) // buffer size, greatest and average bit rate: unknown
		b.descriptor(tagDecoderInfo, len(asc))
		b.b = append(b.b, asc...)
		b.descriptor(tagSLConfig, 1)
		b.u8(slConfigMP4)
	})
}

// descriptorSize is the size of a descriptor with its tag and length.
func descriptorSize(body int) int {
	n := 2 + body
	for body >>= 7; body > 0; body >>= 7 {
		n++
	}
	return n
}

// A builder appends boxes.
type builder struct{ b []byte }

// box appends a box (ISO/IEC 14496-12, 4.2) whose body is what f appends.
func (b *builder) box(typ string, f func()) {
	start := len(b.b)
	b.u32(0)
	b.str(typ)
	f()
	binary.BigEndian.PutUint32(b.b[start:], uint32(len(b.b)-start))
}

// full appends a FullBox.
func (b *builder) full(typ string, version uint8, flags uint32, f func()) {
	b.box(typ, func() {
		b.u32(uint32(version)<<24 | flags)
		f()
	})
}

// descriptor appends the tag and the expandable length of a descriptor (ISO/IEC 14496-1, 8.3.3).
func (b *builder) descriptor(tag uint8, body int) {
	b.u8(tag)
	shift := 0
	for body>>(shift+7) > 0 {
		shift += 7
	}
	for ; shift > 0; shift -= 7 {
		b.u8(0x80 | uint8(body>>shift)&0x7f)
	}
	b.u8(uint8(body) & 0x7f)
}

func (b *builder) u8(v uint8)    { b.b = append(b.b, v) }
func (b *builder) u16(v uint16)  { b.b = binary.BigEndian.AppendUint16(b.b, v) }
func (b *builder) u32(v uint32)  { b.b = binary.BigEndian.AppendUint32(b.b, v) }
func (b *builder) u64(v uint64)  { b.b = binary.BigEndian.AppendUint64(b.b, v) }
func (b *builder) str(s string)  { b.b = append(b.b, s...) }
func (b *builder) cstr(s string) { b.b = append(append(b.b, strings.ReplaceAll(s, "\x00", "")...), 0) }
func (b *builder) zero(n int)    { b.b = append(b.b, make([]byte, n)...) }

// matrix appends the unity matrix (ISO/IEC 14496-12, 6.2.2).
func (b *builder) matrix() {
	for _, v := range [9]uint32{1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30} {
		b.u32(v)
	}
}
