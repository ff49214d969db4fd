package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scratch is a folder for all tests, removed when the last has ended.
var scratch string

// TestMain makes this test binary the command headwater for the scripts.
func TestMain(m *testing.M) { testscript.Main(clean{m}, map[string]func(){"headwater": main}) }

// clean runs the tests without the developer's own settings and state.
type clean struct{ m *testing.M }

func (c clean) Run() int {
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, envPrefix) {
			os.Unsetenv(name)
		}
	}
	var err error
	if scratch, err = os.MkdirTemp("", "headwater-test-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(scratch)
	os.Setenv("XDG_STATE_HOME", filepath.Join(scratch, "state"))
	os.Unsetenv("STATE_DIRECTORY")
	return c.m.Run()
}

// A running origin, in this process.
type running struct {
	Addrs
	Out, Log *buffer // standard output and error

	cancel context.CancelFunc
	done   chan struct{}
	err    error // when done is closed
}

// startHeadwater runs Main on free ports of the loopback interface and returns when it listens. args are what would be
// written after "headwater"; live windows are kept in memory only unless they say otherwise. When the test ends it is stopped, and has to end without an error.
func startHeadwater(t testing.TB, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Out: &buffer{}, Log: &buffer{}, cancel: cancel, done: make(chan struct{})}
	ready := make(chan Addrs, 1)
	m := &Main{Ready: func(a Addrs) { ready <- a }}
	args = append([]string{"--rtmp-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0",
		"--data-dir=",
		"--http-max-connections=2000", // which hardly any machine has to lower, and warn of
	}, args...)
	go func() {
		defer close(r.done)
		r.err = m.Run(ctx, args, r.Out, r.Log)
	}()
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Errorf("headwater: %v", err)
		}
		if t.Failed() {
			t.Logf("log of headwater:\n%s", r.Log)
		}
	})
	select {
	case r.Addrs = <-ready:
	case <-r.done:
		t.Fatalf("headwater did not start: %v", r.err)
	}
	return r
}

// Stop stops the origin as a signal would and returns what Run returned.
func (r *running) Stop() error {
	r.cancel()
	<-r.done
	return r.err
}

// URL is that of a path on the media port.
func (r *running) URL(path string) string { return "http://" + r.HTTP + path }

// A buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex // protects b
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func get(t testing.TB, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestServe(t *testing.T) {
	r := startHeadwater(t)
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if code, _ := get(t, "http://"+r.Ops+path); code != 200 {
			t.Errorf("%s: status %d", path, code)
		}
	}
	if code, body := get(t, r.URL("/")); code != 200 || !strings.Contains(body, "<html") {
		t.Errorf("/: status %d, %q", code, body)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	log := r.Log.String()
	for _, a := range []string{r.RTMP, r.HTTP, r.Ops} {
		if !strings.Contains(log, a) {
			t.Errorf("the bound address %s is not in the log", a)
		}
	}
	if n := strings.Count(log, "publishing needs no key"); n != 1 {
		t.Errorf("that no key is needed is logged %d times", n)
	}
}

func TestServeWithKeySaysNothingOfOpenPublishing(t *testing.T) {
	r := startHeadwater(t, "--publish-keys=sesame")
	r.Stop()
	if log := r.Log.String(); strings.Contains(log, "needs no key") || strings.Contains(log, "sesame") {
		t.Errorf("log: %s", log)
	}
}

// The demo goes through the origin's own RTMP listener, with a key when keys are needed, and a stop drains: who waits for
// the next part gets the ended playlist at once.
func TestDemo(t *testing.T) {
	r := startHeadwater(t, "demo", "--publish-keys=a b&c")
	base := r.URL("/live/demo/")
	code, mv := get(t, base+"index.m3u8") // held until there is something to play
	if code != 200 {
		t.Fatalf("multivariant playlist: status %d\n%s", code, mv)
	}
	for _, want := range []string{"avc1.", "mp4a.40.2", "RESOLUTION=1280x720"} {
		if !strings.Contains(mv, want) {
			t.Errorf("the multivariant playlist does not mention %s:\n%s", want, mv)
		}
	}
	var media string
	for line := range strings.Lines(mv) {
		if !strings.HasPrefix(line, "#") {
			media = base + strings.TrimSpace(line)
		}
	}
	_, pl := get(t, media)
	var msn uint64
	for line := range strings.Lines(pl) {
		fmt.Sscanf(line, "#EXT-X-MEDIA-SEQUENCE:%d", &msn)
		if strings.HasPrefix(line, "#EXTINF") {
			msn++
		}
	}

	out := r.Out.String()
	for _, want := range []string{base + "\n", base + "index.m3u8", "rtmp://" + r.RTMP + "/live/NAME?key=KEY"} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo does not print %q:\n%s", want, out)
		}
	}

	held := make(chan string, 1)
	go func() {
		resp, err := http.Get(fmt.Sprintf("%s?_HLS_msn=%d", media, msn+1))
		if err != nil {
			held <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		held <- string(b)
	}()
	for deadline := time.Now().Add(30 * time.Second); ; { // until the request is held
		if _, m := get(t, "http://"+r.Ops+"/metrics"); strings.Contains(m, "headwater_http_blocked_requests 1\n") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the request is not held")
		}
	}
	start := time.Now()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 6*time.Second {
		t.Errorf("stopping took %v, more than three target durations", d)
	}
	if body := <-held; !strings.Contains(body, "#EXT-X-ENDLIST") {
		t.Errorf("the held request got:\n%s", body)
	}
}

// What nobody has chosen stays on this machine; what somebody has chosen is taken as it is.
func TestDemoKeepsLocal(t *testing.T) {
	for _, tt := range []struct {
		args       []string
		rtmp, http string
	}{
		{nil, "127.0.0.1:1935", "127.0.0.1:8080"},
		{[]string{"--http-addr=:8080"}, "127.0.0.1:1935", ":8080"},
		{[]string{"--http-addr=:80", "--rtmp-addr=:1936"}, ":1936", ":80"},
	} {
		l, err := load(append([]string{"demo"}, tt.args...), io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		keepLocal(l)
		if l.Settings.HTTPSAddr != "" {
			t.Errorf("%q: HTTPS on %q without a certificate", tt.args, l.Settings.HTTPSAddr)
		}
		if l.Settings.RTMPAddr != tt.rtmp || l.Settings.HTTPAddr != tt.http {
			t.Errorf("%q: RTMP on %q, HTTP on %q", tt.args, l.Settings.RTMPAddr, l.Settings.HTTPAddr)
		}
	}
}

func TestDemoKeepsHTTPSLocal(t *testing.T) {
	for addr, want := range map[string]string{"": "127.0.0.1:8443", ":443": ":443"} {
		l := mustLoad(t, "demo", "--acme-domains=a.test", "--https-addr="+addr)
		keepLocal(l)
		if l.Settings.HTTPSAddr != want {
			t.Errorf("%q: %q, want %q", addr, l.Settings.HTTPSAddr, want)
		}
	}
}

func TestDemoKey(t *testing.T) {
	for _, tt := range []struct {
		s    Settings
		key  string
		fail bool
	}{
		{Settings{}, "", false},
		{Settings{PublishKeys: []string{"a", "b"}}, "a", false},
		{Settings{PublishKeys: []string{"a"}, PublishKeysByName: map[string]string{"live/demo": "d"}}, "d", false},
		{Settings{PublishKeysByName: map[string]string{"live/other": "d"}}, "", true},
	} {
		key, err := demoKey(&tt.s)
		if key != tt.key || (err != nil) != tt.fail {
			t.Errorf("%+v: key %q, error %v", tt.s, key, err)
		}
	}
}

func TestAddressInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cert, key, err := writePair(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"rtmp-addr", "http-addr", "https-addr", "ops-addr"} {
		args := []string{"--rtmp-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--https-addr=127.0.0.1:0", "--ops-addr=127.0.0.1:0",
			"--tls-cert=" + cert, "--tls-key=" + key, "--" + flag + "=" + ln.Addr().String()}
		err := (&Main{}).Run(t.Context(), args, io.Discard, io.Discard)
		if err == nil {
			t.Fatalf("%s: no error", flag)
		}
		for _, want := range []string{ln.Addr().String(), "in use", "--" + flag} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not mention %q: %v", flag, want, err)
			}
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than a line: %v", flag, err)
		}
	}
}
