//go:build e2e

package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// anEdge is a cache server in front of an origin.
type anEdge struct {
	name   string
	addr   string
	origin *running
	dir    string
	peer   *peer
	logged int // bytes of the origin's log when the edge began
}

// url is that of a path at the edge.
func (e *anEdge) url(path string) string { return "http://" + e.addr + path }

// newEdge writes the edge's configuration and starts it.
func newEdge(t *testing.T, name string, origin *running) *anEdge {
	t.Helper()
	e := &anEdge{name: name, addr: freeAddrs(t, 1)[0], origin: origin, dir: t.TempDir()}
	// Traffic Server's and nginx's processes are not root's.
	for d := e.dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	e.start(t)
	return e
}

// start starts the edge with an empty cache and returns when it answers.
func (e *anEdge) start(t *testing.T) {
	t.Helper()
	cache := filepath.Join(e.dir, "cache")
	if err := os.RemoveAll(cache); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"edge-config", e.name, "--http-addr=" + e.origin.HTTP, "--listen=" + e.addr, "--cache-dir=" + cache, "--cache-size=256"}, edgeSettings...)
	var text, warnings bytes.Buffer
	folders := []string{cache}
	if e.name == "trafficserver" {
		folders = append(folders, filepath.Join(e.dir, "etc"), filepath.Join(e.dir, "run"), filepath.Join(e.dir, "log"), filepath.Join(e.dir, "share"))
		args = append(args, "--dir="+filepath.Join(e.dir, "etc"))
	}
	for _, d := range folders {
		if err := os.MkdirAll(d, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o777); err != nil { // whatever the umask
			t.Fatal(err)
		}
	}
	if err := (&Main{}).Run(t.Context(), args, &text, &warnings); err != nil || warnings.Len() > 0 {
		t.Fatalf("edge-config: %v %s", err, warnings.String())
	}
	e.logged = len(e.origin.Log.String())
	conf := filepath.Join(e.dir, "conf")
	if err := os.WriteFile(conf, text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	switch e.name {
	case "nginx":
		e.peer = startPeer(t, nil, "nginx", "-c", conf, "-e", "stderr", "-g", "daemon off; pid "+filepath.Join(e.dir, "pid")+";")
	case "varnish":
		e.peer = startPeer(t, nil, "varnishd", "-F", "-n", filepath.Join(e.dir, "varnish"), "-a", e.addr, "-T", "none", "-f", conf, "-s", "malloc,256m")
	case "trafficserver":
		root := ""
		for _, d := range [][2]string{{"prefix", e.dir}, {"exec_prefix", e.dir}, {"bindir", "/usr/bin"}, {"sbindir", "/usr/sbin"}, {"sysconfdir", e.dir + "/etc"},
			{"datadir", e.dir + "/share"}, {"includedir", "/usr/include"}, {"libdir", "/usr/lib"}, {"libexecdir", "/usr/lib/trafficserver/modules"},
			{"localstatedir", e.dir}, {"runtimedir", e.dir + "/run"}, {"logdir", e.dir + "/log"}, {"mandir", "/usr/share/man"}, {"infodir", "/usr/share/info"},
			{"cachedir", cache}} {
			root += d[0] + ": " + d[1] + "\n"
		}
		if err := os.WriteFile(filepath.Join(e.dir, "runroot.yaml"), []byte(root), 0o644); err != nil {
			t.Fatal(err)
		}
		e.peer = startPeer(t, []string{"TS_RUNROOT=" + e.dir}, "traffic_server")
	}
	eventually(t, startPatience, e.name+" answers", func() bool {
		if !e.peer.running() {
			t.Fatalf("%s has ended:\n%s", e.name, tail(e.peer.err.String(), 4000))
		}
		resp, err := http.Get(e.url("/"))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode < 500
	})
}

// fetched is an answer.
type fetched struct {
	status int
	header http.Header
	body   []byte
	asked  time.Time
}

func fetchFrom(t *testing.T, url string, header ...string) fetched {
	t.Helper()
	f, err := tryFetch(url, header...)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// tryFetch is fetchFrom for other goroutines than the test's.
func tryFetch(url string, header ...string) (fetched, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return fetched{}, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	f := fetched{asked: time.Now()}
	resp, err := edgeClient.Do(req)
	if err != nil {
		return f, err
	}
	defer resp.Body.Close()
	f.status, f.header = resp.StatusCode, resp.Header
	f.body, err = io.ReadAll(resp.Body)
	return f, err
}

// maxAge is for how long caches may keep it.
func (f fetched) maxAge(t *testing.T) time.Duration {
	t.Helper()
	var seconds int
	if _, err := fmt.Sscanf(f.header.Get("Cache-Control"), "public, max-age=%d", &seconds); err != nil {
		t.Fatalf("Cache-Control %q", f.header.Get("Cache-Control"))
	}
	return time.Duration(seconds) * time.Second
}

var edgeClient = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 200, DisableCompression: true}}

// media is the path of the stream's media playlist.
func (e *anEdge) media(t *testing.T) string {
	t.Helper()
	const index = "/live/load0/index.m3u8"
	f := fetchFrom(t, e.url(index))
	_, rest, ok := strings.Cut(string(f.body), "\n#EXT-X-STREAM-INF:")
	if f.status != 200 || !ok {
		t.Fatalf("multivariant playlist: status %d\n%s", f.status, f.body)
	}
	return "/live/load0/" + strings.Split(rest, "\n")[1]
}

// requests is how many requests the origin has answered.
func (e *anEdge) requests(t *testing.T) (n int) {
	t.Helper()
	_, text := get(t, "http://"+e.origin.Ops+"/metrics")
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "headwater_http_requests_total{") {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.Index(line, "} ")+2:]), 64)
			if err != nil {
				t.Fatal(err)
			}
			n += int(v)
		}
	}
	return n
}
