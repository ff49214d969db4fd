//go:build linux || darwin

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"headwater/cmd/headwater/demo"
)

// childPatience is how long a test waits for what another process does.
const childPatience = 60 * time.Second

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(childPatience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// startChild is startHeadwater in a process of its own, which has so many file descriptors; 0 is as many as there are.
func startChild(t testing.TB, files int, args ...string) (Addrs, *buffer) {
	t.Helper()
	args = append([]string{"--rtmp-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0", "--data-dir="}, args...)
	cmd := exec.Command("headwater", args...) // this binary; see TestMain
	if files > 0 {
		cmd = exec.Command("sh", append([]string{"-c", `ulimit -n "$0" && exec headwater "$@"`, strconv.Itoa(files)}, args...)...)
	}
	log := &buffer{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("headwater: %v", err)
		}
		if t.Failed() {
			t.Logf("log of headwater:\n%s", log)
		}
	})
	var a Addrs
	listening := regexp.MustCompile(`msg=listening rtmp=(\S+) http=(\S+) ops=(\S+)`)
	await(t, "headwater listens", func() bool {
		m := listening.FindStringSubmatch(log.String())
		if m != nil {
			a.RTMP, a.HTTP, a.Ops = m[1], m[2], m[3]
		}
		return m != nil
	})
	return a, log
}

// scrape returns the metrics by series.
func scrape(t testing.TB, a Addrs) map[string]float64 {
	t.Helper()
	_, text := get(t, "http://"+a.Ops+"/metrics")
	m := map[string]float64{}
	for line := range strings.Lines(text) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
			if err != nil {
				t.Fatal(err)
			}
			m[line[:i]] = v
		}
	}
	return m
}

// idle opens a connection and has one request answered on it.
func idle(addr string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(childPatience))
	io.WriteString(c, "GET /live/nobody/index.m3u8 HTTP/1.1\r\nHost: a.test\r\n\r\n")
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil && r.StatusCode != 404 {
		err = fmt.Errorf("status %d", r.StatusCode)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Fifteen thousand idle connections cost some memory each, which comes back, and nothing else; others are served meanwhile.
func TestIdleConnections(t *testing.T) {
	n, most := 15_000, 40.0 // KiB each
	if raceEnabled {
		n, most = 3_000, 400 // it has a limit of goroutines
	}
	if files, _ := openFiles(); int(files) < n+500 {
		n = int(files) - 500
		t.Logf("only %d connections: the test may have %d open files", n, files)
	}
	a, _ := startChild(t, 0)
	warm, err := idle(a.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	warm.Close()
	get(t, "http://"+a.HTTP+"/api/streams")
	scrape(t, a)
	before := scrape(t, a)

	all := make([]net.Conn, n)
	var next atomic.Int64
	var dialling sync.WaitGroup
	for range 16 {
		dialling.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				c, err := idle(a.HTTP)
				if err != nil {
					t.Error(err)
					return
				}
				all[i] = c
			}
		})
	}
	dialling.Wait()
	defer func() {
		for _, c := range all {
			if c != nil {
				c.Close()
			}
		}
	}()
	if t.Failed() {
		return
	}
	const open = `headwater_http_connections{listener="http"}`
	during := scrape(t, a)
	if x := int(during[open]) - n; x < 0 || x > 1 { // and the one by which the others' requests come
		t.Errorf("%v are open, want %d", during[open], n)
	}
	each := (during["process_resident_memory_bytes"] - before["process_resident_memory_bytes"]) / float64(n) / 1024
	t.Logf("%d idle connections, %.1f KiB each", n, each)
	if each > most {
		t.Errorf("%.1f KiB each, want at most %.0f", each, most)
	}
	if len(during) != len(before) {
		t.Errorf("%d series before, %d now", len(before), len(during))
	}
	var took []time.Duration
	for range 200 {
		began := time.Now()
		if code, _ := get(t, "http://"+a.HTTP+"/api/streams"); code != 200 {
			t.Fatalf("status %d", code)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("others are answered in %v, 99 %% in %v", took[100], took[198])
	for i, c := range all {
		c.Close()
		all[i] = nil
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	await(t, "goroutines end", func() bool {
		m := scrape(t, a)
		return m[open] == 0 && m["go_goroutines"] <= before["go_goroutines"]+5
	})
	if m := scrape(t, a); m[`headwater_http_connections_refused_total{listener="http"}`] != 0 || len(m) != len(before) {
		t.Errorf("%d series before, %d after, %v refused", len(before), len(m), m[`headwater_http_connections_refused_total{listener="http"}`])
	}
}

// However many connections come to the HTTP port, a publisher finds a place, and operations answer. The limit is lowered to
// what the process may open, which is said once.
func TestFloodLeavesPublishersAlone(t *testing.T) {
	const files, publishers = 600, 20
	limit := mayConnect(files, publishers)
	a, log := startChild(t, files, "--max-connections="+strconv.Itoa(publishers))
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), fmt.Sprintf("connections=%d ", limit)) {
		t.Errorf("%d warnings:\n%s", n, log)
	}

	ctx, cancel := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	defer flood.Wait()
	defer cancel()
	for range 4 {
		flood.Go(func() {
			var held []net.Conn
			defer func() {
				for _, c := range held {
					c.Close()
				}
			}()
			for ctx.Err() == nil {
				c, err := net.Dial("tcp", a.HTTP)
				if err != nil {
					continue // it may be reset before it was seen to be open
				}
				io.WriteString(c, "GET / HTTP/1.1\r\n")
				held = append(held, c)
				if len(held) > 500 {
					held[0].Close()
					held = held[1:]
				}
			}
		})
	}
	const open, refused = `headwater_http_connections{listener="http"}`, `headwater_http_connections_refused_total{listener="http"}`
	await(t, "the port is full", func() bool {
		m := scrape(t, a)
		return m[refused] > 2000
	})
	if m := scrape(t, a); m[open] > float64(limit) || m[`headwater_http_connections_limit{listener="http"}`] != float64(limit) {
		t.Errorf("%v are open of %d", m[open], limit)
	}

	clip, err := demo.Load()
	if err != nil {
		t.Fatal(err)
	}
	published := make(chan error, 1)
	began := make(chan struct{})
	flood.Go(func() { published <- publishOnce(ctx, a.RTMP, "flooded", clip, func() { close(began) }) })
	select {
	case <-began:
	case err := <-published:
		t.Fatalf("the publisher: %v", err)
	case <-time.After(childPatience):
		t.Fatal("the publisher has not begun")
	}
	await(t, "the stream can be played", func() bool {
		select {
		case err := <-published:
			t.Fatalf("the publisher: %v", err)
		default:
		}
		_, info := get(t, "http://"+a.Ops+"/api/streams/live/flooded")
		return strings.Contains(info, `"ready":true`)
	})
	m := scrape(t, a)
	if m[refused] < 1000 || m[`headwater_http_accept_errors_total{listener="http"}`] != 0 {
		t.Errorf("%v refused, %v errors", m[refused], m[`headwater_http_accept_errors_total{listener="http"}`])
	}
	cancel()
	flood.Wait()
	await(t, "players are served again", func() bool {
		r, err := http.Get("http://" + a.HTTP + "/live/flooded/index.m3u8")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == 200
	})
}

func TestMayConnect(t *testing.T) {
	for _, c := range []struct {
		files      uint64
		publishers int
		want       int
	}{
		{1 << 20, 1000, 1<<20 - 3768},
		{20_000, 1000, 16_232},
		{1024, 1000, 256}, // they would take all
		{1024, 10, 256},
		{2048, 10, 1250},
		{0, 10, 1},
		{1<<64 - 1, 10, 1<<31 - 1}, // no limit
	} {
		if n := mayConnect(c.files, c.publishers); n != c.want {
			t.Errorf("%d files, %d publishers: %d, want %d", c.files, c.publishers, n, c.want)
		}
	}
}

// All listeners of the media side share one limit, that of the operations port is its own, and each counts for itself.
func TestLimitIsShared(t *testing.T) {
	r, clients, bases := startTLS(t, "--http-max-connections=3", "--log-format=json")
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0", "HTTP/3.0"} {
		if a := ask(t, clients[proto], proto, "GET", bases[proto]+"/api/streams", nil); a.Status != "200 OK" {
			t.Errorf("%s: %s", proto, a.Status)
		}
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(r.URL("/api/streams"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || resp.Header.Get("Cache-Control") != "private, no-store" {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
	m := scrape(t, r.Addrs)
	for series, want := range map[string]float64{
		`headwater_http_connections{listener="http"}`:                    1,
		`headwater_http_connections{listener="https"}`:                   1,
		`headwater_http_connections{listener="http3"}`:                   1,
		`headwater_http_connections{listener="ops"}`:                     1,
		`headwater_http_connections_limit{listener="http3"}`:             3,
		`headwater_http_connections_limit{listener="ops"}`:               opsConnections,
		`headwater_http_connections_refused_total{listener="http"}`:      1,
		`headwater_http_connections_refused_total{listener="https"}`:     0,
		`headwater_http_connections_idle_closed_total{listener="https"}`: 0,
	} {
		if got, ok := m[series]; !ok || got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	// Of the three, those on TCP give way when they have been idle for a moment.
	await(t, "an idle connection gives way", func() bool {
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(r.URL("/api/streams"))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
}
