//go:build e2e

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A crew is some encoders that are one process, which comes back when it has ended, as people's do.
type crew struct {
	mu  sync.Mutex // held while there is no origin
	cmd *exec.Cmd  // nil: between two
}

func (c *crew) work(ctx context.Context, tool, url string, count int) {
	for ctx.Err() == nil {
		c.mu.Lock()
		c.cmd = exec.CommandContext(ctx, tool, "publish", "--url", url, "--count", strconv.Itoa(count), "--duration", "10m", "--ramp", "500ms",
			"--video-bitrate", "200k", "--audio-bitrate", "64k", "--size", "320x180")
		err := c.cmd.Start()
		cmd := c.cmd
		c.mu.Unlock()
		if err == nil {
			cmd.Wait()
		}
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func (c *crew) signal(s os.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd != nil && c.cmd.Process != nil {
		c.cmd.Process.Signal(s)
	}
}

// A tightDisk is the file system of the data directory, which can be filled.
type tightDisk struct {
	filler string // a file; "": the origin's files are forbidden to grow instead
	k      *killable
}

func newTightDisk(t *testing.T, k *killable) *tightDisk {
	t.Helper()
	if err := os.Mkdir(k.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", k.dir, "tmpfs", 0, "size=100m"); err != nil {
		t.Logf("mount: %v; files are limited in size", err)
		return &tightDisk{k: k}
	}
	t.Cleanup(func() { syscall.Unmount(k.dir, syscall.MNT_DETACH) })
	return &tightDisk{filler: filepath.Join(k.dir, "filler"), k: k}
}

func (d *tightDisk) fill(t *testing.T) {
	if d.filler == "" {
		d.limit(t, "100000:")
		return
	}
	f, err := os.Create(d.filler)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the disk is not full: %v", err)
	}
}

func (d *tightDisk) free(t *testing.T) {
	if d.filler == "" {
		d.limit(t, "unlimited:")
		return
	}
	os.Remove(d.filler)
}

func (d *tightDisk) limit(t *testing.T, size string) {
	if out, err := exec.Command("prlimit", "--pid", strconv.Itoa(d.k.cmd.Process.Pid), "--fsize="+size).CombinedOutput(); err != nil {
		t.Errorf("prlimit: %v: %s", err, out)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// TestE2EChaos lets everything happen to twenty streams that are all watched: the origin is killed, encoders are reset, say goodbye
// and come back, and stall, and the disk is full for a while. What a viewer has seen never changes, and what is listed is served; only a
// crash while the disk is full, or has been until just before, may lose a run, and then there is another one under other URLs. CHAOS_TIME
// and CHAOS_SEED say for how long and which; it is the same each time unless they do.
func TestE2EChaos(t *testing.T) {
	const crews, each = 4, 5
	length, seed := 30*time.Second, uint64(292) // with it, everything comes within this time: kills with the disk full, and with it whole
	if s := os.Getenv("CHAOS_TIME"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	if s := os.Getenv("CHAOS_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%v, seed %d", length, seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	tool := buildLoad(t)
	k := newKillable(t)
	k.args = []string{"--part-target=500ms"} // a little less to do for two processors
	disk := newTightDisk(t, k)
	k.start(t)
	home := newViewer(k, "x")
	listens := func() {
		t.Helper()
		soon(t, peerPatience, "the origin listens", func() bool { _, _, b := home.fetch(k.URL("/")); return b != nil })
	}
	listens()

	ctx, cancel := context.WithCancel(t.Context())
	var working, watching sync.WaitGroup
	defer func() {
		cancel()
		working.Wait()
	}()
	all := make([]*crew, crews)
	for i := range all {
		all[i] = &crew{}
		working.Go(func() { all[i].work(ctx, tool, fmt.Sprintf("rtmp://%s/live/c%ds%%d", k.RTMP, i), each) })
	}
	viewers := map[string]*viewer{}
	for i := range crews * each {
		name := fmt.Sprintf("live/c%ds%d", i/each, i%each)
		k.awaitLive(t, name)
		viewers[name] = newViewer(k, name)
	}
	watch, stopWatching := context.WithCancel(ctx)
	for _, v := range viewers {
		wait := v.watch(watch)
		watching.Go(wait)
	}
	// runs are those that somebody may have seen.
	runs := func() map[string]string {
		out := map[string]string{}
		for name := range viewers {
			if s := k.stream(t, name); s.Ready {
				out[name] = s.Run
			}
		}
		return out
	}

	// Some time after it has been full, the disk has again all that there is: all streams are kept, and have been for two target durations.
	full, kept := false, time.Now().Add(-time.Hour) // kept is since when, zero while they are not
	var settling time.Duration
	for name := range viewers {
		settling = max(settling, 2*time.Duration(k.stream(t, name).TargetDuration)*time.Second)
	}
	look := func() {
		if full || k.metrics(t, "headwater_store_failing")["headwater_store_failing"] > 0 {
			kept = time.Time{}
		} else if kept.IsZero() {
			kept = time.Now()
		}
	}
	whole := func() bool { return !kept.IsZero() && time.Since(kept) >= settling }
	counts, lost := map[string]int{}, 0
	for began := time.Now(); time.Since(began) < length; {
		time.Sleep(2*time.Second + time.Duration(rng.Int64N(int64(3*time.Second))))
		c := all[rng.IntN(crews)]
		look()
		what := []string{"kill", "reset", "goodbye", "stall", "full", "free", "reset"}[rng.IntN(7)]
		counts[what]++
		switch what {
		case "kill":
			for _, c := range all {
				c.mu.Lock()
			}
			before, lossy := runs(), !whole()
			k.kill()
			for _, c := range all {
				if c.cmd != nil && c.cmd.Process != nil {
					c.cmd.Process.Kill()
				}
			}
			disk.free(t)
			full = false
			if lossy {
				kept = time.Time{}
			}
			k.start(t)
			listens()
			after := runs()
			for name, run := range before {
				if after[name] == run {
					continue
				}
				lost++
				viewers[name].forgive("/" + run + "/")
				if !lossy {
					t.Errorf("kill %d lost run %s of %s, though the disk had not been full", counts[what], run, name)
				}
			}
			if i := rng.IntN(crews); !lossy { // what some have seen before it is what they see after it
				for j := range each {
					viewers[fmt.Sprintf("live/c%ds%d", i, j)].round(true)
				}
			}
			for _, c := range all {
				c.mu.Unlock()
			}
		case "reset":
			c.signal(syscall.SIGKILL)
		case "goodbye":
			c.signal(syscall.SIGINT)
		case "stall":
			c.signal(syscall.SIGSTOP)
			time.Sleep(time.Second + time.Duration(rng.Int64N(int64(4*time.Second))))
			c.signal(syscall.SIGCONT)
		case "full":
			disk.fill(t)
			full, kept = true, time.Time{}
		case "free":
			disk.free(t)
			full = false
		}
	}
	disk.free(t)
	full = false
	t.Log(counts)

	time.Sleep(settling) // what has been reset at last is missed, and back
	for name := range viewers {
		eventually(t, startPatience, name+" is published", func() bool { s := k.stream(t, name); return s.Publishing && s.Ready })
	}
	eventually(t, startPatience, "all is kept again", func() bool { look(); return whole() })
	time.Sleep(settling) // a few segments
	stopWatching()
	watching.Wait()
	var checking sync.WaitGroup
	for _, v := range viewers {
		checking.Go(func() { v.round(true) })
	}
	checking.Wait()
	versions, objects := 0, 0
	for _, name := range slices.Sorted(maps.Keys(viewers)) {
		viewers[name].check(t)
		versions += viewers[name].versions
		objects += len(viewers[name].sums)
	}
	t.Logf("%d playlists and %d objects were seen, %d runs were lost", versions, objects, lost)
	if versions < 20*crews*each || objects < 20*crews*each {
		t.Error("that is not much")
	}
}

// forgive lets what is below a folder be there no longer: its run has been lost.
func (v *viewer) forgive(folder string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.forgiven = append(v.forgiven, folder)
}
