//go:build e2e

package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"headwater/playlist/playlisttest"
)

// small is for tests that are not about the media.
var small = join(encoding{"-re", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30"}, sound("48000"), h264("60", "-b:v", "200k"), aac("2"))

// TestE2EReconnect loses the encoder without a goodbye and gets it back within the grace: the run and its URLs go on, with
// one discontinuity, and hls.js plays through it.
func TestE2EReconnect(t *testing.T) {
	r := startHeadwater(t, "--unpublish-grace=3s")
	push := r.publish(t, "live/a", camera)
	r.awaitLive(t, "live/a")
	tap, follow := r.tap(t), r.follow(t, "live/a")
	b := startBrowser(t, tap.URL("/live/a/"))
	b.awaitPlaying(t)
	before := r.stream(t, "live/a")

	push.kill()
	eventually(t, peerPatience, "the origin has noticed", func() bool { return !r.stream(t, "live/a").Publishing })
	push = r.publish(t, "live/a", camera)
	eventually(t, startPatience, "the second publication is in the playlist", func() bool {
		s := follow.last("video").Segments
		return slices.ContainsFunc(s, func(s playlisttest.Segment) bool { return s.Discontinuity })
	})
	// A moment ago the player had nothing left to play. From where it is now it has to play on, over the discontinuity.
	at := b.stats(t).CurrentTime
	eventually(t, startPatience, "hls.js plays on", func() bool {
		s := b.stats(t)
		return s.State == "playing" && s.CurrentTime > at+8
	})
	b.plays(t, 5*time.Second)
	b.check(t)

	after := r.stream(t, "live/a")
	if after.Run != before.Run || after.Run == "" {
		t.Errorf("the run was %q and is %q", before.Run, after.Run)
	}
	if after.Reconnects != 1 || after.Discontinuities != 1 {
		t.Errorf("the page is told of %d reconnects and %d discontinuities", after.Reconnects, after.Discontinuities)
	}
	for _, rendition := range []string{"video", "audio"} {
		p := follow.last(rendition)
		n := p.DiscSeq
		for _, s := range p.Segments {
			if s.Discontinuity {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s: there have been %d discontinuities", rendition, n)
		}
	}
	follow.check(t)
	tap.check(t)
	push.interrupt(t)
	r.checkLog(t, "connection was lost without an unpublish", "connection reset by peer") // the kernel ends it either way

	// After the grace of a goodbye there is ENDLIST.
	eventually(t, 30*time.Second, "the stream ends", func() bool {
		_, mv := get(t, r.URL("/live/a/index.m3u8"))
		_, rest, _ := strings.Cut(mv, "\n#EXT-X-STREAM-INF:")
		_, media := get(t, r.URL("/live/a/"+strings.Split(rest, "\n")[1]))
		return strings.Contains(media, "#EXT-X-ENDLIST")
	})
}

// TestE2EWrongKey shows a wrong key, none, and the right one.
func TestE2EWrongKey(t *testing.T) {
	t.Parallel()
	r := startHeadwater(t, "--publish-keys=sesame")
	for _, name := range []string{"live/a?key=wrong", "live/a"} {
		push := r.publish(t, name, small)
		if code := push.wait(t, startPatience); code == 0 {
			t.Errorf("%s: ffmpeg ended as if all was well", name)
		}
		if code, _ := get(t, r.URL("/live/a/index.m3u8")); code != 404 {
			t.Errorf("%s: the playlist has status %d", name, code)
		}
	}
	if log := r.Log.String(); !strings.Contains(log, "key") || strings.Contains(log, "wrong") || strings.Contains(log, "sesame") {
		t.Error("the log does not say that it is about a key, or says which")
	}
	r.publish(t, "live/a?key=sesame", small)
	r.awaitLive(t, "live/a")
}

// TestE2ESecondPublisher publishes on a name that is live.
func TestE2ESecondPublisher(t *testing.T) {
	t.Parallel()
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		r := startHeadwater(t)
		first := r.publish(t, "live/a", small)
		r.awaitLive(t, "live/a")
		run := r.stream(t, "live/a").Run
		second := r.publish(t, "live/a", small)
		if code := second.wait(t, startPatience); code == 0 {
			t.Error("the second ended as if all was well")
		}
		if !first.running() {
			t.Error("the first has lost its connection")
		}
		if s := r.stream(t, "live/a"); s.Run != run || !s.Publishing || s.Discontinuities != 0 {
			t.Errorf("the stream is now %+v", s)
		}
	})
	t.Run("takes over", func(t *testing.T) {
		t.Parallel()
		r := startHeadwater(t, "--takeover=takeover")
		first := r.publish(t, "live/a", small)
		r.awaitLive(t, "live/a")
		follow := r.follow(t, "live/a")
		run := r.stream(t, "live/a").Run
		second := r.publish(t, "live/a", small)
		if code := first.wait(t, startPatience); code == 0 {
			t.Error("the first ended as if all was well")
		}
		eventually(t, startPatience, "the second goes on with the run", func() bool {
			s := r.stream(t, "live/a")
			return s.Run == run && s.Publishing && s.Discontinuities == 1
		})
		eventually(t, startPatience, "the second is in the playlist", func() bool {
			s := follow.last("video").Segments
			return len(s) > 0 && s[len(s)-1].DiscSeq == 1
		})
		if !second.running() {
			t.Error("the second has lost its connection")
		}
		follow.check(t)
	})
}
