package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RTMP message types (Adobe RTMP 1.0, 7.1), which are FLV's tag types.
const (
	kindAudio = 8
	kindVideo = 9
	kindData  = 18
)

// A message is one audio or video message: an FLV tag's body at an offset from the clip's start.
type message struct {
	at   time.Duration
	kind byte
	key  bool // a video key frame
	body []byte
}

// A clip is what every publisher sends, over and over: its messages in order of time, and the configuration before them.
type clip struct {
	meta                     map[string]float64 // onMetaData
	tracks                   amfObject          // what onMetaData says of each audio track; nil unless there are several
	videoHeader, audioHeader []byte             // sequence headers; nil when there is no such track
	moreHeaders              [][]byte           // of further audio tracks
	messages                 []message
	period                   time.Duration // from the start of one round to the start of the next
	videoBytes, audioBytes   int
}

func (c *clip) add(m message) {
	c.messages = append(c.messages, m)
	if m.kind == kindVideo {
		c.videoBytes += len(m.body)
	} else {
		c.audioBytes += len(m.body)
	}
}

// sort orders the messages by time, video first among equals.
func (c *clip) sort() {
	slices.SortStableFunc(c.messages, func(a, b message) int {
		if a.at != b.at {
			return int(max(min(a.at-b.at, 1), -1))
		}
		return int(b.kind) - int(a.kind)
	})
}

// bitrate is the clip's average, in bits a second, of message bodies.
func (c *clip) bitrate() float64 {
	return float64(c.videoBytes+c.audioBytes) * 8 / c.period.Seconds()
}

// maxClip bounds the clip file, which is held in memory.
const maxClip = 512 << 20

// readFLV reads a clip from an FLV file. It starts at the first key frame; audio that reaches beyond the last picture is
// left out, so that the loop keeps its rhythm.
func readFLV(r io.Reader) (*clip, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxClip+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxClip {
		return nil, fmt.Errorf("clip is larger than %d MB", maxClip>>20)
	}
	if len(b) < 13 || string(b[:3]) != "FLV" {
		return nil, fmt.Errorf("clip is not an FLV file (make one with: ffmpeg -i IN -c copy -f flv OUT.flv)")
	}
	start := binary.BigEndian.Uint32(b[5:])
	if uint64(start)+4 > uint64(len(b)) {
		return nil, fmt.Errorf("clip: header is cut short")
	}
	b = b[start+4:]

	c := &clip{}
	var all []message
	first := time.Duration(-1) // the first key frame's
	var lastVideo, videoStep time.Duration
	for len(b) >= 11 {
		kind := b[0] & 0x1F
		size := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		at := time.Duration(uint32(b[7])<<24|uint32(b[4])<<16|uint32(b[5])<<8|uint32(b[6])) * time.Millisecond
		if len(b) < 11+size+4 {
			break // a recording may end in the middle of a tag
		}
		body := b[11 : 11+size]
		b = b[11+size+4:]
		if size < 2 {
			continue
		}
		switch {
		case kind == kindVideo && isVideoHeader(body):
			if c.videoHeader == nil {
				c.videoHeader = body
			}
		case kind == kindVideo && body[0]&0x0F == 7 && body[0]&0x80 == 0 && body[1] == 2: // AVC end of sequence
		case kind == kindVideo:
			key := body[0]>>4&7 == 1
			if first < 0 {
				if !key {
					continue
				}
				first, lastVideo = at, at
			}
			if at > lastVideo {
				lastVideo, videoStep = at, at-lastVideo
			}
			all = append(all, message{at: at, kind: kind, key: key, body: body})
		case kind == kindAudio && isAudioHeader(body):
			if c.audioHeader == nil {
				c.audioHeader = body
			}
		case kind == kindAudio:
			all = append(all, message{at: at, kind: kind, body: body})
		}
	}
	if first < 0 || videoStep == 0 {
		return nil, fmt.Errorf("clip has no key frame with another frame after it")
	}
	c.period = lastVideo + videoStep - first
	for _, m := range all {
		if m.at -= first; m.at >= 0 && m.at < c.period {
			c.add(m)
		}
	}
	c.sort()
	return c, nil
}

// isVideoHeader says whether a tag body configures the decoder: AVC (FLV 10.1, E.4.3.1) or Enhanced RTMP v2.
func isVideoHeader(body []byte) bool {
	if body[0]&0x80 != 0 {
		return body[0]&0x0F == 0
	}
	return body[0]&0x0F == 7 && body[1] == 0
}

func isAudioHeader(body []byte) bool {
	if body[0]>>4 == 9 { // Enhanced RTMP v2, ExHeader
		return body[0]&0x0F == 0
	}
	return body[0]>>4 == 10 && body[1] == 0
}

// A rate is frames a second, exactly.
type rate struct{ num, den int }

func (r rate) float() float64 { return float64(r.num) / float64(r.den) }

// at is the time of frame i.
func (r rate) at(i int) time.Duration {
	return time.Duration(int64(i) * int64(r.den) * int64(time.Second) / int64(r.num))
}

func (r rate) String() string {
	if r.den == 1 {
		return strconv.Itoa(r.num)
	}
	return fmt.Sprintf("%d/%d", r.num, r.den)
}

// UnmarshalText reads "30", "30000/1001", and the usual short names of the latter kind: "29.97", "23.976", "59.94".
func (r *rate) UnmarshalText(text []byte) error {
	s := string(text)
	if num, den, ok := strings.Cut(s, "/"); ok {
		n, err1 := strconv.Atoi(num)
		d, err2 := strconv.Atoi(den)
		if err1 != nil || err2 != nil || n <= 0 || d <= 0 || n > 1e6 || d > 1e5 {
			return fmt.Errorf("%q is not a frame rate such as 30000/1001", s)
		}
		*r = rate{n, d}
		return nil
	}
	switch s {
	case "23.976", "23.98":
		*r = rate{24000, 1001}
	case "29.97":
		*r = rate{30000, 1001}
	case "59.94":
		*r = rate{60000, 1001}
	default:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !(f > 0 && f <= 1000) {
			return fmt.Errorf("%q is not a frame rate such as 30, 29.97 or 30000/1001", s)
		}
		if f == float64(int(f)) {
			*r = rate{int(f), 1}
		} else {
			*r = rate{int(f*1000 + 0.5), 1000}
		}
	}
	return nil
}

// A bitrate is bits a second, written "3000k", "3M" or "3000000".
type bitrate int

// UnmarshalText reads a bit rate.
func (b *bitrate) UnmarshalText(text []byte) error {
	s := string(text)
	scale := 1.0
	switch {
	case strings.HasSuffix(s, "k"):
		s, scale = s[:len(s)-1], 1e3
	case strings.HasSuffix(s, "M"):
		s, scale = s[:len(s)-1], 1e6
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f*scale <= 1e9) {
		return fmt.Errorf("%q is not a bit rate such as 3000k or 3M", text)
	}
	*b = bitrate(f * scale)
	return nil
}
