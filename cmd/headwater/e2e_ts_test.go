//go:build e2e

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"headwater/playlist/playlisttest"
	"headwater/segmenter/mpegts/tstest"
)

const tsIndex = "/live/a/ts/index.m3u8"

// TestE2ETS lets ffprobe, ffmpeg and GStreamer read in MPEG-TS what ffmpeg publishes, H.264 with B-frames and AAC, and checks
// the segments and the I-frame playlist.
func TestE2ETS(t *testing.T) {
	t.Parallel()
	const seconds = 12
	r := startHeadwater(t)
	push := r.publish(t, "live/a", camera)
	r.awaitLive(t, "live/a")
	if _, metrics := get(t, "http://"+r.Ops+"/metrics"); !strings.Contains(metrics, "headwater_ts_segments_muxed_total 0\n") {
		t.Error("MPEG-TS segments have been made for nobody")
	}
	// GStreamer 1.22 does not recognise a playlist again of which it knows one segment only, and gives up.
	eventually(t, startPatience, "three segments are listed", func() bool {
		_, m := r.variant(t, tsIndex)
		return len(m.Segments) >= 3
	})
	probeTap, playTap, gstTap := r.tap(t), r.tap(t), r.tap(t)
	probe := startPeer(t, nil, "ffprobe", "-hide_banner", "-loglevel", "repeat+warning", "-of", "json",
		"-show_entries", "packet=stream_index,codec_type,pts_time,dts_time,flags", "-read_intervals", "%+"+strconv.Itoa(seconds), probeTap.URL(tsIndex))
	play := startPeer(t, nil, "ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "repeat+warning", "-xerror",
		"-i", playTap.URL(tsIndex), "-t", strconv.Itoa(seconds), "-f", "null", "-")
	gst := startPeer(t, []string{"GST_PLUGIN_FEATURE_RANK=hlsdemux2:MAX,hlsdemux:NONE"}, "gst-launch-1.0", "-m", "-v",
		"playbin3", "uri="+gstTap.URL(tsIndex),
		"video-sink=fakesink name=picture silent=false sync=true", "audio-sink=fakesink name=sound silent=false sync=true")
	for _, p := range []*peer{probe, play} {
		if code := p.wait(t, seconds*time.Second+startPatience); code != 0 {
			t.Errorf("%v: exit status %d", p.cmd.Args, code)
		}
		checkLines(t, filepath.Base(p.cmd.Path), p.err.String())
	}
	eventually(t, startPatience, "GStreamer has played "+strconv.Itoa(seconds)+" s", func() bool {
		if !gst.running() {
			t.Fatalf("the pipeline has ended:\n%s", tail(gst.out.String(), 2000))
		}
		for _, sink := range []string{"picture", "sound"} {
			if times := presented(gst.out.String(), sink); len(times) == 0 || times[len(times)-1]-times[0] < seconds*time.Second {
				return false
			}
		}
		return true
	})
	gst.kill()
	checkMessages(t, "GStreamer", gst)
	for _, tap := range []*tap{probeTap, playTap, gstTap} {
		tap.check(t)
	}

	var found struct {
		Packets []struct {
			packet
			Stream int    `json:"stream_index"`
			PTS    string `json:"pts_time"`
		}
	}
	if err := json.Unmarshal([]byte(probe.out.String()), &found); err != nil {
		t.Fatal(err)
	}
	var packets []packet // of the first variant: ffprobe reads all, and the last is of the audio alone
	first, stream := map[string]float64{}, map[string]int{}
	for _, p := range found.Packets {
		if _, ok := first[p.Kind]; !ok {
			first[p.Kind], _ = strconv.ParseFloat(p.PTS, 64) // presentation time
			stream[p.Kind] = p.Stream
		}
		if p.Stream == stream[p.Kind] {
			packets = append(packets, p.packet)
		}
	}
	checkTimes(t, packets, "video", 30, seconds)
	checkTimes(t, packets, "audio", 48000.0/1024, seconds)
	if d := math.Abs(first["video"] - first["audio"]); d > 1024.0/48000+0.002 {
		t.Errorf("audio begins %.1f ms from video", 1000*d)
	}

	r.checkSegments(t)
	r.checkIFrames(t)
	push.interrupt(t)
	r.checkLog(t)
}

// variant returns the media playlist that a multivariant playlist names for its first variant, with its path.
func (r *running) variant(t *testing.T, index string) (path string, m *playlisttest.Media) {
	t.Helper()
	_, mv := get(t, r.URL(index))
	for line := range strings.Lines(mv) {
		if !strings.HasPrefix(line, "#") {
			path = filepath.Join(filepath.Dir(index), strings.TrimSpace(line))
			break
		}
	}
	return path, r.mediaPlaylist(t, path)
}

func (r *running) mediaPlaylist(t *testing.T, path string) *playlisttest.Media {
	t.Helper()
	status, body := get(t, r.URL(path))
	if status != 200 {
		t.Fatalf("%s: %d", path, status)
	}
	playlisttest.Check(t, []byte(body))
	return playlisttest.Parse([]byte(body))
}

// checkSegments checks all segments that are listed with an independent parser, as one stream.
func (r *running) checkSegments(t *testing.T) {
	t.Helper()
	path, m := r.variant(t, tsIndex)
	var segments [][]byte
	for _, s := range m.Segments {
		status, body := get(t, r.URL(filepath.Join(filepath.Dir(path), s.URI)))
		if status != 200 {
			t.Fatalf("%s: %d", s.URI, status)
		}
		segments = append(segments, []byte(body))
	}
	if len(segments) < 3 {
		t.Fatalf("%d segments are listed", len(segments))
	}
	rep, err := tstest.Check(segments)
	if err != nil {
		t.Error(err)
	}
	reordered := 0
	for i, p := range rep.Video() {
		if i > 0 && p.PTS < rep.Video()[i-1].PTS {
			reordered++
		}
	}
	if want := 60 * len(segments); len(rep.Video()) != want || len(rep.Audio()) == 0 || reordered == 0 {
		t.Errorf("%d pictures, want %d; %d audio packets; %d B-frames", len(rep.Video()), want, len(rep.Audio()), reordered)
	}
}

// checkIFrames lets ffmpeg decode each range of the I-frame playlist, after the initialization section and alone.
func (r *running) checkIFrames(t *testing.T) {
	t.Helper()
	path, _ := r.variant(t, "/live/a/index.m3u8")
	dir := filepath.Dir(path)
	_, mv := get(t, r.URL("/live/a/index.m3u8"))
	if want := fmt.Sprintf("URI=%q", strings.TrimPrefix(dir, "/live/a/")+"/iframes.m3u8"); !strings.Contains(mv, want) {
		t.Errorf("no %s in\n%s", want, mv)
	}
	m := r.mediaPlaylist(t, dir+"/iframes.m3u8")
	if len(m.Segments) < 3 {
		t.Fatalf("%d I-frames are listed", len(m.Segments))
	}
	for i, s := range m.Segments {
		_, file := get(t, r.URL(filepath.Join(dir, s.Map)))
		n, _, _ := strings.Cut(s.Range, "@")
		size, err := strconv.Atoi(n)
		if err != nil {
			t.Fatalf("range %q", s.Range)
		}
		req, err := http.NewRequest("GET", r.URL(filepath.Join(dir, s.URI)), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", fmt.Sprintf("bytes=0-%d", size-1))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 206 || len(body) != size {
			t.Fatalf("%d, %d bytes, %v", resp.StatusCode, len(body), err)
		}
		name := filepath.Join(t.TempDir(), fmt.Sprintf("%d.mp4", i))
		if err := os.WriteFile(name, append([]byte(file), body...), 0o600); err != nil {
			t.Fatal(err)
		}
		p := startPeer(t, nil, "ffprobe", "-hide_banner", "-loglevel", "fatal", "-of", "csv=p=0", "-show_entries", "frame=key_frame,pict_type,width", name)
		if p.wait(t, startPatience) != 0 || strings.TrimSpace(p.out.String()) != "1,640,I" {
			t.Errorf("the I-frame of %s: %q %s", s.URI, p.out.String(), p.err.String())
		}
	}
}

// TestE2EBrowserTS plays MPEG-TS with hls.js.
func TestE2EBrowserTS(t *testing.T) {
	r := startHeadwater(t)
	r.publish(t, "live/a", camera)
	r.awaitLive(t, "live/a")
	tap := r.tap(t)
	b := startBrowser(t, tap.URL("/live/a/"))
	b.awaitPlaying(t)
	fairly(t, func(a *attempt) {
		if a.n > 1 {
			b.reload(t)
		}
		do(t, b, chromedp.Evaluate[chromedp.Void](`void window.headwater.hls.loadSource(new URL('ts/index.m3u8', location.href).href)`))
		eventually(t, startPatience, "hls.js plays MPEG-TS", func() bool {
			return do(t, b, chromedp.Evaluate[bool](`(({hls}, v) => !!hls.levels[0]?.uri?.includes('/ts/') && !v.paused && !v.seeking && v.readyState > 2)(window.headwater, document.querySelector('video'))`))
		})
		b.awaitPlaying(t)
		checkPlayback(a, b.sample(t, 12*time.Second))
		if !do(t, b, chromedp.Evaluate[bool](`window.headwater.hls.levels[0].uri.includes('/ts/')`)) {
			a.Errorf("the page went back to CMAF")
		}
	})
	b.check(t)
	tap.check(t)
	r.checkLog(t)
}
