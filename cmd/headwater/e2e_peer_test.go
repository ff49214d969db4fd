//go:build e2e

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// These tests let real encoders, players and HTTP clients speak to the whole origin over loopback. A peer that is missing
// fails the test: .ci/run says what to install. Run them with: go test -tags e2e -run TestE2E ./cmd/headwater

const (
	startPatience = 45 * time.Second // for a publication to be playable, on a machine that is busy with something else
	peerPatience  = 20 * time.Second // for a peer to end that has been told to, or has nothing more to do
)

// A peer is somebody else's program.
type peer struct {
	cmd      *exec.Cmd
	out, err buffer
	done     chan struct{}
	code     int // when done is closed; -1 for a signal
}

// startPeer starts a program. Neither it nor what it starts outlives the test.
func startPeer(t *testing.T, env []string, name string, args ...string) *peer {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed: .ci/run says what these tests need", name)
	}
	p := &peer{cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.cmd.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %s\nexit status %d, standard error:\n%s", name, strings.Join(args, " "), p.code, tail(p.err.String(), 4000))
		}
	})
	return p
}

// wait returns the exit status. A peer that has not ended by then fails the test.
func (p *peer) wait(t *testing.T, patience time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.code
	case <-time.After(patience):
		p.kill()
		t.Fatalf("%s has not ended after %v", filepath.Base(p.cmd.Path), patience)
		return -1
	}
}

// kill ends it and the processes that it has started, without a goodbye, and waits until all are gone: they have its ports.
func (p *peer) kill() {
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
	for range 500 {
		if syscall.Kill(-p.cmd.Process.Pid, 0) != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// interrupt lets it say goodbye.
func (p *peer) interrupt(t *testing.T) {
	t.Helper()
	p.cmd.Process.Signal(syscall.SIGINT)
	p.wait(t, peerPatience)
}

func (p *peer) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// build returns the path of the command headwater, as it is shipped.
func build(t *testing.T) string {
	t.Helper()
	return built(t, headwater)
}

// buildLoad returns the path of the command headload.
func buildLoad(t *testing.T) string {
	t.Helper()
	return built(t, headload)
}

func built(t *testing.T, once func() (string, error)) string {
	t.Helper()
	bin, err := once()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// Each is built once for all tests.
var headwater, headload = building("headwater"), building("headload")

func building(command string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		bin := filepath.Join(scratch, command)
		if out, err := exec.Command("go", "build", "-o", bin, "headwater/cmd/"+command).CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
		return bin, nil
	})
}

func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

// An encoding is what ffmpeg publishes: its arguments from inputs to codecs.
type encoding []string

// picture and sound are live sources: they keep to the wall clock by themselves.
func picture(rate string) encoding {
	return encoding{"-re", "-f", "lavfi", "-i", "testsrc2=s=640x360:r=" + rate}
}

func sound(rate string) encoding {
	return encoding{"-re", "-f", "lavfi", "-i", "sine=frequency=440:beep_factor=4:sample_rate=" + rate}
}

func h264(gop string, more ...string) encoding {
	return append(encoding{"-c:v", "libx264", "-preset", "veryfast", "-b:v", "800k", "-pix_fmt", "yuv420p",
		"-bf", "3", "-g", gop, "-keyint_min", gop, "-sc_threshold", "0"}, more...)
}

func aac(channels string) encoding { return encoding{"-c:a", "aac", "-b:a", "96k", "-ac", channels} }

func join(es ...encoding) encoding {
	var all encoding
	for _, e := range es {
		all = append(all, e...)
	}
	return all
}

// camera is what an ordinary encoder sends: H.264 with B-frames at 30 fps, a key frame every 2 s, AAC at 48 kHz.
var camera = join(picture("30"), sound("48000"), h264("60"), aac("2"))

// publish lets ffmpeg publish to rtmp://HOST/<name>.
func (r *running) publish(t *testing.T, name string, e encoding) *peer {
	t.Helper()
	args := append([]string{"-nostdin", "-hide_banner", "-loglevel", "repeat+warning"}, e...)
	return startPeer(t, nil, "ffmpeg", append(args, "-f", "flv", "rtmp://"+r.RTMP+"/"+name)...)
}

// awaitLive returns when the stream can be played.
func (r *running) awaitLive(t *testing.T, name string) {
	t.Helper()
	eventually(t, startPatience, name+" can be played", func() bool {
		resp, err := http.Get(r.URL("/" + name + "/index.m3u8")) // held while the stream warms up
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == 200
	})
}

// eventually waits for something that another process does.
func eventually(t *testing.T, patience time.Duration, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v it is still not so that %s", patience, what)
		}
	}
}

// stream is what the page is told of the stream.
func (r *running) stream(t *testing.T, name string) (info struct {
	Run              string
	Publishing       bool
	Ready            bool
	Reconnects       int
	Discontinuities  int
	KeyframeInterval float64
	TargetDuration   int
	Advice           []string
	Tracks           []struct {
		Kind, Codec          string
		FrameRate            float64
		SampleRate, Channels int
	}
}) {
	t.Helper()
	code, body := get(t, r.URL("/api/streams/"+name))
	if code != 200 {
		return info
	}
	if err := json.Unmarshal([]byte(body), &info); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return info
}

// checkLog fails t if the origin has logged a warning or an error that none of allowed, with its reason beside it where the
// test calls this, accounts for.
func (r *running) checkLog(t *testing.T, allowed ...string) {
	t.Helper()
	for line := range strings.Lines(r.Log.String()) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			checkLine(t, "the origin logged", line, allowed)
		}
	}
}

// checkLines fails t if a peer has printed a line that none of the expressions in allowed accounts for.
func checkLines(t *testing.T, who, lines string, allowed ...string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		checkLine(t, who+" printed", line, allowed)
	}
}

func checkLine(t *testing.T, who, line string, allowed []string) {
	t.Helper()
	if line = strings.TrimSpace(line); line == "" {
		return
	}
	for _, a := range allowed {
		if regexp.MustCompile(a).MatchString(line) {
			return
		}
	}
	t.Errorf("%s: %s", who, line)
}

// freeAddrs returns addresses of loopback that nobody listens on.
func freeAddrs(t *testing.T, n int) (addrs []string) {
	t.Helper()
	for _, port := range freePorts(t, n) {
		addrs = append(addrs, addr(port))
	}
	return addrs
}
