package main

import (
	"bytes"
	"testing"
)

// Each language has a track with the clip's sound at the same times, and its name in the metadata.
func TestAudioTracks(t *testing.T) {
	c := mustSynthesize(t, testConfig)
	n, size := len(c.messages), c.audioBytes
	audio := 0
	for _, m := range c.messages {
		if m.kind == kindAudio {
			audio++
		}
	}
	if err := c.addAudioTracks([]string{"en", "de", "fr"}); err != nil {
		t.Fatal(err)
	}
	if len(c.messages) != n+2*audio || c.audioBytes <= 3*size || len(c.moreHeaders) != 2 {
		t.Fatalf("%d messages, %d before, %d bytes, %d before", len(c.messages), n, c.audioBytes, size)
	}
	s, err := newStream(c, 4096, false)
	if err != nil {
		t.Fatal(err)
	}
	b := s.prologue(5)
	for _, p := range s.packets {
		b = append(b, p.bytes...)
	}
	times, bodies := chunkTimes(t, b, 4096)
	if got := len(bodies[kindAudio]); got != 3+3*audio {
		t.Fatalf("%d audio messages", got)
	}
	for i := 0; i < len(bodies[kindAudio]); i += 3 {
		first := bodies[kindAudio][i]
		for id := byte(1); id < 3; id++ {
			want := append([]byte{0x95, first[1], 'm', 'p', '4', 'a', id}, first[2:]...)
			if !bytes.Equal(bodies[kindAudio][i+int(id)], want) || times[kindAudio][i+int(id)] != times[kindAudio][i] {
				t.Fatalf("message %d: %x at %d, want %x at %d", i, bodies[kindAudio][i+int(id)], times[kindAudio][i+int(id)], want, times[kindAudio][i])
			}
		}
	}
	values, err := parseAMF0(bodies[kindData][0])
	if err != nil || len(values) != 3 {
		t.Fatalf("metadata %v, %v", values, err)
	}
	meta, _ := values[2].(map[string]any)
	tracks, _ := meta["audioTrackIdInfoMap"].(map[string]any)
	if de, _ := tracks["1"].(map[string]any); de["language"] != "de" || len(tracks) != 3 || meta["audiocodecid"] != 10. {
		t.Errorf("metadata %v", meta)
	}
}

func TestAudioTracksRefused(t *testing.T) {
	silent := testConfig
	silent.AudioBitrate = 0
	if err := mustSynthesize(t, silent).addAudioTracks([]string{"en", "de"}); err == nil {
		t.Error("a clip without audio")
	}
	if err := mustSynthesize(t, testConfig).addAudioTracks(make([]string, maxAudioTracks+1)); err == nil {
		t.Error("too many")
	}
	if err := mustSynthesize(t, testConfig).addAudioTracks(nil); err != nil {
		t.Error(err)
	}
}
