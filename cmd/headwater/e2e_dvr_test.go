//go:build e2e

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// located is where a request leads.
func located(t *testing.T, at string) string {
	t.Helper()
	resp, err := http.Get(at)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatalf("%s: %s", at, resp.Status)
	}
	return resp.Request.URL.String()
}

// lasts lets ffprobe say how long what is at an address lasts, s, and ffmpeg decode all of it.
func lasts(t *testing.T, at string) float64 {
	t.Helper()
	probe := startPeer(t, nil, "ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", at)
	if code := probe.wait(t, peerPatience); code != 0 {
		t.Fatalf("ffprobe %s: exit status %d\n%s", at, code, probe.err.String())
	}
	s, err := strconv.ParseFloat(strings.TrimSpace(probe.out.String()), 64)
	if err != nil {
		t.Fatalf("%s: %v", at, err)
	}
	decode := startPeer(t, nil, "ffmpeg", "-nostdin", "-v", "error", "-xerror", "-i", at, "-map", "0:v:0", "-map", "0:a:0", "-f", "null", "-")
	if code := decode.wait(t, peerPatience); code != 0 || decode.err.String() != "" {
		t.Errorf("ffmpeg %s: exit status %d\n%s", at, code, decode.err.String())
	}
	return s
}

// A watched is what a second player in the page has to say.
type watched struct {
	Time, Duration float64 // -1: without end
	Level          string  // PLAYLIST-TYPE
	Live           bool
	Behind         float64 // the live edge, s
	Begins         float64 // where what is buffered begins
	Errors         []string
}

// play lets hls.js play what is at an address, beside what the page plays.
func (b *browser) play(t *testing.T, at string) {
	t.Helper()
	do(t, b, chromedp.Evaluate[chromedp.Void](`void (() => {
		window.second?.hls.destroy();
		const video = document.createElement('video'), hls = new Hls();
		window.second = {video, hls, errors: []};
		video.muted = true;
		document.body.append(video);
		hls.on('hlsError', (_, e) => e.fatal && window.second.errors.push(e.details));
		hls.loadSource(`+strconv.Quote(at)+`);
		hls.attachMedia(video);
		video.play();
	})()`))
}

func (b *browser) second(t *testing.T) watched {
	t.Helper()
	return do(t, b, chromedp.Evaluate[watched](`(() => {
		const {video, hls, errors} = window.second, details = hls.levels?.[hls.currentLevel]?.details;
		return {time: video.currentTime, duration: Number.isFinite(video.duration) ? video.duration : -1, level: details?.type ?? '', live: !!details?.live, behind: hls.latency || 0, begins: video.buffered.length > 0 ? video.buffered.start(0) : -1, errors};
	})()`))
}

// TestE2EDVR goes back in a live stream, cuts a clip of it, and watches its recording when the encoder and the origin have gone and
// the origin is back.
func TestE2EDVR(t *testing.T) {
	t.Parallel()
	k := newKillable(t)
	k.args = []string{"--dvr=1h", "--record=1h"}
	v, run, unpublish := k.live(t)
	const segments = 8
	k.awaitSegments(t, "live/a", segments, "")
	index := v.base.String()

	clip := located(t, index+"?start=-12s&end=-4s")
	if s := lasts(t, clip); s < 7.5 || s > 12.5 {
		t.Errorf("a clip of 8 s, from segment to segment, lasts %.2f s", s)
	}
	if s := lasts(t, located(t, strings.Replace(index, "index.m3u8", "ts/index.m3u8?start=-12s&end=-4s", 1))); s < 7.5 || s > 12.5 {
		t.Errorf("the clip lasts %.2f s in MPEG-TS", s)
	}
	if len(v.sums) == 0 {
		t.Error("nobody watched the live stream")
	}

	b := startBrowser(t, k.URL("/live/a/"))
	b.awaitPlaying(t)
	b.play(t, located(t, index+"?start=-10s"))
	eventually(t, startPatience, "the start-over plays", func() bool { return b.second(t).Time > 3 })
	// A player of low latency would begin a second or three from the live edge.
	if s := b.second(t); !s.Live || s.Level != "" || s.Behind < 7 || len(s.Errors) > 0 {
		t.Errorf("start-over: %+v", s)
	}
	b.play(t, clip)
	eventually(t, startPatience, "the clip plays to its end", func() bool { s := b.second(t); return s.Duration > 0 && s.Time > s.Duration-0.3 })
	if s := b.second(t); s.Live || s.Level != "VOD" || s.Begins < 0 || s.Begins > 0.1 || s.Duration < 7.5 || s.Duration > 12.5 || len(s.Errors) > 0 {
		t.Errorf("clip: %+v", s)
	}

	unpublish()
	k.stop()
	k.start(t)
	whole := k.URL("/live/a/" + run + "/-/index.m3u8")
	var all []struct {
		Stream, Run, Playlist string
		Began, Ended          time.Time
		Bytes                 int64
	}
	eventually(t, peerPatience, "there is a recording", func() bool {
		resp, err := http.Get(k.URL("/api/recordings"))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		all = nil
		return json.NewDecoder(resp.Body).Decode(&all) == nil && len(all) > 0
	})
	if len(all) != 1 || all[0].Stream != "live/a" || all[0].Run != run || k.URL(all[0].Playlist) != whole || all[0].Bytes < 100_000 {
		t.Fatalf("%+v", all)
	}
	length := all[0].Ended.Sub(all[0].Began).Seconds()
	if s := lasts(t, whole); s < length-0.5 || s > length+0.5 || s < 2*segments {
		t.Errorf("the recording lasts %.2f s, and should %.2f s", s, length)
	}
	b.play(t, whole)
	eventually(t, startPatience, "the recording plays", func() bool { return b.second(t).Time > 3 })
	do(t, b, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`void (window.second.video.currentTime = %f)`, length-2)))
	eventually(t, startPatience, "the recording plays to its end", func() bool { return b.second(t).Time > length-0.5 })
	if s := b.second(t); s.Live || s.Level != "VOD" || len(s.Errors) > 0 {
		t.Errorf("recording: %+v", s)
	}
	v.round(false)
	v.check(t)

	req, _ := http.NewRequest("DELETE", "http://"+k.Ops+"/api/recordings/live/a/"+run, nil)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 204 {
		t.Errorf("DELETE: %s", resp.Status)
	}
	if code, _ := get(t, whole); code != 404 {
		t.Errorf("what has been removed has status %d", code)
	}
}
