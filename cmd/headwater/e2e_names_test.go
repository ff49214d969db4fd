//go:build e2e

package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startProcess runs the command in a process of its own, which can be killed, and returns when it listens.
func startProcess(t *testing.T, bin string, args ...string) (*running, *peer) {
	t.Helper()
	p := startPeer(t, nil, bin, append([]string{"--rtmp-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--ops-addr=", "--log-format=json"}, args...)...)
	r := &running{}
	eventually(t, startPatience, "headwater listens", func() bool {
		if !p.running() {
			t.Fatalf("headwater has ended:\n%s", p.err.String())
		}
		lines := bufio.NewScanner(strings.NewReader(p.err.String()))
		for lines.Scan() {
			var line struct{ Msg, RTMP, HTTP string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
				r.RTMP, r.HTTP = line.RTMP, line.HTTP
				return true
			}
		}
		return false
	})
	return r, p
}

// A survey is the content of every media URL that has been seen.
type survey struct {
	client http.Client
	sums   map[string][sha256.Size]byte // by path
	first  map[string]int               // the start of the origin in which a path was seen first
	runs   map[string]bool
	again  int // objects that were seen in an earlier start, too
}

var uri = regexp.MustCompile(`URI="([^"]+)"`)

// read fetches everything that the playlist at a path names, directly or not, and returns the paths of the media.
func (s *survey) read(t *testing.T, r *running, start int, path string) (media []string) {
	t.Helper()
	todo, seen := []string{path}, map[string]bool{path: true}
	for len(todo) > 0 {
		at := todo[0]
		todo = todo[1:]
		resp, err := s.client.Get(r.URL(at))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: status %d, %v", at, resp.StatusCode, err)
		}
		if !strings.HasSuffix(at, ".m3u8") {
			media = append(media, at)
			s.note(t, start, at, sha256.Sum256(body))
			continue
		}
		base, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(body)) {
			line = strings.TrimSpace(line)
			if m := uri.FindStringSubmatch(line); m != nil && !strings.HasPrefix(line, "#EXT-X-PRELOAD-HINT") {
				line = m[1]
			}
			if line == "" || line[0] == '#' {
				continue
			}
			ref, err := base.Parse(line)
			if err != nil {
				t.Fatal(err)
			}
			if !seen[ref.Path] {
				seen[ref.Path] = true
				todo = append(todo, ref.Path)
			}
		}
	}
	return media
}

// note compares what is at a path with what has ever been there: one URL, one content.
func (s *survey) note(t *testing.T, start int, path string, sum [sha256.Size]byte) {
	t.Helper()
	if s.sums == nil {
		s.sums, s.first = map[string][sha256.Size]byte{}, map[string]int{}
	}
	if old, ok := s.sums[path]; ok && old != sum {
		t.Errorf("start %d: %s is not what it was in start %d", start, path, s.first[path])
	} else if !ok {
		s.sums[path], s.first[path] = sum, start
	}
}

// TestE2ENames starts the origin over and over, ended by a signal and by a kill in turn, and each time lets the same encoder send
// the same bytes under the same name from the beginning. Caches keep media for a year: no URL may ever come to mean something
// else. What is not kept over a restart never comes again at all.
func TestE2ENames(t *testing.T) {
	t.Parallel()
	clip := filepath.Join(t.TempDir(), "clip.flv")
	e := join(encoding{"-f", "lavfi", "-i", "testsrc2=s=320x180:r=30:d=4", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:d=4"},
		h264("30", "-b:v", "200k"), aac("2"), encoding{"-f", "flv", clip})
	if code := startPeer(t, nil, "ffmpeg", append([]string{"-nostdin", "-hide_banner", "-loglevel", "warning"}, e...)...).wait(t, startPatience); code != 0 {
		t.Fatalf("ffmpeg: exit status %d", code)
	}
	t.Run("nothing kept", func(t *testing.T) {
		s := startOver(t, clip, "--data-dir=")
		if n := len(s.runs); n != starts || s.again > 0 {
			t.Errorf("%d runs in %d starts, %d objects of one before", n, starts, s.again)
		}
	})
	t.Run("state kept", func(t *testing.T) {
		s := startOver(t, clip, "--data-dir="+t.TempDir(), "--on-stop=keep")
		if s.again < 10*starts {
			t.Errorf("in %d starts there were only %d objects of one before", starts, s.again)
		}
	})
}

// starts is how often the origin is started.
const starts = 21

// startOver starts the origin so often, and surveys what there is each time.
func startOver(t *testing.T, clip string, args ...string) *survey {
	t.Helper()
	bin, began := build(t), time.Now()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	s := &survey{client: http.Client{Transport: transport, Timeout: peerPatience}, runs: map[string]bool{}}
	seconds := map[int64]int{}
	for start := range starts {
		r, p := startProcess(t, bin, append([]string{"--target-duration=1s"}, args...)...)
		seconds[time.Now().Unix()]++
		push := r.publish(t, "live/a", encoding{"-i", clip, "-c", "copy"}) // as fast as it can: in an instant
		if code := push.wait(t, startPatience); code != 0 {
			t.Fatalf("ffmpeg: exit status %d: %s", code, push.err.String())
		}
		r.awaitLive(t, "live/a")
		kinds := map[string]int{}
		for _, index := range []string{"/live/a/index.m3u8", "/live/a/ts/index.m3u8"} {
			for _, path := range s.read(t, r, start, index) {
				elements := strings.Split(path, "/") // "", app, name, run, rendition, ...
				s.runs[elements[3]] = true
				if s.first[path] != start {
					s.again++
				}
				name := elements[len(elements)-1]
				kinds[name[:1]+filepath.Ext(name)]++
			}
		}
		for _, kind := range []string{"i.mp4", "s.m4s", "p.m4s", "s.ts"} {
			if kinds[kind] < 2 {
				t.Fatalf("start %d: too little is named: %v", start, kinds)
			}
		}
		transport.CloseIdleConnections()
		if start%2 == 0 {
			p.kill()
			continue
		}
		p.cmd.Process.Signal(syscall.SIGTERM)
		if code := p.wait(t, peerPatience); code != 0 {
			t.Errorf("start %d: exit status %d:\n%s", start, code, p.err.String())
		}
	}
	shared := 0
	for _, n := range seconds {
		shared += n - 1
	}
	t.Logf("%d URLs and %d runs of %d starts in %v, %d of them in the second of the one before", len(s.sums), len(s.runs), starts,
		time.Since(began).Round(time.Millisecond), shared)
	return s
}
