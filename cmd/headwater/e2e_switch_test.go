//go:build e2e

package main

import (
	"context"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// throttle lets no more than so many bits a second through to the page, all requests together; 0 is no limit.
func (b *browser) throttle(t *testing.T, bitsPerSecond float64) {
	t.Helper()
	conditions := &network.Conditions{DownloadThroughput: -1, UploadThroughput: -1}
	if bitsPerSecond > 0 {
		conditions.DownloadThroughput = bitsPerSecond / 8
	}
	ctx, cancel := context.WithTimeout(b.ctx, peerPatience)
	defer cancel()
	_, err := chromedp.Call(ctx, network.EmulateNetworkConditionsByRule,
		network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: []*network.Conditions{conditions}})
	if err != nil {
		t.Fatalf("chromium: %v", err)
	}
}

// publishFull publishes a ladder whose pictures need the bits that they are given, encoded beforehand: a browser needs the processor.
func (r *running) publishFull(t *testing.T, seconds string) {
	t.Helper()
	args := join(encoding{"-nostdin", "-hide_banner", "-loglevel", "repeat+warning"}, frames(0)[1:], sound("48000")[1:])
	push := encoding{"-nostdin", "-hide_banner", "-loglevel", "repeat+warning"}
	var out encoding
	for i, e := range []rungEncoder{{rung: "1080p", size: "320x180", rate: "1500k"}, {rung: "720p", size: "256x144", rate: "600k"}, {rung: "480p", size: "192x108", rate: "200k"}} {
		file := filepath.Join(t.TempDir(), e.rung+".flv")
		args = join(args, encoding{"-map", "0:v", "-map", "1:a", "-t", seconds,
			"-vf", "scale=" + strings.Replace(e.size, "x", ":", 1) + ":flags=neighbor,setsar=1,noise=alls=40:allf=t,format=yuv420p",
			"-c:v", "libx264", "-preset", "ultrafast", "-b:v", e.rate, "-maxrate", e.rate, "-bufsize", e.rate, "-bf", "0", "-sc_threshold", "0", "-g", "50",
			"-c:a", "aac", "-aac_coder", "fast", "-b:a", "64k", "-ac", "2", file})
		push = join(push, encoding{"-re", "-i", file})
		out = join(out, encoding{"-map", string(rune('0' + i)), "-c", "copy", "-f", "flv", "rtmp://" + r.RTMP + "/live/cam_" + e.rung})
	}
	if code := startPeer(t, nil, "ffmpeg", args...).wait(t, 2*time.Minute); code != 0 {
		t.Fatalf("ffmpeg: exit status %d", code)
	}
	startPeer(t, nil, "ffmpeg", join(push, out)...)
	r.awaitSegments(t, "live/cam", 3, allRungs...)
}

// switching is what a player notes while it changes levels.
type switching struct {
	Heights []int   // that are shown, one after another
	Stalls  int     // how often the video ran dry
	Hole    float64 // the widest between what is buffered, at or after the playhead, s
	Frames  int     // whose number was read
	Number  int     // the last
	// Offs are how many frames were so many milliseconds from their time in the source: their number, as a time, minus the
	// presentation time.
	Offs  map[string]int
	Drift float64 // between the dates that hls.js gives to one time in all levels and the audio, s
	Log   []string
}

// right is how many frames are within so many seconds of where most are.
func (s *switching) right(within float64) int {
	best := 0
	for off := range s.Offs {
		at, _ := strconv.ParseFloat(off, 64)
		n := 0
		for other, count := range s.Offs {
			if o, _ := strconv.ParseFloat(other, 64); math.Abs(o-at) <= 1000*within/2 {
				n += count
			}
		}
		best = max(best, n)
	}
	return best
}

var switchingScript = `void (() => {
	const video = document.querySelector('video'), hls = window.headwater.hls, began = performance.now();
	const s = window.switching = {heights: [], stalls: 0, hole: 0, frames: 0, number: 0, offs: {}, drift: 0, log: []};
	const note = (m) => s.log.push(Math.round(performance.now() - began) + ' ' + m);
	video.addEventListener('waiting', () => { s.stalls++; note('waiting at ' + video.currentTime); });
	hls.on('hlsError', (_, e) => note(e.details));
	hls.on('hlsLevelSwitching', (_, e) => note('to ' + e.height + ', estimate ' + Math.round(hls.bandwidthEstimate)));
	const read = ` + numberScript + `;
	const frame = (now, {mediaTime, expectedDisplayTime}) => {
		// Called late, on a machine that is busy, it would read the next picture.
		if (now > expectedDisplayTime + 15) return void video.requestVideoFrameCallback(frame);
		s.number = read(video, 48, 4);
		const off = Math.round(1000 * (s.number / 25 - mediaTime));
		s.frames++;
		s.offs[off] = (s.offs[off] ?? 0) + 1;
		video.requestVideoFrameCallback(frame);
	};
	video.requestVideoFrameCallback(frame);
	setInterval(() => {
		const b = video.buffered;
		for (let i = 1; i < b.length; i++) if (b.end(i - 1) >= video.currentTime) s.hole = Math.max(s.hole, b.start(i) - b.end(i - 1));
		if (s.heights.at(-1) !== video.videoHeight) { s.heights.push(video.videoHeight); note('shows ' + video.videoHeight); }
		const offs = [...hls.levels, ...hls.audioTracks].map(({details}) => details?.fragments.at(-1)).filter(f => f?.programDateTime).map(f => f.programDateTime / 1000 - f.start);
		s.drift = Math.max(s.drift, Math.max(...offs) - Math.min(...offs));
	}, 50);
})()`

// TestE2ELadderSwitching throttles hls.js, which goes down the ladder and up again without a stall, a hole, or another picture than
// belongs to the time.
func TestE2ELadderSwitching(t *testing.T) {
	r := startHeadwater(t)
	r.publishFull(t, "120")
	t.Run("ordinary latency", func(t *testing.T) { r.switchLevels(t, "?latency=ordinary") })
	t.Run("low latency", func(t *testing.T) { r.switchLevels(t, "") })
	r.checkLog(t)
}

func (r *running) switchLevels(t *testing.T, query string) {
	b := startBrowser(t, r.URL("/live/cam/")+query)
	fairly(t, func(a *attempt) {
		if a.n > 1 {
			b.reload(t)
		}
		b.switchLevels(t, a)
	})
	b.check(t)
}

func (b *browser) switchLevels(t *testing.T, a *attempt) {
	b.awaitPlaying(t)
	do(t, b, chromedp.Evaluate[chromedp.Void](switchingScript))
	state := func() switching { return do(t, b, chromedp.Evaluate[switching](`window.switching`)) }
	shown := func() int { h := state().Heights; return h[len(h)-1] }
	defer func() { t.Logf("%+v", state()) }()
	at := b.stats(t).CurrentTime
	eventually(t, peerPatience, "the player shows the highest rung", func() bool { return b.stats(t).CurrentTime > at+3 && shown() == 180 })
	before := state()
	b.throttle(t, 900_000)
	eventually(t, peerPatience, "the player goes down the ladder", func() bool { return shown() < 180 })
	b.throttle(t, 0)
	eventually(t, peerPatience, "the player goes up the ladder", func() bool { return shown() == 180 })
	time.Sleep(time.Second) // for what is behind the switch
	s := state()
	const frame = 1.0 / sourceRate
	if s.Stalls > before.Stalls {
		a.Errorf("playback stalled %d times", s.Stalls-before.Stalls)
	}
	if s.Hole > frame {
		a.Errorf("there was a hole of %.3f s in the buffer", s.Hole)
	}
	// Now and then the script reads the picture after the one that it was called for. A wrong one would be there for longer.
	if n := s.right(frame); s.Frames < 50 || s.Number < 50 || s.Frames-n > 2+s.Frames/100 {
		a.Errorf("%d frames of %d are shown at their time in the source: %v", n, s.Frames, s.Offs)
	}
	if s.Drift > frame {
		a.Errorf("levels and audio are %.3f s apart", s.Drift)
	}
}
