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
)

// AvMultitrackType, and what stands for it in a message that is none.
const (
	oneTrack             = 0
	manyTracks           = 1
	manyTracksManyCodecs = 2
	noMultitrack         = 0xff
)

// The FourCCs that are taken, as big endian numbers.
const (
	fourCCAVC  = 0x61766331 // avc1
	fourCCHEVC = 0x68766331 // hvc1
	fourCCAAC  = 0x6d703461 // mp4a
)

// A header is what stands before the body of an enhanced message, and what is left of the body.
type header struct {
	where      string // names the message in errors
	packet     byte
	multitrack byte   // AvMultitrackType
	fourCC     uint32 // of all tracks
	nano       int64  // to be added to the message's timestamp
	body       []byte
}

// A part is what an enhanced message has of one track.
type part struct {
	track  int
	fourCC uint32
	body   []byte
}

func (h *header) short() error { return media.Formatf(h.where, "ends inside its header") }

// parseHeader reads an enhanced header (Enhanced RTMP v2, ExVideoTagHeader and ExAudioTagHeader). multitrack is the kind's packet
// type for that.
func parseHeader(where string, body []byte, multitrack byte) (h header, err error) {
	h = header{where: where, packet: body[0] & 0xf, multitrack: noMultitrack, body: body[1:]}
	for h.packet == packetModEx {
		if len(h.body) < 1 {
			return h, h.short()
		}
		size := int(h.body[0]) + 1
		h.body = h.body[1:]
		if size == 256 {
			if len(h.body) < 2 {
				return h, h.short()
			}
			size = int(binary.BigEndian.Uint16(h.body)) + 1
			h.body = h.body[2:]
		}
		if len(h.body) < size+1 {
			return h, h.short()
		}
		data, next := h.body[:size], h.body[size]
		if next>>4 == modExTimestampNano && size >= 3 {
			h.nano = min(int64(data[0])<<16|int64(data[1])<<8|int64(data[2]), maxNano)
		}
		h.packet, h.body = next&0xf, h.body[size+1:]
	}
	if h.packet == multitrack {
		if len(h.body) < 1 {
			return h, h.short()
		}
		h.multitrack, h.packet, h.body = h.body[0]>>4, h.body[0]&0xf, h.body[1:]
		if h.multitrack > manyTracksManyCodecs {
			return h, &media.UnsupportedError{What: fmt.Sprintf("multitrack type %d", h.multitrack)}
		}
		if h.packet == multitrack || h.packet == packetModEx {
			return h, media.Formatf(where, "has packet type %d in a multitrack message", h.packet)
		}
	}
	if h.multitrack != manyTracksManyCodecs {
		h.fourCC, err = h.takeFourCC()
	}
	return h, err
}

func (h *header) takeFourCC() (uint32, error) {
	if len(h.body) < 4 {
		return 0, h.short()
	}
	v := binary.BigEndian.Uint32(h.body)
	h.body = h.body[4:]
	return v, nil
}

// next takes the next track off the body (Enhanced RTMP v2, ExVideoTagBody and ExAudioTagBody), and says whether more follow.
func (h *header) next() (p part, more bool, err error) {
	p = part{fourCC: h.fourCC, body: h.body}
	if h.multitrack == noMultitrack {
		return p, false, nil
	}
	if h.multitrack == manyTracksManyCodecs {
		if p.fourCC, err = h.takeFourCC(); err != nil {
			return p, false, err
		}
	}
	if len(h.body) < 1 {
		return p, false, h.short()
	}
	p.track, p.body = int(h.body[0]), h.body[1:]
	if h.multitrack == oneTrack {
		return p, false, nil
	}
	if len(p.body) < 3 {
		return p, false, h.short()
	}
	size := int(p.body[0])<<16 | int(p.body[1])<<8 | int(p.body[2])
	p.body = p.body[3:]
	if size > len(p.body) {
		return p, false, media.Formatf(h.where, "has %d bytes of track %d with %d left", size, p.track, len(p.body))
	}
	p.body, h.body = p.body[:size:size], p.body[size:]
	return p, len(h.body) > 0, nil
}

func (d *Demuxer) enhancedVideo(ts, arrived int64, body []byte) error {
	if body[0]>>4&7 == frameCommand {
		return nil // has one byte more and no FourCC; it is for seeking in a file
	}
	h, err := parseHeader("enhanced video tag", body, packetVideoMultitrack)
	if err != nil {
		return err
	}
	return d.each(&h, media.Video, ts, arrived)
}

// each hands over what an enhanced message has of each track.
func (d *Demuxer) each(h *header, kind media.Kind, ts, arrived int64) error {
	for more := true; more; {
		var p part
		var err error
		if p, more, err = h.next(); err != nil {
			return err
		}
		g, err := d.group(p.track)
		if err != nil {
			return err
		}
		if g == nil || g.out {
			continue
		}
		s := g.slot(kind)
		switch {
		case s.out:
			continue
		case kind == media.Video:
			err = d.videoPart(g, ts, arrived, h, p)
		default:
			err = d.audioPart(g, ts, arrived, h, p)
		}
		if err := d.settle(g, s, err); err != nil {
			return err
		}
	}
	return nil
}

func (d *Demuxer) videoPart(g *group, ts, arrived int64, h *header, p part) error {
	if p.fourCC != fourCCAVC && p.fourCC != fourCCHEVC {
		return unsupportedVideo(fourCCName(p.fourCC))
	}
	switch h.packet {
	case packetSequenceStart:
		return d.videoConfig(g, p.fourCC, p.body)
	case packetCodedFrames:
		if len(p.body) < 3 {
			return media.Formatf(h.where, "ends inside its composition time")
		}
		return d.videoFrame(g, p.fourCC, ts, h.nano, si24(p.body), arrived, p.body[3:])
	case packetCodedFramesX:
		return d.videoFrame(g, p.fourCC, ts, h.nano, 0, arrived, p.body)
	case packetSequenceEnd:
		d.count().endOfSequence.Add(1)
		return nil
	case packetMetadata:
		return nil // the parameter sets say it
	}
	return unsupportedPacket("video", h.packet)
}

func (d *Demuxer) enhancedAudio(ts, arrived int64, body []byte) error {
	h, err := parseHeader("enhanced audio tag", body, packetAudioMultitrack)
	if err != nil {
		return err
	}
	return d.each(&h, media.Audio, ts, arrived)
}

func (d *Demuxer) audioPart(g *group, ts, arrived int64, h *header, p part) error {
	if p.fourCC != fourCCAAC {
		return unsupportedAudio(fourCCName(p.fourCC))
	}
	switch h.packet {
	case packetSequenceStart:
		return d.audioConfig(g, p.body)
	case packetCodedFrames:
		return d.audioFrame(g, ts, h.nano, arrived, p.body)
	case packetSequenceEnd:
		d.count().endOfSequence.Add(1)
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
func fourCCName(v uint32) string {
	s := string(binary.BigEndian.AppendUint32(nil, v))
	switch s {
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
