//go:build e2e

package main

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"headwater/playlist/playlisttest"
)

// numberScript reads the number that a picture of the source shows, from the middle of each of its blocks.
var numberScript = fmt.Sprintf(`((picture, width, height) => {
	const canvas = new OffscreenCanvas(width, height), c = canvas.getContext('2d');
	c.drawImage(picture, 0, 0, width, height);
	let number = 0;
	for (let bit = 0; bit < %d; bit++) {
		if (c.getImageData(Math.floor((bit + 0.5) * width / %[1]d), height >> 1, 1, 1).data[1] >= 128) number |= 1 << bit;
	}
	return number;
})`, sourceBits)

// A preview is what the scrubber shows of a moment.
type preview struct {
	Shown  bool // the picture of that moment is there
	Date   string
	Number int
	Behind float64 // s, of playback
	Length float64 // s, of the window
	Width  int
}

var previewScript = `(() => {
	const canvas = document.querySelector('#preview:not([hidden]) #preview-picture:not([data-stale]) canvas');
	const scrub = document.getElementById('scrub');
	return {shown: canvas !== null, date: document.getElementById('preview-time').dateTime, width: canvas?.width ?? 0,
		number: canvas ? ` + numberScript + `(canvas, canvas.width, canvas.height) : 0,
		behind: -scrub.getAttribute('aria-valuenow'), length: -scrub.getAttribute('aria-valuemin')};
})()`

func (b *browser) preview(t *testing.T) preview {
	t.Helper()
	return do(t, b, chromedp.Evaluate[preview](previewScript))
}

// onScrubber moves or presses the mouse at a fraction of the scrubber's width.
func (b *browser) onScrubber(t *testing.T, what input.DispatchMouseEventType, fraction float64, options ...chromedp.MouseOption) {
	t.Helper()
	box := do(t, b, chromedp.Evaluate[[]float64](`(({left, top, width, height}) => [left, top + height / 2, width])(document.getElementById('scrub').getBoundingClientRect())`))
	do(t, b, chromedp.MouseEvent(what, box[0]+fraction*box[2], box[1], options...))
}

// awaitPreview returns what the scrubber shows when it shows a picture of the moment under the pointer.
func (b *browser) awaitPreview(t *testing.T) (p preview) {
	t.Helper()
	eventually(t, peerPatience, "there is a picture of the moment under the pointer", func() bool {
		p = b.preview(t)
		return p.Shown
	})
	return p
}

func (b *browser) isLive(t *testing.T) bool {
	t.Helper()
	return do(t, b, chromedp.Evaluate[bool](`document.getElementById('live').hasAttribute('data-live')`))
}

func (b *browser) press(t *testing.T, key string) {
	t.Helper()
	do(t, b, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(
		`void document.getElementById('scrub').dispatchEvent(new KeyboardEvent('keydown', {key: %q, bubbles: true, cancelable: true}))`, key)))
}

// A dial tells which number the source showed when the origin received it.
type dial struct {
	date   time.Time
	number int
}

func (r *running) dial(t *testing.T, playlist string) dial {
	t.Helper()
	_, body := get(t, playlist)
	p := playlisttest.Parse([]byte(body))
	last := p.Segments[len(p.Segments)-1]
	date, err := time.Parse(time.RFC3339, last.PDT)
	if err != nil {
		t.Fatal(err)
	}
	return dial{date, readNumbers(t, playlist, []playlisttest.Segment{last})[last.MSN][0].number}
}

func (d dial) at(t *testing.T, date string) float64 {
	t.Helper()
	at, err := time.Parse(time.RFC3339, date)
	if err != nil {
		t.Fatal(err)
	}
	return float64(d.number) + at.Sub(d.date).Seconds()*sourceRate
}

// checkPreview fails t unless the picture is the I-frame that is nearest to the moment.
func (d dial) checkPreview(t *testing.T, p preview) {
	t.Helper()
	want := d.at(t, p.Date)
	if math.Abs(want-float64(p.Number)) > sourceGOP/2+2 || p.Number%sourceGOP != 0 {
		t.Errorf("the preview of %s shows %d, want the multiple of %d next to %.1f", p.Date, p.Number, sourceGOP, want)
	}
}

// TestE2EScrubber shows moments of the live window under the pointer, from the I-frame playlist of the lowest rung, and plays
// from where it is told to.
func TestE2EScrubber(t *testing.T) {
	r := startHeadwater(t)
	rungs := []string{"1080p", "480p"}
	args := join(encoding{"-nostdin", "-hide_banner", "-loglevel", "repeat+warning"}, frames(0), sound("48000"))
	for _, e := range rungEncoders {
		if slices.Contains(rungs, e.rung) {
			args = join(args, e.codecs(0), encoding{"-f", "flv", "rtmp://" + r.RTMP + "/live/cam_" + e.rung})
		}
	}
	startPeer(t, nil, "ffmpeg", args...)
	r.awaitSegments(t, "live/cam", 6, rungs...)
	lowest := r.renditions(t, "live/cam")["video_480p"]

	tap := r.tap(t)
	b := startBrowser(t, tap.URL("/live/cam/"))
	b.awaitPlaying(t)
	eventually(t, peerPatience, "the page is live and its window is long enough", func() bool {
		return b.isLive(t) && b.preview(t).Length >= 12
	})
	// hls.js does not fetch with this function.
	do(t, b, chromedp.Evaluate[chromedp.Void](`void (window.asked = [], window.fetch = ((fetch) => (url, options) => {
		if (!String(url).includes('/api/')) window.asked.push(new URL(url, location).pathname + ' ' + (options?.headers?.Range ?? ''));
		return fetch(url, options);
	})(window.fetch))`))
	asked := func() []string { return do(t, b, chromedp.Evaluate[[]string](`window.asked`)) }
	tap.mu.Lock()
	for _, line := range tap.log {
		if strings.Contains(line, "/iframes.m3u8") {
			t.Errorf("nobody has asked for a preview yet: %s", line)
		}
	}
	tap.mu.Unlock()

	// A picture of a quarter of the window, of the lowest rung.
	b.onScrubber(t, chromedp.MouseMoved, 0.25)
	p := b.awaitPreview(t)
	dial := r.dial(t, lowest)
	dial.checkPreview(t, p)
	if p.Width != 192 || p.Number == 0 {
		t.Errorf("the preview is %d wide and shows %d", p.Width, p.Number)
	}
	// Then of many moments, as fast as the pointer moves.
	for i := range 40 {
		b.onScrubber(t, chromedp.MouseMoved, 0.2+0.01*float64(i))
	}
	dial.checkPreview(t, b.awaitPreview(t))
	times := map[string]int{}
	file := regexp.MustCompile(`/(iframes\.m3u8|[^/]+\.mp4|[^/]+\.m4s)(?: bytes=0-(\d+))? ?$`)
	for _, a := range asked() {
		times[a]++
		m := file.FindStringSubmatch(a)
		if strings.TrimSpace(a) == "/live/cam/index.m3u8" {
			continue
		}
		if m == nil || !strings.Contains(a, "/video_480p/") || strings.HasSuffix(m[1], ".m4s") != (m[2] != "") {
			t.Errorf("a preview takes more than the I-frame playlist, the initialization section and ranges: %s", a)
			continue
		}
		if n, _ := strconv.Atoi(m[2]); n > 20000 {
			t.Errorf("%s: that is more than an I-frame", a)
		}
	}
	for a, n := range times {
		if n > 1 && !strings.Contains(a, "iframes.m3u8") {
			t.Errorf("%s was fetched %d times", a, n)
		}
	}

	// A click goes there, and stays as far behind live.
	b.onScrubber(t, chromedp.MouseMoved, 0.3)
	p = b.awaitPreview(t)
	b.onScrubber(t, chromedp.MousePressed, 0.3, chromedp.ButtonLeft)
	b.onScrubber(t, chromedp.MouseReleased, 0.3, chromedp.ButtonLeft)
	do(t, b, chromedp.MouseEvent(chromedp.MouseMoved, 5, 5))
	n := len(asked())
	b.playsBehind(t, 0.7*p.Length)
	shown := do(t, b, chromedp.Evaluate[struct {
		Number int
		Date   string
	}](`(() => { const v = document.querySelector('video'); return {number: `+numberScript+`(v, v.videoWidth, v.videoHeight), date: window.headwater.hls.playingDate.toISOString()}; })()`))
	if want := dial.at(t, shown.Date); math.Abs(want-float64(shown.Number)) > sourceRate/2 {
		t.Errorf("at %s %d is played, want %.1f", shown.Date, shown.Number, want)
	}
	if again := asked(); len(again) > n {
		t.Errorf("nobody looks at the scrubber, and yet there is fetched: %v", again[n:])
	}

	// The button leads back to the live edge.
	do(t, b, chromedp.Evaluate[chromedp.Void](`document.getElementById('live').click()`))
	b.goesLive(t)

	// So do keys, there and back.
	b.press(t, "ArrowLeft")
	b.press(t, "ArrowLeft")
	b.playsBehind(t, 11.5)
	b.press(t, "End")
	b.goesLive(t)

	// While the pointer is down the previews follow it and playback goes on; where it is let go playback goes.
	before := b.stats(t).CurrentTime
	b.onScrubber(t, chromedp.MousePressed, 0.9, chromedp.ButtonLeft)
	for _, at := range []float64{0.8, 0.6, 0.5, 0.4} {
		b.onScrubber(t, chromedp.MouseMoved, at, chromedp.ButtonLeft)
		p = b.awaitPreview(t)
		dial.checkPreview(t, p)
	}
	if now := b.stats(t).CurrentTime; now < before {
		t.Errorf("playback went from %.2f to %.2f s before the pointer was let go", before, now)
	}
	b.onScrubber(t, chromedp.MouseReleased, 0.4, chromedp.ButtonLeft)
	b.playsBehind(t, 0.6*p.Length)

	b.check(t)
	tap.check(t)
	r.checkLog(t)
}

// playsBehind fails t unless the page comes to play that far behind live, s, and goes on from there, not hurrying to live.
func (b *browser) playsBehind(t *testing.T, behind float64) {
	t.Helper()
	var first stats
	eventually(t, peerPatience, fmt.Sprintf("%.1f s behind live is played", behind), func() bool {
		first = b.stats(t)
		settled := do(t, b, chromedp.Evaluate[bool](`(({seeking, readyState}) => !seeking && readyState > 2)(document.querySelector('video'))`))
		return settled && first.State == "playing" && math.Abs(b.preview(t).Behind-behind) < 2
	})
	var last stats
	eventually(t, peerPatience, "it goes on from there", func() bool {
		last = b.stats(t)
		return last.CurrentTime-first.CurrentTime >= 3
	})
	p := b.preview(t)
	moved, real := last.CurrentTime-first.CurrentTime, (last.At-first.At)/1000
	// A busy machine may be late, never early.
	if moved > real+0.5 || last.Rate != 1 || p.Behind < behind-2.5 || b.isLive(t) {
		t.Errorf("%.1f s behind live playback has moved %.2f s in %.2f s at the rate %v, and is %.1f s behind", behind, moved, real, last.Rate, p.Behind)
	}
}

func (b *browser) goesLive(t *testing.T) {
	t.Helper()
	eventually(t, peerPatience, "live is played", func() bool {
		s := b.stats(t)
		return b.isLive(t) && s.State == "playing" && s.Latency > 0 && s.Latency < s.Target+2
	})
}
