//go:build e2e

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ffmpegHabits are the lines that ffmpeg's HLS demuxer prints at level warning for any fMP4 stream, of any origin.
var ffmpegHabits = []string{
	// It puts the Media Initialization Section before each segment that it hands to its MP4 demuxer, which then meets the
	// same moov again.
	`^\[mov,mp4,.*\] Found duplicated MOOV Atom\. Skipped it$`,
}

// A packet is one that ffprobe has read.
type packet struct {
	Kind  string `json:"codec_type"`
	DTS   string `json:"dts_time"`
	Flags string
}

// TestE2EFFmpeg lets ffmpeg publish what encoders publish, and ffprobe and ffmpeg read it.
func TestE2EFFmpeg(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		send    encoding
		read    int                // seconds
		video   float64            // frames a second, 0 without
		audio   float64            // AAC frames a second, 0 without
		allowed []string           // what ffmpeg may print, beside its habits
		log     []string           // what the origin may log
		also    func(*e2eChecking) // nil: nothing else
	}{
		{name: "B-frames, AAC 48 kHz", send: camera, read: 30, video: 30, audio: 48000.0 / 1024, also: (*e2eChecking).codecs},
		{name: "25 fps, AAC 44.1 kHz mono", send: join(picture("25"), sound("44100"), h264("50"), aac("1")), read: 10,
			video: 25, audio: 44100.0 / 1024, also: (*e2eChecking).mono},
		{name: "video only, 59.94 fps", send: join(picture("60000/1001"), h264("120")), read: 10, video: 60000.0 / 1001},
		{name: "audio only", send: join(sound("48000"), aac("2")), read: 10, audio: 48000.0 / 1024},
		// OBS's default: a key frame every 250 frames. The origin says what to set.
		{name: "key frame every 8.33 s", send: join(picture("30"), sound("48000"), h264("250"), aac("2")), read: 12,
			video: 30, audio: 48000.0 / 1024, log: []string{"encoder settings"}, also: (*e2eChecking).adviseOnGOP},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := startHeadwater(t)
			push := r.publish(t, "live/a", tt.send)
			c := &e2eChecking{T: t, running: r}
			c.readBack(tt.read, tt.video, tt.audio, tt.allowed...)
			if tt.also != nil {
				tt.also(c)
			}
			push.interrupt(t)
			checkLines(t, "the publisher", push.err.String(),
				`Exiting normally, received signal 2`,
				// The trailer would have the duration written into the header, which has long been sent.
				`^\[flv .*\] Failed to update header with correct (duration|filesize)\.$`)
			r.checkLog(t, tt.log...)
		})
	}
}

// e2eChecking is one stream being checked.
type e2eChecking struct {
	*testing.T
	*running
	lost func() int // how many pictures the encoder says that it has left out; nil: none
}

// readBack reads live/a for that many seconds with ffprobe, with ffmpeg and as a player with parts, all at once.
func (c *e2eChecking) readBack(seconds int, video, audio float64, allowed ...string) {
	t := c.T
	t.Helper()
	c.awaitLive(t, "live/a")
	probeTap, playTap := c.tap(t), c.tap(t)
	const path = "/live/a/index.m3u8"
	probe := startPeer(t, nil, "ffprobe", "-hide_banner", "-loglevel", "repeat+warning", "-of", "json",
		"-show_entries", "packet=codec_type,dts_time,flags", "-read_intervals", "%+"+strconv.Itoa(seconds), probeTap.URL(path))
	play := startPeer(t, nil, "ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "repeat+warning", "-xerror",
		"-i", playTap.URL(path), "-t", strconv.Itoa(seconds), "-f", "null", "-")
	follow := c.follow(t, "live/a")
	for _, p := range []*peer{probe, play} {
		if code := p.wait(t, time.Duration(seconds)*time.Second+startPatience); code != 0 {
			t.Errorf("%s %v: exit status %d", p.cmd.Path, p.cmd.Args, code)
		}
		checkLines(t, filepath.Base(p.cmd.Path), p.err.String(), append(allowed, ffmpegHabits...)...)
	}
	lost := 0
	if c.lost != nil {
		lost = c.lost()
	}
	probeTap.drops, playTap.drops, follow.drops = lost > 0, lost > 0, lost > 0
	probeTap.check(t)
	playTap.check(t)
	follow.check(t)

	var found struct{ Packets []packet }
	if err := json.Unmarshal([]byte(probe.out.String()), &found); err != nil {
		t.Fatal(err)
	}
	v, vEnd := checkTimesLosing(t, found.Packets, "video", video, seconds, lost)
	a, aEnd := checkTimes(t, found.Packets, "audio", audio, seconds)
	if video == 0 || audio == 0 {
		return
	}
	// An audio segment begins with the last frame that is not later than the video's, or the one after it.
	if d := math.Abs(v - a); d > 1/audio+0.002 {
		t.Errorf("audio begins %.1f ms from video, an audio frame is %.1f ms", 1000*d, 1000/audio)
	}
	if d := math.Abs(vEnd - aEnd); d > 3 {
		t.Errorf("audio was read up to %.3f s, video to %.3f s", aEnd, vEnd)
	}
}

// checkTimes checks the decode times of one kind of packet, of which there are rate a second, and returns the first and the
// last. It goes by decode times because ffmpeg's MP4 demuxer, on meeting a negative composition offset, adds it to the
// presentation times of all that follows.
func checkTimes(t *testing.T, packets []packet, kind string, rate float64, seconds int) (first, last float64) {
	t.Helper()
	return checkTimesLosing(t, packets, kind, rate, seconds, 0)
}

// checkTimesLosing is checkTimes for what an encoder sends that has left so many out.
func checkTimesLosing(t *testing.T, packets []packet, kind string, rate float64, seconds, lost int) (first, last float64) {
	t.Helper()
	var times []float64
	for _, p := range packets {
		if p.Kind != kind {
			continue
		}
		at, err := strconv.ParseFloat(p.DTS, 64)
		if err != nil {
			t.Fatalf("%s packet %d has no decode time: %q", kind, len(times), p.DTS)
		}
		if len(times) == 0 && !strings.HasPrefix(p.Flags, "K") {
			t.Errorf("the first %s packet is not a key frame", kind)
		}
		times = append(times, at)
	}
	if rate == 0 {
		if len(times) > 0 {
			t.Errorf("there are %s packets", kind)
		}
		return 0, 0
	}
	if len(times) == 0 {
		t.Fatalf("there are no %s packets", kind)
	}
	// RTMP's milliseconds move a video frame by up to one; audio lies on the grid of its samples.
	slack := 0.0025
	if kind == "audio" {
		slack = 0.00001
	}
	for i := 1; i < len(times); i++ {
		d := times[i] - times[i-1]
		if n := int(math.Round(d*rate)) - 1; n > 0 && n <= lost {
			lost -= n
			d -= float64(n) / rate
		}
		if d < 1/rate-slack || d > 1/rate+slack {
			t.Errorf("%s packet %d follows after %.3f ms, a frame is %.3f ms", kind, i, 1000*d, 1000/rate)
		}
	}
	first, last = times[0], times[len(times)-1]
	if last-first < float64(seconds)-2.5 {
		t.Errorf("%.3f s of %s have been read, %d s were asked for", last-first, kind, seconds)
	}
	return first, last
}

func (c *e2eChecking) codecs() {
	if _, mv := get(c.T, c.URL("/live/a/index.m3u8")); !strings.Contains(mv, `CODECS="avc1.64001e,mp4a.40.2"`) || !strings.Contains(mv, "FRAME-RATE=30.000") {
		c.Errorf("the multivariant playlist:\n%s", mv)
	}
}

func (c *e2eChecking) mono() {
	for _, track := range c.stream(c.T, "live/a").Tracks {
		if track.Kind == "audio" && (track.SampleRate != 44100 || track.Channels != 1) {
			c.Errorf("the audio track is %+v", track)
		}
	}
}

func (c *e2eChecking) adviseOnGOP() {
	s := c.stream(c.T, "live/a")
	if math.Abs(s.KeyframeInterval-250.0/30) > 0.05 {
		c.Errorf("the key frame interval is said to be %v s", s.KeyframeInterval)
	}
	if s.TargetDuration < 8 || s.TargetDuration > 10 {
		c.Errorf("the target duration is %d s", s.TargetDuration)
	}
	if len(s.Advice) != 1 || !strings.Contains(s.Advice[0], "keyframe interval to 2 s") {
		c.Errorf("the page's advice is %q", s.Advice)
	}
}

// TestE2EFFmpegHEAAC publishes audio that announces SBR explicitly (ISO/IEC 14496-3 1.6.2.1, object type 5). No encoder in
// Debian makes HE-AAC, so AAC-LC at 24 kHz is announced as the core of a stream at 48 kHz: a decoder then doubles its rate
// as it does where a frame carries no SBR data.
func TestE2EFFmpegHEAAC(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "he.flv")
	made := startPeer(t, nil, "ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-f", "lavfi",
		"-i", "sine=frequency=440:sample_rate=24000:duration=60", "-c:a", "aac", "-ac", "2", "-b:a", "48k", file)
	if made.wait(t, startPatience) != 0 {
		t.FailNow()
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lc := []byte{0xAF, 0, 0x13, 0x10, 0x56, 0xE5, 0x00} // AAC-LC, 24 kHz, stereo, and SBR expressly absent
	he := []byte{0xAF, 0, 0x2B, 0x11, 0x88, 0x00, 0x00} // SBR at 48 kHz over AAC-LC at 24 kHz, stereo
	if !bytes.Contains(b, lc) {
		t.Fatalf("ffmpeg writes another audio header: % x", b[:min(len(b), 600)])
	}
	if err := os.WriteFile(file, bytes.Replace(b, lc, he, 1), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startHeadwater(t)
	r.publish(t, "live/a", encoding{"-re", "-i", file, "-c", "copy"})
	c := &e2eChecking{T: t, running: r}
	c.readBack(10, 0, 24000.0/1024)
	if _, mv := get(t, r.URL("/live/a/index.m3u8")); !strings.Contains(mv, `CODECS="mp4a.40.5"`) {
		t.Errorf("the multivariant playlist:\n%s", mv)
	}
	r.checkLog(t)
}

// TestE2EFFmpegMP3 publishes audio that CMAF players don't all have: it is refused, and the log says why.
func TestE2EFFmpegMP3(t *testing.T) {
	t.Parallel()
	r := startHeadwater(t)
	push := r.publish(t, "live/a", join(picture("30"), sound("44100"), h264("60"), encoding{"-c:a", "libmp3lame"}))
	if code := push.wait(t, startPatience); code == 0 {
		t.Error("ffmpeg ended as if all was well")
	}
	eventually(t, peerPatience, "the log says why", func() bool {
		for line := range strings.Lines(r.Log.String()) {
			if strings.Contains(line, "MP3") && strings.Contains(line, "stream=live/a") {
				return true
			}
		}
		return false
	})
	if _, metrics := get(t, fmt.Sprintf("http://%s/metrics", r.Ops)); !strings.Contains(metrics, `headwater_rtmp_errors_total{kind="unsupported"} 1`) {
		t.Error("the refusal is not counted as unsupported")
	}
}
