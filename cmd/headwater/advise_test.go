package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"headwater/segmenter"
	"headwater/segmenter/media"
)

// What is told of an encoder is logged once, though the figure in it grows, and again when something else is to be set.
func TestAdviseOnce(t *testing.T) {
	var log bytes.Buffer
	o := &origin{
		origin: &segmenter.Origin{Config: func(string) segmenter.Config { return segmenter.Config{} }},
		log:    slog.New(slog.NewTextHandler(&log, nil)),
	}
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	p, err := o.origin.Open("live/a", "", start)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(nil)
	p.SetTracks([]media.Track{{Kind: media.Video, Timescale: 90000, Codec: media.Codec{Type: "avc1", Config: []byte{1}}}})
	for at := range 90 {
		if err := p.WriteSample(0, &media.Sample{DTS: int64(at) * 90000, Recovery: at >= 60, Arrived: start.UnixNano() + int64(at)*1e9}); err != nil {
			t.Fatal(err)
		}
		o.advise()
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "no keyframe for 3 s") || !strings.Contains(lines[1], "recovery points") {
		t.Errorf("%q", lines)
	}
}
