//go:build e2e

package main

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"headwater/playlist/playlisttest"
)

// mediaTags are the EXT-X-MEDIA lines of a stream's multivariant playlist, when there are so many.
func (r *running) mediaTags(t *testing.T, name string, n int) (tags []string) {
	t.Helper()
	eventually(t, peerPatience, "the audio tracks are listed", func() bool {
		code, body := get(t, r.URL("/"+name+"/index.m3u8"))
		tags = tags[:0]
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "#EXT-X-MEDIA:") {
				tags = append(tags, line)
			}
		}
		if code == 200 {
			playlisttest.Check(t, []byte(body))
		}
		return len(tags) == n
	})
	return tags
}

// checkAudio fails t unless the segments of one number begin within so many seconds of one another in all renditions.
func (r *running) checkAudio(t *testing.T, name string, within float64, renditions ...string) {
	t.Helper()
	dates := map[uint64][]time.Time{}
	for _, id := range renditions {
		url := r.renditions(t, name)[id]
		if url == "" {
			t.Errorf("there is no rendition %s", id)
			continue
		}
		_, body := get(t, url)
		for _, s := range playlisttest.Parse([]byte(body)).Segments {
			at, err := time.Parse(time.RFC3339, s.PDT)
			if err != nil {
				t.Fatal(err)
			}
			dates[s.MSN] = append(dates[s.MSN], at)
		}
	}
	common := 0
	for msn, at := range dates {
		if len(at) == len(renditions) {
			common++
		}
		if d := slices.MaxFunc(at, time.Time.Compare).Sub(slices.MinFunc(at, time.Time.Compare)).Seconds(); d > within {
			t.Errorf("segment %d begins at times %.3f s apart", msn, d)
		}
	}
	if common < 3 {
		t.Errorf("%d segments in common", common)
	}
}

// TestE2EAudioTracks pushes a picture with one language and another language alone; hls.js plays both.
func TestE2EAudioTracks(t *testing.T) {
	t.Parallel()
	r := startHeadwater(t)
	r.publish(t, "live/a?language=en", camera)
	r.publish(t, "live/a?rendition=de&language=de&label=Deutsch", join(sound("48000"), aac("1")))
	tags := r.mediaTags(t, "live/a", 2)
	for i, want := range []string{`NAME="en",DEFAULT=YES,AUTOSELECT=YES,LANGUAGE="en"`, `NAME="Deutsch",DEFAULT=NO,AUTOSELECT=YES,LANGUAGE="de"`} {
		if channels := []string{`CHANNELS="2"`, `CHANNELS="1"`}[i]; !strings.Contains(tags[i], want) || !strings.Contains(tags[i], channels) {
			t.Errorf("%s, want %s with %s", tags[i], want, channels)
		}
	}
	b := startBrowser(t, r.URL("/live/a/"))
	b.awaitPlaying(t)
	if got := do(t, b, chromedp.Evaluate[string](`window.headwater.hls.audioTracks.map(({lang, name}) => lang + ' ' + name).join(', ')`)); got != "en en, de Deutsch" {
		t.Errorf("hls.js has the audio tracks %s", got)
	}
	for _, track := range []int{1, 0} {
		do(t, b, chromedp.Evaluate[chromedp.Void]([]string{`void (window.headwater.hls.audioTrack = 0)`, `void (window.headwater.hls.audioTrack = 1)`}[track]))
		at := b.stats(t).CurrentTime
		eventually(t, peerPatience, "the other language plays", func() bool {
			return b.stats(t).CurrentTime > at+4 && do(t, b, chromedp.Evaluate[int](`window.headwater.hls.audioTrack`)) == track
		})
	}
	r.checkAudio(t, "live/a", 2*1024.0/48000, "audio", "audio_de")
	b.check(t)
	r.checkLog(t)
}

// TestE2EMultitrack publishes three languages over one connection (Enhanced RTMP v2, multitrack), by our own tool: no encoder that
// the tests can install does.
func TestE2EMultitrack(t *testing.T) {
	t.Parallel()
	r := startHeadwater(t)
	startPeer(t, nil, buildLoad(t), "publish", "--url", "rtmp://"+r.RTMP+"/live/a", "--count", "1", "--audio-tracks", "en,de,fr", "--duration", "60s")
	tags := r.mediaTags(t, "live/a0", 3)
	for i, want := range []string{`DEFAULT=YES,AUTOSELECT=YES,LANGUAGE="en"`, `DEFAULT=NO,AUTOSELECT=YES,LANGUAGE="de"`, `DEFAULT=NO,AUTOSELECT=YES,LANGUAGE="fr"`} {
		if !strings.Contains(tags[i], want) {
			t.Errorf("%s, want %s", tags[i], want)
		}
	}
	eventually(t, peerPatience, "there are some segments", func() bool {
		_, body := get(t, r.renditions(t, "live/a0")["audio_track2"])
		return strings.Count(body, "#EXTINF") >= 4
	})
	r.checkAudio(t, "live/a0", math.Nextafter(2*1024.0/44100, 1), "video", "audio", "audio_track1", "audio_track2")
	r.checkLog(t)
}
