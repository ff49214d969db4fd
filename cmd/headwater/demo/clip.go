// Package demo is what `headwater demo` shows: a bundled clip, and a small RTMP client that publishes it in a loop with
// timestamps that never go back. It plays the encoder's part only, towards a server on this machine.
package demo

import (
	_ "embed"
	"encoding/binary"

	"headwater/segmenter/media"
)

// clip is made by make-clip.sh.
//
//go:embed clip.flv
var clip []byte

// FLV tag types (Adobe Flash Video File Format Specification 10.1, E.4.1), which are RTMP message types too (RTMP 1.0, 7.1).
const (
	typeAudio = 8
	typeVideo = 9
	typeData  = 18
)

// A Clip is a short recording that can be played in a loop.
type Clip struct {
	Meta   []byte // the body of the onMetaData script tag, nil if there is none
	Tracks []Track
	Length uint64 // ms from one round to the next, the same for every track
}

// A Track is the audio or the video of a Clip. Its bytes belong to the Clip and are not to be changed.
type Track struct {
	Type   byte   // FLV tag type
	Config []byte // the tag body that carries the decoder configuration
	Tags   []Tag  // in decode order, times rising
}

// A Tag is one coded frame.
type Tag struct {
	Time uint64 // decode time, ms
	Body []byte // FLV tag body
}

// Load returns the bundled clip.
func Load() (*Clip, error) { return Parse(clip) }

// Parse reads an FLV file with H.264 video, AAC audio or both (E.2 to E.4). The Clip keeps pointing into b. The error is a
// *media.FormatError, also when the tracks cannot be looped: each must be shorter than the clip as the video measures it,
// so that the next round's times lie behind this one's.
func Parse(b []byte) (*Clip, error) {
	const fileHeader, tagHeader, backPointer = 9, 11, 4
	if len(b) < fileHeader+backPointer || string(b[:3]) != "FLV" {
		return nil, media.Formatf("flv file", "no FLV header")
	}
	at := int(binary.BigEndian.Uint32(b[5:])) + backPointer
	c := &Clip{}
	video, audio := Track{Type: typeVideo}, Track{Type: typeAudio}
	for at < len(b) {
		if len(b)-at < tagHeader {
			return nil, media.Formatf("flv file", "tag header cut off at byte %d", at)
		}
		h := b[at : at+tagHeader]
		size := int(h[1])<<16 | int(h[2])<<8 | int(h[3])
		time := uint64(h[7])<<24 | uint64(h[4])<<16 | uint64(h[5])<<8 | uint64(h[6])
		at += tagHeader
		if len(b)-at < size+backPointer {
			return nil, media.Formatf("flv file", "tag body cut off at byte %d", at)
		}
		body := b[at : at+size : at+size]
		at += size + backPointer
		switch {
		case h[0] == typeData:
			c.Meta = body
		case size < 2:
		case h[0] == typeVideo:
			video.add(time, body)
		case h[0] == typeAudio:
			audio.add(time, body)
		}
	}
	for _, t := range []Track{video, audio} {
		if len(t.Tags) == 0 {
			continue
		}
		if t.Config == nil {
			return nil, media.Formatf("flv file", "a track without decoder configuration")
		}
		if c.Length == 0 {
			c.Length = t.length()
		}
		if t.Tags[len(t.Tags)-1].Time-t.Tags[0].Time >= c.Length {
			return nil, media.Formatf("flv file", "the audio is longer than the video")
		}
		c.Tracks = append(c.Tracks, t)
	}
	if c.Length == 0 {
		return nil, media.Formatf("flv file", "nothing that lasts")
	}
	return c, nil
}

// add files a tag by its packet type, the second byte of AVCVIDEOPACKET and AACAUDIODATA (E.4.3.1, E.4.2.2). The end of
// sequence that recorders write is left out: in a loop nothing ends.
func (t *Track) add(time uint64, body []byte) {
	switch body[1] {
	case 0:
		t.Config = body
	case 1:
		if n := len(t.Tags); n > 0 && time <= t.Tags[n-1].Time {
			time = t.Tags[n-1].Time + 1
		}
		t.Tags = append(t.Tags, Tag{Time: time, Body: body})
	}
}

// length is how long the track lasts, its last frame taken for as long as the others are on average.
func (t *Track) length() uint64 {
	n := uint64(len(t.Tags))
	if n < 2 {
		return 0
	}
	return ((t.Tags[n-1].Time-t.Tags[0].Time)*n + (n-1)/2) / (n - 1)
}

// A loop plays a Clip round after round.
type loop struct {
	clip *Clip
	next []position // for each track
}

type position struct {
	round uint64
	tag   int
}

// A frame is one Tag of a round: Time goes on from round to round.
type frame struct {
	Type byte
	Time uint64 // ms
	Body []byte
}

// frame returns the frame that comes next: of the tracks' next ones the earliest. Every track's rounds have the same
// length, so that the tracks never drift apart, and 64 bits of milliseconds do not end.
func (l *loop) frame() frame {
	if l.next == nil {
		l.next = make([]position, len(l.clip.Tracks))
	}
	best, at := -1, uint64(0)
	for i, p := range l.next {
		if t := p.round*l.clip.Length + l.clip.Tracks[i].Tags[p.tag].Time; best < 0 || t < at {
			best, at = i, t
		}
	}
	tr, p := &l.clip.Tracks[best], &l.next[best]
	f := frame{Type: tr.Type, Time: at, Body: tr.Tags[p.tag].Body}
	if p.tag++; p.tag == len(tr.Tags) {
		*p = position{round: p.round + 1}
	}
	return f
}
