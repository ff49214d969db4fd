package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// Chunk streams that the publisher sends on; 3 is for commands.
const (
	csidCommand = 3
	csidAudio   = 4
	csidVideo   = 6
)

// A packet is what one write sends: a message, or a few that go together, as chunks.
type packet struct {
	at    time.Duration // offset from the start of the round
	bytes []byte
	video bool // it ends with a video message
}

// A stream is a clip as RTMP chunks. It is made once and shared by all publishers: after the first message every chunk
// header carries a time delta (Adobe RTMP 1.0, 5.3.1.2.2), and those are the same in each round and each connection.
type stream struct {
	clip      *clip
	chunkSize int
	packets   []packet
	period    time.Duration
	bytes     int64 // of all packets
	// The timestamps of the sequence headers, such that the first delta of a round is right in the first round as well.
	videoStart, audioStart uint32
}

// newStream chunks a clip. With coalesce, audio waits for the video message after it and shares its write.
func newStream(c *clip, chunkSize int, coalesce bool) (*stream, error) {
	if chunkSize < 128 || chunkSize > 0xFFFFFF {
		return nil, fmt.Errorf("chunk size %d is not between 128 and 16777215", chunkSize)
	}
	if len(c.messages) == 0 {
		return nil, fmt.Errorf("clip has no frames")
	}
	ms := func(t time.Duration) int64 { return int64((t + time.Millisecond/2) / time.Millisecond) }
	period := ms(c.period)
	last := map[byte]int64{} // the previous message's time, of the round before at first
	for _, m := range c.messages {
		last[m.kind] = ms(m.at) - period
	}
	s := &stream{clip: c, chunkSize: chunkSize, period: c.period, packets: make([]packet, 0, len(c.messages))}
	// Both headers lie one step before their first frames, on a time line moved up so that neither is negative.
	origin := max(-last[kindVideo], -last[kindAudio], 0)
	s.videoStart, s.audioStart = uint32(last[kindVideo]+origin), uint32(last[kindAudio]+origin)
	if c.audioHeader == nil {
		s.audioStart = 0
	}

	var waiting []byte
	for _, m := range c.messages {
		t := ms(m.at)
		delta := t - last[m.kind]
		last[m.kind] = t
		if delta < 0 || delta >= 0xFFFFFF {
			return nil, fmt.Errorf("clip: timestamps of type %d go from %d ms to %d ms", m.kind, t-delta, t)
		}
		csid := byte(csidVideo)
		if m.kind == kindAudio {
			csid = csidAudio
		}
		b := appendChunks(waiting, csid, 1, uint32(delta), m.kind, 0, m.body, chunkSize)
		waiting = nil
		if coalesce && m.kind == kindAudio && c.videoHeader != nil {
			waiting = b
			continue
		}
		s.packets = append(s.packets, packet{at: m.at, bytes: b, video: m.kind == kindVideo})
	}
	if waiting != nil { // audio after the last picture goes with it
		p := &s.packets[len(s.packets)-1]
		p.bytes = append(p.bytes, waiting...)
	}
	for _, p := range s.packets {
		s.bytes += int64(len(p.bytes))
	}
	return s, nil
}

// prologue returns what goes before the first round: chunk size, metadata and sequence headers, on that message stream.
func (s *stream) prologue(msid uint32) []byte {
	b := appendChunks(nil, 2, 0, 0, 1, 0, binary.BigEndian.AppendUint32(nil, uint32(s.chunkSize)), 128)
	if len(s.clip.meta) > 0 {
		meta := appendAMF0(nil, "@setDataFrame", "onMetaData", s.clip.meta)
		if s.clip.tracks != nil {
			meta = appendAMF0(appendAMF0Name(meta[:len(meta)-3], "audioTrackIdInfoMap"), s.clip.tracks) // before the end of the array
			meta = append(meta, 0, 0, 9)
		}
		b = appendChunks(b, csidAudio, 0, 0, kindData, msid, meta, s.chunkSize)
	}
	if h := s.clip.videoHeader; h != nil {
		b = appendChunks(b, csidVideo, 0, s.videoStart, kindVideo, msid, h, s.chunkSize)
	}
	if h := s.clip.audioHeader; h != nil {
		b = appendChunks(b, csidAudio, 0, s.audioStart, kindAudio, msid, h, s.chunkSize)
	}
	for _, h := range s.clip.moreHeaders {
		b = appendChunks(b, csidAudio, 0, s.audioStart, kindAudio, msid, h, s.chunkSize)
	}
	return b
}

// appendChunks appends a message as chunks (Adobe RTMP 1.0, 5.3.1): a header of type 0 or 1, then type 3 for the rest.
// time is a timestamp or a delta, less than 0xFFFFFF.
func appendChunks(dst []byte, csid, format byte, time uint32, kind byte, msid uint32, body []byte, chunkSize int) []byte {
	n := len(body)
	dst = append(dst, format<<6|csid, byte(time>>16), byte(time>>8), byte(time), byte(n>>16), byte(n>>8), byte(n), kind)
	if format == 0 {
		dst = binary.LittleEndian.AppendUint32(dst, msid)
	}
	for len(body) > chunkSize {
		dst = append(dst, body[:chunkSize]...)
		dst = append(dst, 3<<6|csid)
		body = body[chunkSize:]
	}
	return append(dst, body...)
}

// Limits on what a server may send to a publisher, which are commands and control messages.
const (
	maxReplyStreams = 16
	maxReply        = 64 << 10
)

// A chunkReader reads the messages that a server sends.
type chunkReader struct {
	r         *bufio.Reader
	chunkSize int
	streams   map[uint32]*replyStream
}

type replyStream struct {
	kind    byte
	length  int
	extend  bool
	pending []byte
}

func newChunkReader(r io.Reader) *chunkReader {
	return &chunkReader{r: bufio.NewReaderSize(r, 1024), chunkSize: 128, streams: map[uint32]*replyStream{}}
}

// next returns the next message; its body is the caller's. Set Chunk Size is obeyed here and returned as well.
func (c *chunkReader) next() (kind byte, body []byte, err error) {
	var b [11]byte
	for {
		head, err := c.r.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		csid := uint32(head & 0x3F)
		if csid < 2 { // one or two more bytes
			n := int(csid) + 1
			if _, err := io.ReadFull(c.r, b[:n]); err != nil {
				return 0, nil, err
			}
			csid = 64 + uint32(b[0])
			if n == 2 {
				csid += uint32(b[1]) << 8
			}
		}
		s := c.streams[csid]
		if s == nil {
			if head>>6 > 1 || len(c.streams) == maxReplyStreams {
				return 0, nil, fmt.Errorf("rtmp: server began chunk stream %d wrongly", csid)
			}
			s = &replyStream{}
			c.streams[csid] = s
		}
		size := [4]int{11, 7, 3, 0}[head>>6]
		if _, err := io.ReadFull(c.r, b[:size]); err != nil {
			return 0, nil, err
		}
		if size >= 3 {
			s.extend = b[0]&b[1]&b[2] == 0xFF
		}
		if size >= 7 {
			s.length, s.kind, s.pending = int(b[3])<<16|int(b[4])<<8|int(b[5]), b[6], nil
		}
		if s.extend {
			if _, err := c.r.Discard(4); err != nil {
				return 0, nil, err
			}
		}
		if s.length > maxReply {
			return 0, nil, fmt.Errorf("rtmp: server sent a message of %d bytes", s.length)
		}
		had := len(s.pending)
		n := min(s.length-had, c.chunkSize)
		s.pending = append(s.pending, make([]byte, n)...)
		if _, err := io.ReadFull(c.r, s.pending[had:]); err != nil {
			return 0, nil, err
		}
		if len(s.pending) < s.length {
			continue
		}
		body, s.pending = s.pending, nil
		if s.kind == 1 && len(body) >= 4 {
			c.chunkSize = int(binary.BigEndian.Uint32(body) & 0x7FFFFFFF)
			if c.chunkSize == 0 {
				return 0, nil, fmt.Errorf("rtmp: server set a chunk size of 0")
			}
		}
		return s.kind, body, nil
	}
}
