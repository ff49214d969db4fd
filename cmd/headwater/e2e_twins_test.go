//go:build e2e

package main

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestE2ETwins lets one encoder feed two origins behind a load balancer that gives each request to the next one, and to the other if
// that does not know the path. Whoever plays one of the two runs gets that run alone: no playlist goes back, no URL has two
// contents. Then one of the origins is stopped.
func TestE2ETwins(t *testing.T) {
	t.Parallel()
	twins := []*running{startHeadwater(t), startHeadwater(t)}
	addr := freeAddrs(t, 1)[0]
	startNginx(t, addr, "server "+twins[0].HTTP+"; server "+twins[1].HTTP+";", "proxy_next_upstream error timeout http_404 http_502 http_503;")
	front := &running{Addrs: Addrs{HTTP: addr}}

	args := join(encoding{"-nostdin", "-hide_banner", "-loglevel", "repeat+warning"}, camera, encoding{"-map", "0:v", "-map", "1:a", "-flags", "+global_header",
		"-f", "tee", "[f=flv:onfail=ignore]rtmp://" + twins[0].RTMP + "/live/cam|[f=flv:onfail=ignore]rtmp://" + twins[1].RTMP + "/live/cam"})
	startPeer(t, nil, "ffmpeg", args...)
	playlists := map[*running][]string{} // by origin, their paths
	for _, r := range twins {
		r.awaitLive(t, "live/cam")
		for _, at := range r.renditions(t, "live/cam") {
			playlists[r] = append(playlists[r], strings.TrimPrefix(at, r.URL("")))
		}
	}
	for i, r := range twins { // neither knows what is the other's
		for _, path := range playlists[twins[1-i]] {
			if code, _ := get(t, r.URL(path)); code != http.StatusNotFound {
				t.Fatalf("%s of the other origin: status %d", path, code)
			}
		}
	}

	transport := &http.Transport{DisableKeepAlives: true}
	s := survey{client: http.Client{Transport: transport, Timeout: peerPatience}}
	f := &follower{stop: make(chan struct{})}
	t.Cleanup(f.end)
	for _, path := range slices.Concat(slices.Collect(maps.Values(playlists))...) {
		f.done.Go(func() { f.reload(t, front.URL(path), f.fetch(t, front.URL(path))) })
	}
	for round := range 8 { // the segments are read again and again, from either
		for _, r := range twins {
			for _, path := range playlists[r] {
				s.read(t, front, round, path)
			}
		}
		s.read(t, front, round, "/live/cam/index.m3u8")
		time.Sleep(time.Second)
	}
	f.check(t)
	for i, r := range twins {
		answers := map[string]float64{}
		for name, n := range r.metrics(t, "headwater_http_requests_total") {
			for _, code := range []string{"200", "404"} {
				if strings.Contains(name, `"`+code+`"`) {
					answers[code] += n
				}
			}
		}
		if answers["200"] < 50 || answers["404"] < 50 {
			t.Errorf("origin %d has not been asked for everything: %v", i, answers)
		}
	}

	if err := twins[0].Stop(); err != nil {
		t.Error(err)
	}
	f = &follower{stop: make(chan struct{})}
	for _, path := range playlists[twins[1]] {
		f.done.Go(func() { f.reload(t, front.URL(path), f.fetch(t, front.URL(path))) })
	}
	for round := range 3 {
		for _, path := range append(playlists[twins[1]], "/live/cam/index.m3u8") {
			s.read(t, front, 8+round, path)
		}
		time.Sleep(time.Second)
	}
	f.check(t)
	if n := len(s.sums); n < 40 {
		t.Errorf("only %d files have been read", n)
	}
	twins[1].checkLog(t)
}
