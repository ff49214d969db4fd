package flv

import (
	"encoding/binary"
	"fmt"

	"headwater/segmenter/media"
)

// Packet types of enhanced messages (Enhanced RTMP v2, VideoPacketType and AudioPacketType). Where the kinds of
// message differ, the comment or the name says which is meant. Video's 5 is for AV1 in MPEG-TS form.
const (
	packetSequenceStart   = 0
	packetCodedFrames     = 1
	packetSequenceEnd     = 2
	packetCodedFramesX    = 3 // video: composition time 0
	packetMetadata        = 4 // video: HDR metadata
	packetMultichannel    = 4 // audio: the order of the channels
	packetAudioMultitrack = 5
	packetVideoMultitrack = 6
	packetModEx           = 7
)

const (
	modExTimestampNano = 0      // VideoPacketModExType and AudioPacketModExType
	maxNano            = 999999 // TimestampOffsetNano stays below a millisecond

	multitrackOne = 0 // AvMultitrackType
)

// A header is what stands before the body of an enhanced message.
type header struct {
	packet byte
	fourCC string
	nano   int64  // to be added to the message's timestamp
	body   []byte // the rest
}

// parseHeader reads an enhanced header. where names the message in errors, multitrack is the kind's packet type for
// that.
func parseHeader(where string, body []byte, multitrack byte) (h header, err error) {
	short := func() error { return media.Formatf(where, "ends inside its header") }
	h.packet, h.body = body[0]&0xf, body[1:]
	for h.packet == packetModEx {
		if len(h.body) < 1 {
			return h, short()
		}
		size := int(h.body[0]) + 1
		h.body = h.body[1:]
		if size == 256 {
			if len(h.body) < 2 {
				return h, short()
			}
			size = int(binary.BigEndian.Uint16(h.body)) + 1
			h.body = h.body[2:]
		}
		if len(h.body) < size+1 {
			return h, short()
		}
		data, next := h.body[:size], h.body[size]
		if next>>4 == modExTimestampNano && size >= 3 {
			h.nano = min(int64(data[0])<<16|int64(data[1])<<8|int64(data[2]), maxNano)
		}
		h.packet, h.body = next&0xf, h.body[size+1:]
	}
	many := h.packet == multitrack
	if many {
		if len(h.body) < 1 {
			return h, short()
		}
		if kind := h.body[0] >> 4; kind != multitrackOne {
			return h, unsupportedTracks("several tracks in one message")
		}
		h.packet, h.body = h.body[0]&0xf, h.body[1:]
		if h.packet == multitrack || h.packet == packetModEx {
			return h, media.Formatf(where, "has packet type %d in a multitrack message", h.packet)
		}
	}
	if len(h.body) < 4 {
		return h, short()
	}
	switch string(h.body[:4]) { // constants, for a string of the bytes would be one more allocation for each message
	case "avc1":
		h.fourCC = "avc1"
	case "mp4a":
		h.fourCC = "mp4a"
	default:
		h.fourCC = string(h.body[:4])
	}
	h.body = h.body[4:]
	if many {
		if len(h.body) < 1 {
			return h, short()
		}
		if id := h.body[0]; id != 0 {
			return h, unsupportedTracks(fmt.Sprintf("track %d", id))
		}
		h.body = h.body[1:]
	}
	return h, nil
}

func unsupportedTracks(what string) error {
	return &media.UnsupportedError{What: "multitrack: " + what, Hint: "send one video and one audio track"}
}

func (d *Demuxer) enhancedVideo(ts, arrived int64, body []byte) error {
	const where = "enhanced video tag"
	if body[0]>>4&7 == frameCommand {
		return nil // has one byte more and no FourCC; it is for seeking in a file
	}
	h, err := parseHeader(where, body, packetVideoMultitrack)
	switch {
	case err != nil:
		return err
	case h.fourCC != "avc1":
		return unsupportedVideo(fourCCName(h.fourCC))
	}
	switch h.packet {
	case packetSequenceStart:
		return d.videoConfig(h.body)
	case packetCodedFrames:
		if len(h.body) < 3 {
			return media.Formatf(where, "ends inside its composition time")
		}
		return d.videoFrame(ts, h.nano, si24(h.body), arrived, h.body[3:])
	case packetCodedFramesX:
		return d.videoFrame(ts, h.nano, 0, arrived, h.body)
	case packetSequenceEnd:
		d.count.endOfSequence.Add(1)
		return nil
	case packetMetadata:
		return nil // the parameter sets say it
	}
	return unsupportedPacket("video", h.packet)
}

func (d *Demuxer) enhancedAudio(ts, arrived int64, body []byte) error {
	h, err := parseHeader("enhanced audio tag", body, packetAudioMultitrack)
	switch {
	case err != nil:
		return err
	case h.fourCC != "mp4a":
		return unsupportedAudio(fourCCName(h.fourCC))
	}
	switch h.packet {
	case packetSequenceStart:
		return d.audioConfig(h.body)
	case packetCodedFrames:
		return d.audioFrame(ts, h.nano, arrived, h.body)
	case packetSequenceEnd:
		d.count.endOfSequence.Add(1)
		return nil
	case packetMultichannel:
		return nil // the AudioSpecificConfig says it
	}
	return unsupportedPacket("audio", h.packet)
}

func unsupportedPacket(kind string, packet byte) error {
	return &media.UnsupportedError{What: fmt.Sprintf("enhanced %s packet type %d", kind, packet)}
}

// fourCCName names the FourCCs of Enhanced RTMP v2, and quotes others.
func fourCCName(s string) string {
	switch s {
	case "hvc1":
		return "HEVC"
	case "av01":
		return "AV1"
	case "vp08":
		return "VP8"
	case "vp09":
		return "VP9"
	case "vvc1":
		return "VVC"
	case "Opus":
		return "Opus"
	case "fLaC":
		return "FLAC"
	case "ac-3":
		return "AC-3"
	case "ec-3":
		return "E-AC-3"
	case ".mp3":
		return "MP3"
	}
	return fmt.Sprintf("%q", s)
}
