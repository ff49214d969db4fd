//go:build e2e

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"headwater/playlist"
)

// An nginx is an edge with a cache of its own.
type nginx struct {
	*peer
	dir, addr string
}

// URL is the base under which it has what the origin has.
func (n *nginx) URL() string { return "http://" + n.addr }

// lines returns what it has been asked for, each a method and a target.
func (n *nginx) lines(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(n.dir, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(strings.Lines(string(b)))
}

// requests returns the paths that it has been asked for, without queries.
func (n *nginx) requests(t *testing.T) (paths []string) {
	t.Helper()
	for _, line := range n.lines(t) {
		method, target, _ := strings.Cut(strings.TrimSpace(line), " ")
		if path, _, _ := strings.Cut(target, "?"); method == "GET" {
			paths = append(paths, path)
		}
	}
	return paths
}

// startNginx starts an edge in front of the origin: a cache that keeps what it may, one request to the origin for one object.
func (r *running) startNginx(t *testing.T, addr string) *nginx {
	t.Helper()
	return startNginx(t, addr, "server "+r.HTTP+";", `
			proxy_cache objects;
			proxy_cache_key $uri$is_args$args;
			proxy_cache_lock on;
			proxy_cache_lock_timeout 30s;`)
}

// startNginx starts an nginx in front of the servers of an upstream, to which it passes requests as the last argument says.
func startNginx(t *testing.T, addr, upstream, passing string) *nginx {
	t.Helper()
	n := &nginx{dir: t.TempDir(), addr: addr}
	conf := `
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
	log_format asked '$request_method $request_uri';
	access_log access.log asked;
	client_body_temp_path body;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	proxy_temp_path proxy;
	proxy_cache_path cache keys_zone=objects:1m;
	upstream origin {
		` + upstream + `
	}
	server {
		listen ` + addr + `;
		location / {
			proxy_pass http://origin;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_read_timeout 30s;` + passing + `
		}
	}
}
`
	if err := os.WriteFile(filepath.Join(n.dir, "nginx.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	n.peer = startPeer(t, nil, "nginx", "-p", n.dir, "-e", "stderr", "-c", "nginx.conf")
	eventually(t, peerPatience, "nginx listens", func() bool {
		if !n.running() {
			t.Fatal("nginx has ended")
		}
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return n
}

// weigh sets a pathway's weight.
func (r *running) weigh(t *testing.T, pathway string, weight int) {
	t.Helper()
	r.pathway(t, http.MethodPut, pathway, map[string]any{"weight": weight})
}

// pathway makes a request of the API of pathways.
func (r *running) pathway(t *testing.T, method, pathway string, change map[string]any) {
	t.Helper()
	var body io.Reader
	if change != nil {
		b, _ := json.Marshal(change)
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://"+r.Ops+"/api/pathways/"+pathway, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s %s %v: status %d: %s", method, pathway, change, resp.StatusCode, text)
	}
}

// fetching is what hls.js fetches, and how playback is.
type fetching struct {
	Main, Audio string   // host of the last segment
	URLs        []string // of all segments and initialization sections
	Manifests   int      // steering manifests
	Stalls      int
	Still       float64 // seconds, the longest that playback stood still
	Log         []string
	Penalized   []string // pathways that hls.js has left for five minutes
}

const fetchingScript = `void (() => {
	const video = document.querySelector('video'), hls = window.headwater.hls, began = performance.now();
	const s = window.fetching = {main: '', audio: '', urls: [], manifests: 0, stalls: 0, still: 0, log: []};
	const note = (m) => s.log.push(Math.round(performance.now() - began) + ' ' + m);
	let at = video.currentTime, since = performance.now();
	video.addEventListener('waiting', () => { s.stalls++; note('waiting at ' + video.currentTime); });
	hls.on('hlsError', (_, e) => note(e.details + ' ' + (e.error?.message ?? '') + ' ' + (e.url ?? e.frag?.url ?? '')));
	hls.on('hlsSteeringManifestLoaded', (_, e) => { s.manifests++; note(JSON.stringify(e.steeringManifest)); });
	hls.on('hlsFragLoaded', (_, {frag, part}) => {
		const {url} = part ?? frag, {host} = new URL(url);
		if (s[frag.type] !== host) note(frag.type + ' from ' + host);
		s[frag.type] = host;
		s.urls.push(url);
		if (frag.initSegment) s.urls.push(frag.initSegment.url);
	});
	setInterval(() => {
		const now = performance.now();
		if (video.currentTime !== at) [at, since] = [video.currentTime, now];
		s.still = Math.max(s.still, (now - since) / 1000);
	}, 50);
})()`

func (b *browser) fetching(t *testing.T) fetching {
	t.Helper()
	return do(t, b, chromedp.Evaluate[fetching](
		`({...window.fetching, penalized: Object.keys(window.headwater.hls.levelController?.steering?.penalizedPathways ?? {})})`))
}

// TestE2ESteering plays over one of two edges, moves the player to the other by its weight, and takes that one away. With low
// latency hls.js leaves an edge, for five minutes, whose held answer is some part targets late, as happens on a machine that is busy; then
// it may stall, and has to play on; where it shall be at that edge the page is loaded anew.
func TestE2ESteering(t *testing.T) {
	t.Run("ordinary", func(t *testing.T) { steered(t, true, "--part-target=0") })
	t.Run("low latency", func(t *testing.T) { steered(t, false) })
}

func steered(t *testing.T, strict bool, args ...string) {
	addrs := freeAddrs(t, 2)
	r := startHeadwater(t, append(args, "--steering-ttl=2s", fmt.Sprintf("--pathways=edge-a:100=http://%s,edge-b:0=http://%s", addrs[0], addrs[1]))...)
	a, b := r.startNginx(t, addrs[0]), r.startNginx(t, addrs[1])
	r.publish(t, "live/a", camera)
	r.awaitLive(t, "live/a")
	page := startBrowser(t, r.URL("/live/a/"))
	page.awaitPlaying(t)
	do(t, page, chromedp.Evaluate[chromedp.Void](fetchingScript))
	state := func() fetching { return page.fetching(t) }
	manifests := 0 // that pages have loaded which are no more
	t.Cleanup(func() { t.Logf("%s", strings.Join(state().Log, "\n")) })
	from := func(n *nginx) func() bool {
		return func() bool { s := state(); return s.Main == n.addr && s.Audio == n.addr }
	}
	playsOn := func(seconds float64) {
		t.Helper()
		at := page.stats(t).CurrentTime
		eventually(t, startPatience, "it plays on", func() bool { return page.stats(t).CurrentTime > at+seconds })
	}

	// settles waits until all comes from an edge and lets the page play on. It tells whether that took another page.
	settles := func(n *nginx, pathway string, patience time.Duration, seconds float64) (anew bool) {
		t.Helper()
		for range 2 {
			there, left := from(n), func() bool { return !strict && slices.Contains(state().Penalized, pathway) }
			eventually(t, patience, "all comes from "+pathway, func() bool { return there() || left() })
			playsOn(seconds)
			if !left() {
				return anew
			}
			s := state()
			t.Logf("hls.js has left %s:\n%s", pathway, strings.Join(s.Log, "\n"))
			manifests += s.Manifests
			page.reload(t)
			do(t, page, chromedp.Evaluate[chromedp.Void](fetchingScript))
			anew = true
		}
		eventually(t, patience, "all comes from "+pathway, from(n))
		playsOn(seconds)
		return anew
	}

	if anew := settles(a, "edge-a", peerPatience, 3); anew {
		t.Log("whether edge B is asked that has no weight is not known")
	} else if n := len(b.requests(t)); n > 0 {
		t.Errorf("edge B, which has no weight, was asked %d times: %v", n, b.requests(t))
	}
	for _, path := range a.requests(t) {
		if strings.HasSuffix(path, "/live/a/index.m3u8") || strings.HasSuffix(path, ".json") {
			t.Errorf("edge A was asked for %s", path)
		}
	}

	moved := time.Now()
	r.weigh(t, "edge-b", 100)
	r.weigh(t, "edge-a", 0)
	settles(b, "edge-b", peerPatience, 4) // what was held at edge A is logged when it is answered
	t.Logf("all came from edge B, for 4 s, %.1f s after the weights had changed", time.Since(moved).Seconds())
	rest := len(a.requests(t))
	playsOn(3)
	s := state()
	if more := a.requests(t)[rest:]; strict && len(more) > 0 {
		t.Errorf("edge A was asked again: %q", more)
	}
	t.Logf("playback stalled %d times, and stood still for %.2f s at most", s.Stalls, s.Still)
	if strict && s.Still > 0.5 {
		t.Error("playback stalled")
	}
	if n := manifests + s.Manifests; n < 3 {
		t.Errorf("%d steering manifests were loaded", n)
	}

	b.kill()
	killed := time.Now()
	on := 4.0 // for longer than what was buffered lasts
	if strict {
		on = 8
	}
	settles(a, "edge-a", startPatience, on)
	t.Logf("all came from edge A, for %v s, %.1f s after edge B had been killed", on, time.Since(killed).Seconds())
	s = state()
	t.Logf("playback stalled %d times, and stood still for %.2f s at most; hls.js has left %q", s.Stalls, s.Still, s.Penalized)
	if strict {
		r.clone(t, page, a, func(n *nginx, pathway string) { settles(n, pathway, peerPatience, 3) })
	}
	if len(page.stats(t).Fatal) > 0 {
		t.Errorf("fatal errors: %v", page.stats(t).Fatal)
	}
	_, metrics := get(t, "http://"+r.Ops+"/metrics")
	for _, want := range []string{`headwater_pathway_weight{pathway="edge-a",streams=""} 0`, `headwater_pathway_weight{pathway="edge-b",streams=""} 100`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s", want)
		}
	}
	if strict {
		a.checkSteering(t, r)
		checkLines(t, "nginx", a.err.String())
	}
	r.checkLog(t)
}

// clone adds an edge that no playlist has, a clone of edge A that differs from it in the host's name alone, lets the page play over it, and takes it away.
func (r *running) clone(t *testing.T, page *browser, a *nginx, settles func(n *nginx, pathway string)) {
	t.Helper()
	_, port, _ := net.SplitHostPort(a.addr)
	c := r.startNginx(t, net.JoinHostPort("127.0.0.2", port))
	r.pathway(t, http.MethodPut, "edge-c", map[string]any{"weight": 1, "url": c.URL(), "params": map[string]string{"via": "c"}})
	r.weigh(t, "edge-b", 0)
	page.reload(t) // our page, unlike others, fetches from nowhere that it was not told of when it was loaded
	do(t, page, chromedp.Evaluate[chromedp.Void](fetchingScript))
	settles(c, "edge-c")
	if lines := c.lines(t); !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "/index.m3u8?") && strings.Contains(l, "via=c") }) {
		t.Errorf("no playlist was asked for with the clone's parameter: %q", lines)
	}
	r.weigh(t, "edge-a", 1)
	r.pathway(t, http.MethodDelete, "edge-c", nil)
	settles(a, "edge-a")
	r.weigh(t, "edge-b", 100)
	r.weigh(t, "edge-a", 0)
}

// checkSteering asks for manifests through the edge: it gives nobody's first one to another, and passes on what a new weight makes.
func (n *nginx) checkSteering(t *testing.T, r *running) {
	t.Helper()
	given := map[string]bool{}
	for range 10 {
		_, body := get(t, n.URL()+"/live/a/steering.json")
		given[body] = true
	}
	if len(given) < 8 {
		t.Errorf("through the edge, 10 players are given %d buckets", len(given))
	}
	for _, first := range []string{"edge-a", "edge-b"} {
		r.weigh(t, "edge-a", 0)
		r.weigh(t, "edge-b", 0)
		r.weigh(t, first, 1)
		if _, body := get(t, n.URL()+"/live/a/steering.json?bucket=7"); !strings.Contains(body, `"PATHWAY-PRIORITY":["`+first) {
			t.Errorf("through the edge, with all the weight on %s: %s", first, body)
		}
	}
}

// TestE2ESharding plays with media on two hosts: each object is asked for where the hash of its path says, and nothing else is asked for there.
func TestE2ESharding(t *testing.T) {
	addrs := freeAddrs(t, 2)
	shards := []string{"http://" + addrs[0], "http://" + addrs[1]}
	r := startHeadwater(t, "--shards="+strings.Join(shards, ","))
	edges := []*nginx{r.startNginx(t, addrs[0]), r.startNginx(t, addrs[1])}
	r.publish(t, "live/a", camera)
	r.awaitLive(t, "live/a")
	page := startBrowser(t, r.URL("/live/a/?latency=ordinary"))
	page.awaitPlaying(t)
	do(t, page, chromedp.Evaluate[chromedp.Void](fetchingScript))
	at := page.stats(t).CurrentTime
	eventually(t, startPatience, "it plays on", func() bool { return page.stats(t).CurrentTime > at+15 })
	s := page.fetching(t)
	if s.Still > 0.5 {
		t.Errorf("playback stalled %d times, and stood still for %.2f s: %q", s.Stalls, s.Still, s.Log)
	}
	page.check(t)
	r.checkLog(t, "shards: players that speak HTTP/2") // which it is to say

	if len(s.URLs) < 10 {
		t.Errorf("%d segments", len(s.URLs))
	}
	for _, u := range s.URLs {
		i := slices.IndexFunc(shards, func(h string) bool { return strings.HasPrefix(u, h+"/") })
		if i < 0 {
			t.Errorf("%s is on neither shard", u)
		} else if path := strings.TrimPrefix(u, shards[i]); playlist.Shard(shards, path) != shards[i] {
			t.Errorf("%s belongs on %s", u, playlist.Shard(shards, path))
		}
	}
	for i, e := range edges {
		asked := e.requests(t)
		if len(asked) < 3 {
			t.Errorf("%s was asked %d times", e.addr, len(asked))
		}
		for _, path := range asked {
			if playlist.Shard(shards, path) != shards[i] || !strings.HasSuffix(path, ".m4s") && !strings.HasSuffix(path, ".mp4") {
				t.Errorf("%s was asked for %s", e.addr, path)
			}
		}
		checkLines(t, "nginx", e.err.String())
	}
	if n := strings.Count(r.Log.String(), "shards:"); n != 1 {
		t.Errorf("the warning is logged %d times", n)
	}
}
