//go:build e2e

package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// metrics are the figures of the origin whose names begin with prefix, by name with labels.
func (r *running) metrics(t *testing.T, prefix string) map[string]float64 {
	t.Helper()
	code, text := get(t, "http://"+r.Ops+"/metrics")
	if code != 200 {
		t.Fatalf("/metrics: status %d", code)
	}
	m := map[string]float64{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || !strings.HasPrefix(name, prefix) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		m[name] = v
	}
	return m
}

// TestE2ECMCD plays with hls.js as it reports to CDNs (CTA-5004): in the query, in headers, and in version 2. All of it is counted,
// and none of it is in the way of playback.
func TestE2ECMCD(t *testing.T) {
	t.Parallel()
	r := startHeadwater(t)
	r.publish(t, "live/a", small)
	r.awaitLive(t, "live/a")
	b := startBrowser(t, r.URL("/live/a/"))
	b.awaitPlaying(t)
	if m := r.metrics(t, "headwater_cmcd_requests_total"); len(m) > 0 {
		t.Errorf("the page reports nothing, and still there is %v", m)
	}
	// A browser has six connections by HTTP/1.1, of which a low-latency player may hold four.
	do(t, b, chromedp.Evaluate[chromedp.Void](`void window.headwater.hls.destroy()`))
	for _, c := range []struct{ config, carrier string }{
		{"{}", "query"},
		{"{useHeaders: true}", "header"},
		{"{version: 2}", "query"},
		{"{version: 2, useHeaders: true}", "header"},
	} {
		t.Run(c.config, func(t *testing.T) {
			before := r.metrics(t, "headwater_cmcd")
			do(t, b, chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`void (() => {
				const video = document.createElement('video');
				video.muted = true;
				document.body.append(video);
				window.errors = [];
				window.reporter = new Hls({lowLatencyMode: true, cmcd: %s});
				window.reporter.on('hlsError', (_, e) => e.fatal && window.errors.push(e.details));
				window.reporter.loadSource('/live/a/index.m3u8');
				window.reporter.attachMedia(video);
				video.play();
				window.reported = video;
			})()`, c.config)))
			names := map[string]string{
				"playlists":  fmt.Sprintf(`headwater_cmcd_requests_total{carrier="%s",object="manifest",type="live"}`, c.carrier),
				"media":      fmt.Sprintf(`headwater_cmcd_requests_total{carrier="%s",object="video",type="live"}`, c.carrier),
				"audio":      fmt.Sprintf(`headwater_cmcd_requests_total{carrier="%s",object="audio",type="live"}`, c.carrier),
				"buffer":     `headwater_cmcd_stream_buffer_seconds_count{stream="live/a"}`,
				"throughput": `headwater_cmcd_stream_throughput_bits_per_second_count{stream="live/a"}`,
				"bit rate":   `headwater_cmcd_stream_encoded_bits_per_second_count{stream="live/a"}`,
				"startup":    `headwater_cmcd_stream_startup_total{stream="live/a"}`,
			}
			var now map[string]float64
			missing := func() (list []string) {
				now = r.metrics(t, "headwater_cmcd")
				for what, name := range names {
					if now[name] <= before[name] {
						list = append(list, what)
					}
				}
				return list
			}
			t.Cleanup(func() {
				if t.Failed() {
					t.Log("missing:", missing(), "of", now)
				}
			})
			eventually(t, startPatience, "all of it is counted", func() bool { return len(missing()) == 0 })
			eventually(t, startPatience, "it plays", func() bool {
				return do(t, b, chromedp.Evaluate[bool](`window.reported.played.length > 0 && window.reported.played.end(0) - window.reported.played.start(0) > 1`))
			})
			if e := do(t, b, chromedp.Evaluate[[]string](`(window.reporter.destroy(), window.reported.remove(), window.errors)`)); len(e) > 0 {
				t.Errorf("hls.js gave up: %q", e)
			}
			if n := now["headwater_cmcd_malformed_total"]; n > 0 {
				t.Errorf("%v of what hls.js says is malformed", n)
			}
		})
	}
	b.check(t)
	r.checkLog(t)
}
