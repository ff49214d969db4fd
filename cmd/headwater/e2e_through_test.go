//go:build e2e

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"headwater/cmd/headwater/demo"
)

// TestE2EPlaysThrough keeps the page playing while its encoder is replaced by one of another picture and other sound, and that by
// the first again, and while the origin is killed and started anew. The run stays what it was.
func TestE2EPlaysThrough(t *testing.T) {
	t.Parallel()
	k := newKillable(t)
	k.start(t)
	v := newViewer(k, "live/a")
	eventually(t, peerPatience, "the origin listens", func() bool { _, _, b := v.fetch(k.URL("/")); return b != nil })
	encoder := func(size, rate, channels string) *peer {
		return k.publish(t, "live/a", join(encoding{"-re", "-f", "lavfi", "-i", "testsrc2=s=" + size + ":r=30"}, sound(rate), h264("60", "-b:v", "300k"), aac(channels)))
	}
	push := encoder("320x180", "48000", "2")
	k.awaitLive(t, "live/a")
	run := k.stream(t, "live/a").Run
	b := startBrowser(t, k.URL("/live/a/"))
	b.awaitPlaying(t)
	height := func() int { return do(t, b, chromedp.Evaluate[int](`document.querySelector('video').videoHeight`)) }
	plays := func(what string, want int) {
		t.Helper()
		began := time.Now()
		eventually(t, startPatience, what+": the picture is seen", func() bool { return height() == want })
		at := b.stats(t).CurrentTime
		eventually(t, startPatience, what+": it plays on", func() bool {
			s := b.stats(t)
			return s.State == "playing" && s.CurrentTime > at+5 && s.Latency > 0 && s.Latency < 8
		})
		if now := height(); now != want {
			t.Errorf("%s: the picture is %d high again", what, now)
		}
		t.Logf("%s: after %.1f s, %.2f s behind the live edge", what, time.Since(began).Seconds(), b.stats(t).Latency)
		if s := k.stream(t, "live/a"); s.Run != run {
			t.Errorf("%s: run %q is %q", what, run, s.Run)
		}
		b.check(t)
	}
	plays("at the beginning", 180)
	push.kill()
	push = encoder("480x270", "44100", "1")
	plays("another picture and other sound", 270)
	push.kill()
	push = encoder("320x180", "48000", "2")
	plays("the first again", 180)

	k.kill()
	push.kill()
	k.start(t)
	eventually(t, peerPatience, "the origin listens", func() bool { _, _, b := v.fetch(k.URL("/")); return b != nil })
	k.publish(t, "live/a", join(encoding{"-re", "-f", "lavfi", "-i", "testsrc2=s=480x270:r=30"}, sound("48000"), h264("60", "-b:v", "300k"), aac("2")))
	eventually(t, startPatience, "after a restart: the new picture is seen", func() bool { return height() == 270 })
	at := b.stats(t).CurrentTime
	eventually(t, startPatience, "after a restart: it plays on", func() bool {
		s := b.stats(t)
		return s.State == "playing" && s.CurrentTime > at+5
	})
	if s := k.stream(t, "live/a"); s.Run != run {
		t.Errorf("after a restart: run %q is %q", run, s.Run)
	}
	// While the origin is away nothing can be loaded, and the page begins anew. Nothing else is fatal.
	for _, f := range b.stats(t).Fatal {
		if what := fmt.Sprint(f["details"]); !strings.Contains(what, "LoadError") && !strings.Contains(what, "LoadTimeOut") {
			t.Errorf("hls.js: %v", f)
		}
	}
}

// TestE2EPlaysChanges keeps the page playing while an encoder goes on with another picture and other sound on the same connection, and
// with the first ones again.
func TestE2EPlaysChanges(t *testing.T) {
	t.Parallel()
	h := startHeadwater(t)
	clip := changing(t)
	conn, err := net.Dial("tcp", h.RTMP)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- demo.Publish(ctx, conn, "live", "a", clip, nil) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the encoder: %v", err)
		}
	}()
	h.awaitLive(t, "live/a")
	run := h.stream(t, "live/a").Run
	b := startBrowser(t, h.URL("/live/a/"))
	b.awaitPlaying(t)
	for i, want := range []int64{180, 270, 180, 270} {
		eventually(t, startPatience, fmt.Sprintf("picture %d is seen, %d high", i, want), func() bool {
			return do(t, b, chromedp.Evaluate[int64](`document.querySelector('video').videoHeight`)) == want
		})
		at := b.stats(t).CurrentTime
		eventually(t, startPatience, "it plays on", func() bool { return b.stats(t).CurrentTime > at+2 })
	}
	b.check(t)
	if s := h.stream(t, "live/a"); s.Run != run || s.Reconnects != 0 || s.Discontinuities < 3 {
		t.Errorf("run %q is %q, %d reconnects, %d discontinuities", run, s.Run, s.Reconnects, s.Discontinuities)
	}
	h.checkLog(t)
}

// changing is a clip of twelve seconds of one picture and one sound, and twelve of others, each announced when it begins.
func changing(t *testing.T) *demo.Clip {
	t.Helper()
	var all *demo.Clip
	for i, what := range []struct{ size, rate, channels string }{{"320x180", "48000", "2"}, {"480x270", "44100", "1"}} {
		file := filepath.Join(t.TempDir(), fmt.Sprint(i, ".flv"))
		encode := startPeer(t, nil, "ffmpeg", join(encoding{"-nostdin", "-hide_banner", "-loglevel", "repeat+warning",
			"-f", "lavfi", "-i", "testsrc2=r=30:s=" + what.size, "-f", "lavfi", "-i", "sine=sample_rate=" + what.rate},
			h264("60", "-b:v", "300k"), aac(what.channels), encoding{"-af", "atrim=end=11.9", "-t", "12", file})...)
		if code := encode.wait(t, time.Minute); code != 0 {
			t.Fatalf("ffmpeg: exit status %d", code)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		clip, err := demo.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		for k := range clip.Tracks {
			tr := &clip.Tracks[k]
			tr.Tags = slices.Insert(tr.Tags, 0, demo.Tag{Time: tr.Tags[0].Time, Body: tr.Config})
			if all != nil {
				for j := range tr.Tags {
					tr.Tags[j].Time += all.Length
				}
				all.Tracks[k].Tags = append(all.Tracks[k].Tags, tr.Tags...)
			}
		}
		if all == nil {
			all = clip
		} else {
			all.Length += clip.Length
		}
	}
	return all
}
