//go:build e2e

package main

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestE2EBrowserHEVC changes from H.264 to HEVC and back under a page that plays. Debian's Chromium has no decoder for HEVC, without
// which Media Source Extensions take none and no player can play through: then the page has to say so, and to play on when there is H.264
// again, in the same run. A browser that has one has to play it.
func TestE2EBrowserHEVC(t *testing.T) {
	t.Parallel()
	publishHEVC := hevcPublisher(t)
	r := startHeadwater(t)
	const name = "live/a0"
	push := r.publish(t, name, camera)
	r.awaitLive(t, name)
	b := startBrowser(t, r.URL("/"+name+"/"))
	b.awaitPlaying(t)
	run := r.stream(t, name).Run
	decodes := do(t, b, chromedp.Evaluate[bool](`MediaSource.isTypeSupported('video/mp4; codecs="hvc1.1.6.L60.90"')`))
	t.Log("this browser decodes HEVC:", decodes)

	push.kill()
	push = publishHEVC(r)
	var fatal int
	if decodes {
		eventually(t, startPatience, "HEVC is in the playlist", func() bool {
			_, index := get(t, r.URL("/"+name+"/index.m3u8"))
			return strings.Contains(index, "hvc1.")
		})
		b.awaitPlaying(t)
	} else {
		eventually(t, startPatience, "the page says that it can’t decode this", func() bool {
			s := b.stats(t)
			fatal = len(s.Fatal)
			return s.State == "failed" && s.Fatal[fatal-1]["details"] == "manifestIncompatibleCodecsError"
		})
	}

	push.kill()
	r.publish(t, name, camera)
	var since stats
	eventually(t, startPatience, "the page plays H.264 again", func() bool {
		s := b.stats(t)
		if s.State != "playing" {
			since = stats{}
		} else if since.State == "" {
			since = s
		}
		return since.State != "" && s.CurrentTime-since.CurrentTime > 3
	})
	if s := b.stats(t); len(s.Fatal) > fatal {
		t.Errorf("what is fatal to hls.js now: %v", s.Fatal[fatal:])
	}
	if now := r.stream(t, name).Run; now != run {
		t.Errorf("the run was %s and is %s", run, now)
	}
	r.checkLog(t, "connection was lost without an unpublish", "connection reset by peer")
}
