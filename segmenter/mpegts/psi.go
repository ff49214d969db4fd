package mpegts

import (
	"encoding/binary"

	"headwater/segmenter/media"
)

const (
	patPID   = 0
	pmtPID   = 0x1000
	videoPID = 0x100
	audioPID = 0x101

	program = 1

	typeAVC = 0x1b // stream_type (ISO/IEC 13818-1, table 2-34)
	typeAAC = 0x0f // AAC in ADTS
)

// appendPSI appends the packets of the PAT and of the PMT (ISO/IEC 13818-1 2.4.4.3, 2.4.4.8).
func appendPSI(dst []byte, counter byte, video, audio *Source) []byte {
	dst = appendTable(dst, patPID, counter, 0x00, 0, []byte{program >> 8, program, 0xe0 | pmtPID>>8, pmtPID & 0xff})

	var body [32]byte
	b := binary.BigEndian.AppendUint16(body[:0], 0xe000|audioPID) // PCR_PID
	if video != nil {
		b = binary.BigEndian.AppendUint16(b[:0], 0xe000|videoPID)
	}
	b = append(b, 0xf0, 0) // no descriptors for the program
	// A receiver reads the table again when its version changes, so versions differ when the sets of streams do, and
	// most likely when the languages do.
	version := byte(0)
	if video != nil {
		version |= 1
		b = append(b, typeAVC, 0xe0|videoPID>>8, videoPID&0xff, 0xf0, 0)
	}
	if audio != nil {
		version |= 2
		b = append(b, typeAAC, 0xe0|audioPID>>8, audioPID&0xff, 0xf0)
		if code := media.LanguageCode(audio.Track.Language); code != "" {
			b = append(b, 6, 10, 4) // ISO_639_language_descriptor (2.6.18)
			b = append(b, code...)
			b = append(b, 0) // audio_type: undefined
			version |= (code[0] + 3*code[1] + 5*code[2]) << 2
		} else {
			b = append(b, 0)
		}
	}
	return appendTable(dst, pmtPID, counter, 0x02, version&31, b)
}

// appendTable appends a packet with one section (2.4.4.1). Both tables have the same head: the identifier of the transport
// stream or the program, both 1, the version, and that it is the only section.
func appendTable(dst []byte, pid uint16, counter, id, version byte, body []byte) []byte {
	start := len(dst)
	dst = append(dst, 0x47, 0x40|byte(pid>>8), byte(pid), 0x10|counter, 0) // pointer_field
	section := len(dst)
	n := 5 + len(body) + 4
	dst = append(dst, id, 0xb0|byte(n>>8), byte(n), 0, 1, 0xc1|version<<1, 0, 0)
	dst = append(dst, body...)
	dst = binary.BigEndian.AppendUint32(dst, crc32(dst[section:]))
	for len(dst)-start < packetSize {
		dst = append(dst, 0xff)
	}
	return dst
}

// crc32 is that of ISO/IEC 13818-1, annex A. The standard library's has its bits the other way round.
func crc32(b []byte) uint32 {
	crc := ^uint32(0)
	for _, v := range b {
		crc ^= uint32(v) << 24
		for range 8 {
			top := crc >> 31
			crc = crc<<1 ^ 0x04c11db7*top
		}
	}
	return crc
}
