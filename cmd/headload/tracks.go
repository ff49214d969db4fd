package main

import (
	"fmt"
	"strconv"
)

// maxAudioTracks is far above what encoders send; track IDs are a byte.
const maxAudioTracks = 16

// addAudioTracks makes the clip's audio a track for each language: the first is what the clip has, as before, and the others
// carry the same under track IDs of their own (Enhanced RTMP v2, multitrack with one track in each message, as OBS sends them).
func (c *clip) addAudioTracks(languages []string) error {
	if len(languages) == 0 {
		return nil
	}
	if len(languages) > maxAudioTracks {
		return fmt.Errorf("%d audio tracks, at most %d", len(languages), maxAudioTracks)
	}
	if len(c.audioHeader) < 2 || c.audioHeader[0]>>4 != 10 {
		return fmt.Errorf("several audio tracks need a clip with AAC")
	}
	for id, language := range languages {
		c.tracks = append(c.tracks, amfField{strconv.Itoa(id), amfObject{{"language", language}}})
		if id > 0 {
			c.moreHeaders = append(c.moreHeaders, audioTrack(byte(id), c.audioHeader))
		}
	}
	messages := c.messages
	c.messages = nil
	for _, m := range messages {
		c.messages = append(c.messages, m)
		if m.kind != kindAudio {
			continue
		}
		for id := 1; id < len(languages); id++ {
			c.add(message{at: m.at, kind: kindAudio, body: audioTrack(byte(id), m.body)})
		}
	}
	return nil
}

// audioTrack makes an AAC tag one of a track (Enhanced RTMP v2, ExAudioTagHeader): its packet types, configuration and frames, have
// the numbers that they have in AAC tags.
func audioTrack(id byte, body []byte) []byte {
	const enhanced, multitrack, oneTrack = 9, 5, 0
	b := append([]byte{enhanced<<4 | multitrack, oneTrack<<4 | body[1]}, "mp4a"...)
	return append(append(b, id), body[2:]...)
}
