//go:build e2e

package main

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestE2EGStreamer lets GStreamer's rtmp2sink publish and its hlsdemux2 read 20 s, decoded and in real time.
func TestE2EGStreamer(t *testing.T) {
	t.Parallel()
	const seconds = 20
	r := startHeadwater(t)
	// A live source would leave frames out when the machine is busy. These keep to the clock, and catch up, and the muxer waits for them.
	push := startPeer(t, nil, "gst-launch-1.0", strings.Fields(
		"-m -e videotestsrc ! video/x-raw,width=640,height=360,framerate=30/1 ! identity sync=true ! queue "+
			"! x264enc speed-preset=veryfast key-int-max=60 bitrate=800 bframes=2 ! video/x-h264,profile=high ! h264parse ! queue "+
			"! flvmux name=mux streamable=true latency=3000000000 ! rtmp2sink location=rtmp://"+r.RTMP+"/live/a "+
			"audiotestsrc wave=ticks samplesperbuffer=1024 ! audio/x-raw,rate=48000,channels=2 ! identity sync=true ! queue "+
			"! avenc_aac bitrate=96000 ! aacparse ! queue ! mux.")...)
	r.awaitLive(t, "live/a")
	// GStreamer 1.22 may not recognise a playlist again of which it knows one segment only, and then waits for ever.
	eventually(t, startPatience, "three segments are listed", func() bool {
		_, m := r.variant(t, "/live/a/index.m3u8")
		return len(m.Segments) >= 3
	})
	tap, follow := r.tap(t), r.follow(t, "live/a")
	// hlsdemux2 comes before the old hlsdemux only when it is told to. With -v the sinks describe each buffer.
	play := startPeer(t, []string{"GST_PLUGIN_FEATURE_RANK=hlsdemux2:MAX,hlsdemux:NONE"}, "gst-launch-1.0", "-m", "-v",
		"playbin3", "uri="+tap.URL("/live/a/index.m3u8"),
		"video-sink=fakesink name=picture silent=false sync=true", "audio-sink=fakesink name=sound silent=false sync=true")
	reached := func(sink string) (at time.Duration) {
		times := presented(play.out.String(), sink)
		if len(times) == 0 {
			return 0
		}
		return times[len(times)-1] - times[0]
	}
	eventually(t, seconds*time.Second+startPatience, "GStreamer has played "+strconv.Itoa(seconds)+" s", func() bool {
		if !play.running() || !push.running() {
			t.Fatalf("a pipeline has ended:\n%s\n%s", tail(play.out.String(), 2000), tail(push.out.String(), 2000))
		}
		return reached("picture") >= seconds*time.Second && reached("sound") >= seconds*time.Second
	})
	play.kill()
	out := play.out.String()
	if !strings.Contains(out, `from element "hlsdemux2-0"`) {
		t.Error("something else than hlsdemux2 has read the stream")
	}
	for _, sink := range []struct {
		name  string
		frame time.Duration
	}{{"picture", time.Second / 30}, {"sound", 1024 * time.Second / 48000}} {
		// gst-launch looks at a message when it gets to it, and may then see a later one, several times. So their number
		// tells what was lost or came twice, their distances don't.
		times := presented(out, sink.name)
		if !slices.IsSorted(times) {
			t.Errorf("%s: presentation times fall back", sink.name)
		}
		span := times[len(times)-1] - times[0]
		if n := int(span/sink.frame) + 1; len(times) < n*98/100 || len(times) > n*102/100 {
			t.Errorf("%s: %d buffers in %v, a frame is %v", sink.name, len(times), span, sink.frame)
		}
	}
	checkMessages(t, "the player", play)
	push.interrupt(t) // -e makes it an end of stream, which unpublishes
	checkMessages(t, "the publisher", push)
	tap.check(t)
	follow.check(t)
	r.checkLog(t)
	if log := r.Log.String(); !strings.Contains(log, "reason=unpublished") {
		t.Error("the end of the stream has not been taken for an unpublish")
	}
}

var (
	chain   = regexp.MustCompile(`last-message = chain   \*+ \((picture|sound):sink\).* pts: (\d+):(\d\d):(\d\d)\.(\d{9})`)
	problem = regexp.MustCompile(`Got message #\d+ from .* \((error|warning)\)|^ERROR|^WARNING`)
)

// presented returns the presentation times that a sink has told of.
func presented(out, sink string) (times []time.Duration) {
	for _, m := range chain.FindAllStringSubmatch(out, -1) {
		if m[1] != sink {
			continue
		}
		n := func(i int) time.Duration { v, _ := strconv.Atoi(m[i]); return time.Duration(v) }
		times = append(times, n(2)*time.Hour+n(3)*time.Minute+n(4)*time.Second+n(5))
	}
	return times
}

func checkMessages(t *testing.T, who string, p *peer) {
	t.Helper()
	for line := range strings.Lines(p.out.String() + "\n" + p.err.String()) {
		if problem.MatchString(line) {
			t.Errorf("%s: %s", who, tail(strings.TrimSpace(line), 1000))
		}
	}
}
