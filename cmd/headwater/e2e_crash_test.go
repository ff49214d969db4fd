//go:build e2e

package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"headwater/playlist/playlisttest"
)

// A killable origin is a process on ports and a directory that stay the same.
type killable struct {
	running
	program, dir string
	prefix       []string // what starts it
	args         []string
	cmd          *exec.Cmd
}

func newKillable(t *testing.T) *killable {
	t.Helper()
	addrs := freeAddrs(t, 3)
	k := &killable{program: build(t), dir: filepath.Join(t.TempDir(), "data")}
	k.Addrs = Addrs{RTMP: addrs[0], HTTP: addrs[1], Ops: addrs[2]}
	k.Log = &buffer{}
	t.Cleanup(func() {
		k.kill()
		if t.Failed() {
			t.Logf("log of headwater:\n%s", tail(k.Log.String(), 4000))
		}
	})
	return k
}

func (k *killable) start(t *testing.T) {
	t.Helper()
	args := append(append([]string(nil), k.prefix...), k.program, "serve", "--rtmp-addr", k.RTMP, "--http-addr", k.HTTP, "--ops-addr", k.Ops, "--data-dir", k.dir)
	args = append(args, k.args...)
	k.cmd = exec.Command(args[0], args[1:]...)
	k.cmd.Stderr = k.Log
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// kill ends it as the kernel does when memory is short: it is told nothing.
func (k *killable) kill() {
	if k.cmd != nil {
		k.cmd.Process.Kill()
		k.cmd.Wait()
		k.cmd = nil
	}
}

// stop ends it as the system does that starts another version of it.
func (k *killable) stop() {
	k.cmd.Process.Signal(syscall.SIGTERM)
	k.cmd.Wait()
	k.cmd = nil
}

// persist publishes until ctx ends, and again whenever the connection is lost, as encoders do.
func (k *killable) persist(ctx context.Context, name string) (wait func()) {
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			args := append([]string{"-nostdin", "-hide_banner", "-loglevel", "error"}, small...)
			exec.CommandContext(ctx, "ffmpeg", append(args, "-f", "flv", "rtmp://"+k.RTMP+"/"+name)...).Run()
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
	return done.Wait
}

// A viewer reloads the playlists of a stream, and fetches what they list, and remembers all that it ever got.
type viewer struct {
	base *url.URL

	mu       sync.Mutex          // protects what follows
	sums     map[string][32]byte // by URL
	tags     map[string]string
	last     map[string][]byte // by URL of a playlist
	versions int
	problems []string

	forgiven []string // folders of runs that were lost
}

func newViewer(k *killable, name string) *viewer {
	base, _ := url.Parse(k.URL("/" + name + "/index.m3u8"))
	return &viewer{base: base, sums: map[string][32]byte{}, tags: map[string]string{}, last: map[string][]byte{}}
}

func (v *viewer) bad(format string, args ...any) {
	v.problems = append(v.problems, fmt.Sprintf(format, args...))
}

// fetch returns nil when the origin is not there.
func (v *viewer) fetch(at string) (int, string, []byte) {
	c := http.Client{Timeout: 10 * time.Second}
	resp, err := c.Get(at)
	if err != nil {
		return 0, "", nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", nil
	}
	return resp.StatusCode, resp.Header.Get("ETag"), body
}

// round looks at everything once. With all, also at what it has already, and everything has to be there.
func (v *viewer) round(all bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	status, _, mv := v.fetch(v.base.String())
	if status != 200 {
		if all {
			v.bad("the multivariant playlist has status %d", status)
		}
		return
	}
	for line := range strings.Lines(string(mv)) {
		uri := strings.TrimSpace(line)
		if i := strings.Index(line, `URI="`); i >= 0 {
			uri, _, _ = strings.Cut(line[i+len(`URI="`):], `"`)
		} else if uri == "" || uri[0] == '#' {
			continue
		}
		at, _ := v.base.Parse(uri)
		v.playlist(at, all)
	}
}

func (v *viewer) playlist(at *url.URL, all bool) {
	status, _, body := v.fetch(at.String())
	if status != 200 {
		if all {
			v.bad("%s has status %d", at, status)
		}
		return
	}
	older := v.last[at.String()]
	if older != nil {
		for _, p := range playlisttest.SuccessionProblems(older, body) {
			v.bad("%s\n%s\nolder:\n%s\nnewer:\n%s", at, p, older, body)
		}
	}
	v.last[at.String()] = body
	v.versions++
	p := playlisttest.Parse(body)
	segments := p.Segments
	if p.Open != nil {
		segments = append(segments, *p.Open)
	}
	for _, s := range segments {
		if s.Gap {
			continue
		}
		m := s.Map
		if m, _, _ = strings.Cut(strings.TrimPrefix(m, `URI="`), `"`); m != "" {
			v.media(at, m, all)
		}
		if s.URI != "" {
			v.media(at, s.URI, all)
		}
		for _, part := range s.Parts {
			v.media(at, part.URI, all)
		}
	}
	if all && older != nil { // what was listed is served, also when the new playlist no longer lists it
		o := playlisttest.Parse(older)
		for _, s := range o.Segments {
			if s.URI != "" && !s.Gap {
				v.media(at, s.URI, true)
			}
		}
	}
}

func (v *viewer) media(base *url.URL, uri string, again bool) {
	u, err := base.Parse(uri)
	if err != nil {
		v.bad("%v", err)
		return
	}
	at := u.String()
	sum, known := v.sums[at]
	if known && !again {
		return
	}
	status, tag, body := v.fetch(at)
	switch {
	case status == 0:
		if again {
			v.bad("%s cannot be fetched", at)
		}
	case status != 200:
		v.bad("%s is listed and has status %d", at, status)
	case known && (sum != sha256.Sum256(body) || tag != v.tags[at]):
		v.bad("%s has other bytes, %d of them, or the tag %s for %s", at, len(body), tag, v.tags[at])
	default:
		v.sums[at], v.tags[at] = sha256.Sum256(body), tag
	}
}

// watch does rounds until ctx ends.
func (v *viewer) watch(ctx context.Context) (wait func()) {
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			v.round(false)
			select {
			case <-ctx.Done():
			case <-time.After(150 * time.Millisecond):
			}
		}
	})
	return done.Wait
}

func (v *viewer) check(t *testing.T) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	problems := slices.DeleteFunc(v.problems, func(p string) bool {
		return strings.HasSuffix(p, "is listed and has status 404") && slices.ContainsFunc(v.forgiven, func(f string) bool { return strings.Contains(p, f) })
	})
	for i, p := range problems {
		if i < 5 {
			t.Error(p)
		}
	}
	if n := len(problems); n > 5 {
		t.Errorf("and %d problems more", n-5)
	}
}

// listen starts it if it does not run yet, and waits until it answers.
func (k *killable) listen(t *testing.T) *viewer {
	t.Helper()
	if k.cmd == nil {
		k.start(t)
	}
	v := newViewer(k, "live/a")
	eventually(t, peerPatience, "the origin listens", func() bool { _, _, b := v.fetch(k.URL("/")); return b != nil })
	return v
}

// live starts the origin and an encoder that publishes live/a, and comes back whenever the origin has been away, and watches
// that. It returns the name of the run, too, and what ends the encoder before the test does.
func (k *killable) live(t *testing.T) (v *viewer, run string, unpublish func()) {
	t.Helper()
	v = k.listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	published := k.persist(ctx, "live/a")
	unpublish = func() {
		cancel()
		published()
	}
	t.Cleanup(unpublish)
	k.awaitLive(t, "live/a")
	watched := v.watch(ctx)
	t.Cleanup(func() {
		cancel()
		watched()
	})
	return v, k.stream(t, "live/a").Run, unpublish
}

// TestE2ECrash kills the origin at random moments, and once stops it as for an upgrade. After each it is back within a second with
// what it had, under the same URLs, and goes on when the encoder is back.
func TestE2ECrash(t *testing.T) {
	k := newKillable(t)
	k.args = []string{"--on-stop=keep"}
	v, run, unpublish := k.live(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var most time.Duration
	for i := range 5 {
		time.Sleep(2*time.Second + time.Duration(rng.Int64N(int64(3*time.Second))))
		n := k.stream(t, "live/a").Discontinuities // before the encoder can be back
		if i == 2 {
			k.stop()
		} else {
			k.kill()
		}
		before := k.Log.String()
		begun := time.Now()
		k.start(t)
		soon(t, 5*time.Second, "the first playlist is there", func() bool {
			status, _, _ := v.fetch(v.base.String())
			return status == 200
		})
		took := time.Since(begun)
		most = max(most, took)
		v.round(true)
		if s := k.stream(t, "live/a"); s.Run != run {
			t.Errorf("run %q goes on as %q\n%s", run, s.Run, strings.TrimPrefix(k.Log.String(), before))
		}
		eventually(t, startPatience, "the encoder is back", func() bool {
			s := k.stream(t, "live/a")
			return s.Publishing && s.Discontinuities == n+1
		})
	}
	t.Logf("the first playlist came after %v at most", most)
	if most > time.Second {
		t.Errorf("the first playlist came after %v", most)
	}
	time.Sleep(4 * time.Second) // two segments more, after the last kill
	v.round(true)
	v.check(t)
	if v.versions < 50 || len(v.sums) < 50 {
		t.Errorf("only %d playlists and %d objects were seen", v.versions, len(v.sums))
	}
	t.Logf("%d playlists and %d objects were seen", v.versions, len(v.sums))

	// Whoever is told to stop and nothing else ends what is live, and that is still so when the origin is back.
	unpublish()
	k.stop()
	k.args = nil
	for range 2 {
		k.start(t)
		eventually(t, peerPatience, "the origin listens", func() bool { _, _, b := v.fetch(k.URL("/")); return b != nil })
		k.stop()
	}
	k.start(t)
	eventually(t, peerPatience, "the origin listens", func() bool { _, _, b := v.fetch(k.URL("/")); return b != nil })
	for at := range v.last {
		if _, _, body := v.fetch(at); !strings.Contains(string(body), "#EXT-X-ENDLIST") {
			t.Errorf("%s has not ended:\n%s", at, body)
		}
	}
}

// soon is eventually for what takes milliseconds.
func soon(t *testing.T, patience time.Duration, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v it is still not so that %s", patience, what)
		}
	}
}

// TestE2EDiskFull lets the directory's file system be too small: the stream goes on, an alarm is raised, and after a crash nothing
// that was served has other bytes: there is another run.
func TestE2EDiskFull(t *testing.T) {
	t.Parallel()
	k := newKillable(t)
	if err := os.Mkdir(k.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", k.dir, "tmpfs", 0, "size=300k"); err == nil {
		t.Cleanup(func() { syscall.Unmount(k.dir, syscall.MNT_DETACH) })
	} else { // no privilege: files may not grow instead, those in memory neither
		t.Logf("mount: %v; files are limited in size", err)
		k.prefix = []string{"sh", "-c", `ulimit -f 300; exec "$@"`, "sh"}
	}
	v, run, _ := k.live(t)
	k.checkGoesOn(t, v)
	k.kill()
	k.start(t)
	eventually(t, startPatience, "the encoder is back, in another run", func() bool {
		_, _, b := v.fetch(k.URL("/"))
		s := struct{ Run string }{}
		if b != nil {
			s.Run = k.stream(t, "live/a").Run
		}
		return s.Run != "" && s.Run != run
	})
	k.awaitLive(t, "live/a")
	v.round(false)
	v.check(t)
}

// checkGoesOn checks that the stream goes on although the disk takes nothing, and that an alarm is raised.
func (k *killable) checkGoesOn(t *testing.T, v *viewer) {
	t.Helper()
	eventually(t, startPatience, "the disk takes nothing", func() bool {
		_, metrics := get(t, "http://"+k.Ops+"/metrics")
		return strings.Contains(metrics, "\nheadwater_store_failing 1\n")
	})
	if code, body := get(t, "http://"+k.Ops+"/readyz"); code != 200 || !strings.Contains(body, "warning: 1 live windows cannot be kept on disk") {
		t.Errorf("readyz: %d, %s", code, body)
	}
	latest := func() uint64 {
		_, body := get(t, k.renditions(t, "live/a")["video"])
		list := playlisttest.Parse([]byte(body)).Segments
		return list[len(list)-1].MSN
	}
	was := latest()
	eventually(t, startPatience, "the stream goes on", func() bool { return latest() >= was+3 })
	v.round(true)
	if n := strings.Count(k.Log.String(), "cannot be kept on disk"); n != 1 {
		t.Errorf("it is logged %d times that the disk takes nothing", n)
	}
}

// TestE2EDiskReadOnly lets the directory become read-only before anything is published, as a file system that has failed is: the
// stream goes on, and an alarm is raised.
func TestE2EDiskReadOnly(t *testing.T) {
	t.Parallel()
	k := newKillable(t)
	k.listen(t)
	runs := filepath.Join(k.dir, "runs")
	if err := syscall.Mount(runs, runs, "", syscall.MS_BIND, ""); err == nil {
		t.Cleanup(func() { syscall.Unmount(runs, syscall.MNT_DETACH) })
		if err := syscall.Mount("", runs, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
	} else { // no privilege: rights do the same
		t.Logf("mount: %v; nothing may be written there instead", err)
		if err := os.Chmod(runs, 0o500); err != nil {
			t.Fatal(err)
		}
	}
	v, _, _ := k.live(t)
	k.checkGoesOn(t, v)
	v.check(t)
}
