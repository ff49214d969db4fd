//go:build e2e

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"headwater/playlist/playlisttest"
)

// A browser is a headless Chromium with one page open.
type browser struct {
	ctx context.Context

	mu     sync.Mutex // protects errors
	errors []string   // what the page's console has shown as errors
}

// startBrowser opens a page.
func startBrowser(t *testing.T, url string, more ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	if _, err := os.Stat(filepath.Join("..", "..", "web", "page", "vendor", "hls.min.js")); err != nil {
		t.Fatal("hls.js is not built in: run go generate ./web first, and build this test after it")
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.NoSandbox, chromedp.Headless, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"),
		chromedp.WindowSize(1280, 900),
		chromedp.WSURLReadTimeout(startPatience),
		chromedp.UserDataDir(t.TempDir()),
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), append(options, more...)...)
	b := &browser{}
	ctx, closeTab := chromedp.NewContext(alloc, chromedp.WithListener(func(ev any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			line := ev.ExceptionDetails.Text
			if ev.ExceptionDetails.Exception != nil {
				line += ": " + ev.ExceptionDetails.Exception.Description
			}
			b.errors = append(b.errors, line)
		case *runtime.EventConsoleAPICalled:
			if ev.Type == runtime.ConsoleAPICalledTypeError || ev.Type == runtime.ConsoleAPICalledTypeWarning {
				line := string(ev.Type)
				for _, a := range ev.Args {
					line += " " + string(a.Value) + a.Description
				}
				b.errors = append(b.errors, line)
			}
		}
	}))
	b.ctx = ctx
	t.Cleanup(func() {
		chromedp.Cancel(ctx) // ends the browser and waits for it
		closeTab()
		stop()
	})
	// The first action starts the browser, which lives as long as that one's context: no deadline there.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("chromium: %v (.ci/run says what these tests need)", err)
	}
	do(t, b, chromedp.Navigate(url))
	return b
}

// do lets the browser do something.
func do[T any](t *testing.T, b *browser, action chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, startPatience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatalf("chromium: %v", err)
	}
	return v
}

// stats is what the page tells of itself. Numbers that are unknown are null there and 0 here.
type stats struct {
	At          float64 // ms on the page's own clock
	State       string
	Latency     float64
	Target      float64
	Wall        float64
	Buffer      float64
	Dropped     float64
	Total       float64
	CurrentTime float64
	Rate        float64
	Fatal       []map[string]any
	Waited      int // times the video element ran dry
}

const nowScript = `({at: performance.now(), ...window.headwater?.stats(), waited: window.waited ?? 0})`

func (b *browser) stats(t *testing.T) stats {
	t.Helper()
	return do(t, b, chromedp.Evaluate[stats](nowScript))
}

// awaitPlaying returns when the page has played for a moment.
func (b *browser) awaitPlaying(t *testing.T) {
	t.Helper()
	var since stats
	eventually(t, startPatience, "the page plays", func() bool {
		s := b.stats(t)
		if s.State != "playing" || len(s.Fatal) > 0 {
			since = stats{}
		} else if since.State == "" {
			since = s
		}
		return since.State != "" && s.CurrentTime-since.CurrentTime > 3
	})
}

// reload begins anew: hls.js keeps away from live what has stalled, and from where there were errors.
func (b *browser) reload(t *testing.T) {
	t.Helper()
	do(t, b, chromedp.Reload())
	b.awaitPlaying(t)
}

// sample lets the page note its own figures four times a second for so long, and which errors hls.js gets over.
func (b *browser) sample(t *testing.T, d time.Duration) []stats {
	t.Helper()
	do(t, b, chromedp.Evaluate[chromedp.Void](`void (window.mishaps ||
			(document.querySelector('video').addEventListener('waiting', () => window.waited++),
			window.mishaps = [], window.headwater.hls.on('hlsError', (_, e) => window.mishaps.push(Math.round(performance.now()) + ' ' + e.details))),
		window.waited = 0, window.samples = [], window.sampling = setInterval(() => window.samples.push(`+nowScript+`), 250))`))
	time.Sleep(d)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("what hls.js has got over:", do(t, b, chromedp.Evaluate[[]string](`window.mishaps`)))
		}
	})
	return do(t, b, chromedp.Evaluate[[]stats](`(clearInterval(window.sampling), window.samples)`))
}

// check fails t if the page has complained about anything.
func (b *browser) check(t *testing.T) {
	t.Helper()
	if s := b.stats(t); len(s.Fatal) > 0 {
		t.Errorf("fatal errors of hls.js: %v", s.Fatal)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.errors {
		t.Errorf("the page's console: %s", e)
	}
}

// screenshot keeps a picture of the page, for people, in the folder that CI takes as its artefacts.
func (b *browser) screenshot(t *testing.T, name string, width, height int64, phone bool) {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "headwater-ci")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var size []chromedp.EmulateViewportOption
	if phone {
		size = append(size, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulateScale(2))
	}
	do(t, b, chromedp.Steps(chromedp.EmulateViewport(width, height, size...), chromedp.Sleep(time.Second)))
	png := do(t, b, chromedp.CaptureScreenshot())
	if do(t, b, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > innerWidth`)) {
		t.Errorf("%s: the page is wider than its window", name)
	}
	do(t, b, chromedp.ResetViewport())
	file := filepath.Join(dir, name+".png")
	if err := os.WriteFile(file, png, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Log("screenshot:", file)
}

// TestE2EBrowserLatency plays with hls.js at default settings. The tests that measure playback in the browser are not
// parallel to others, which would take its processor away.
func TestE2EBrowserLatency(t *testing.T) {
	r := startHeadwater(t)
	r.publish(t, "live/a", camera)
	r.awaitLive(t, "live/a")
	tap := r.tap(t)
	b := startBrowser(t, tap.URL("/live/a/"))
	b.awaitPlaying(t)
	b.plays(t, 22*time.Second, func(a *attempt, samples []stats) { checkLatency(t, a, samples, tap) })
	b.screenshot(t, "player-desktop", 1280, 900, false)
	b.screenshot(t, "player-phone", 390, 844, true)
	b.check(t)
	tap.check(t)
	r.checkLog(t)
}

// checkLatency complains if what is shown is late.
func checkLatency(t *testing.T, a *attempt, samples []stats, tap *tap) {
	t.Helper()
	holdBack, err := strconv.ParseFloat(tap.last("video").Control["PART-HOLD-BACK"], 64)
	if err != nil {
		t.Fatalf("PART-HOLD-BACK: %v", err)
	}
	latency := percentile(samples, 0.95, func(s stats) float64 { return s.Latency })
	wall := percentile(samples, 0.95, func(s stats) float64 { return s.Wall })
	t.Logf("latency behind the live edge: p50 %.2f s, p95 %.2f s; behind the encoder: p95 %.2f s; PART-HOLD-BACK %.3f s; %v of %v frames dropped",
		percentile(samples, 0.5, func(s stats) float64 { return s.Latency }), latency, wall, holdBack,
		samples[len(samples)-1].Dropped, samples[len(samples)-1].Total)
	if latency > holdBack+1 {
		a.Errorf("latency is %.2f s at the 95th percentile, more than PART-HOLD-BACK + 1 s = %.2f s", latency, holdBack+1)
	}
	if wall > holdBack+1 {
		a.Errorf("a picture is seen %.2f s after it was received, at the 95th percentile: more than PART-HOLD-BACK + 1 s = %.2f s", wall, holdBack+1)
	}
	if latency == 0 || wall == 0 {
		t.Error("the page does not know its latency")
	}
}

// plays lets the page play on for so long and fails t if it does not, or if more complain.
func (b *browser) plays(t *testing.T, d time.Duration, more ...func(a *attempt, samples []stats)) {
	t.Helper()
	fairly(t, func(a *attempt) {
		if a.n > 1 {
			b.reload(t)
		}
		samples := b.sample(t, d)
		checkPlayback(a, samples)
		for _, check := range more {
			if len(samples) > 0 {
				check(a, samples)
			}
		}
	})
}

// checkPlayback complains if the clock of playback did not advance as real time does.
func checkPlayback(a complaints, samples []stats) {
	if len(samples) < 10 {
		a.Errorf("there are %d samples", len(samples))
		return
	}
	first, last := samples[0], samples[len(samples)-1]
	real := (last.At - first.At) / 1000
	// hls.js may play up to a tenth faster to come closer to live, never slower.
	if ratio := (last.CurrentTime - first.CurrentTime) / real; ratio < 0.97 || ratio > 1.1 {
		a.Errorf("in %.2f s the clock of playback advanced %.2f s", real, last.CurrentTime-first.CurrentTime)
	}
	still := 0
	for i, s := range samples {
		if s.State == "playing" && (i == 0 || s.CurrentTime > samples[i-1].CurrentTime) {
			continue
		}
		if still == 0 {
			a.Errorf("%.2f s after the first sample the page is %s at %.3f s", (s.At-first.At)/1000, s.State, s.CurrentTime)
		}
		still++
	}
	if still > 0 {
		a.Errorf("%d of %d samples are of standing still", still, len(samples))
	}
	if last.Waited > 0 {
		a.Errorf("playback stalled %d times", last.Waited)
	}
}

func percentile(samples []stats, p float64, of func(stats) float64) float64 {
	var all []float64
	for _, s := range samples {
		all = append(all, of(s))
	}
	slices.Sort(all)
	return all[min(int(p*float64(len(all))), len(all)-1)]
}

// TestE2EDemo plays the demo beyond its clip's end, twice: the loop has no seam that a player could see.
func TestE2EDemo(t *testing.T) {
	r := startHeadwater(t, "demo")
	eventually(t, startPatience, "the demo says where it is", func() bool {
		return strings.Contains(r.Out.String(), fmt.Sprintf("http://%s/live/demo/", r.HTTP))
	})
	r.awaitLive(t, "live/demo")
	const loop = 16 * time.Second // see demo/make-clip.sh
	tap, follow := r.tap(t), r.follow(t, "live/demo")
	b := startBrowser(t, tap.URL("/live/demo/"))
	b.awaitPlaying(t)
	b.plays(t, 2*loop)
	b.check(t)
	tap.check(t)
	follow.check(t)
	r.checkLog(t)
	for _, rendition := range []string{"video", "audio"} {
		p := follow.last(rendition)
		if p.DiscSeq != 0 || slices.ContainsFunc(p.Segments, func(s playlisttest.Segment) bool { return s.Discontinuity || s.Gap }) {
			t.Errorf("%s: there is a seam: %+v", rendition, p.Segments)
		}
	}
	if s := r.stream(t, "live/demo"); s.Reconnects != 0 || s.Discontinuities != 0 || len(s.Advice) != 0 {
		t.Errorf("the page is told %+v", s)
	}
}
