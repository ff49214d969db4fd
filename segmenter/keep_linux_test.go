package segmenter

import (
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"headwater/segmenter/journal"
)

// limitFiles lets no file of this process be written beyond so many bytes, as a full disk does, until the test ends or it is
// called with 0. Those in memory are no exception.
func limitFiles(t testing.TB, bytes uint64) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	set := func(n uint64) {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: was.Max}); err != nil {
			t.Fatal(err)
		}
	}
	if bytes == 0 {
		bytes = was.Max
	}
	set(bytes)
	t.Cleanup(func() { set(was.Max) })
}

// recoverCopy says what comes back if the process is killed now.
func recoverCopy(t testing.TB, dir string, cfg Config, now time.Time) (*Origin, []error) {
	t.Helper()
	again := filepath.Join(t.TempDir(), "x")
	copyDir(t, again, dir)
	o, _, errs := restart(t, again, cfg, now)
	return o, errs
}

// TestKeepFails lets writing fail: the stream goes on, the log says that it lacks something, so that no URL is used for other
// bytes after a crash, and when writing works again everything is kept, what came meanwhile too.
func TestKeepFails(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget}
	for _, c := range []struct {
		name string
		fail func(t *testing.T, r *Run)
		logs int // that are left
	}{
		{"disk full", func(t *testing.T, _ *Run) { limitFiles(t, 4096) }, 1},
		{"nothing can be written", func(t *testing.T, _ *Run) { limitFiles(t, 1) }, 0},
		{"log", func(_ *testing.T, r *Run) { r.keeper.log.Close() }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			o, kill, _ := restart(t, dir, cfg, time.Time{})
			f := newFeed(t, o, "live/a", 30, 60).tracks().run(9)
			if k := o.Keeping(); k.Runs != 1 || k.Failing != 0 || k.Err != nil {
				t.Fatalf("%+v", k)
			}
			s, _ := o.Stream("live/a")
			last := s.Run().last.Load()
			c.fail(t, s.Run())
			f.run(5)
			k := o.Keeping()
			if k.Failing != 1 || k.Failures != 1 || k.Err == nil || s.Run().last.Load() < last+2 {
				t.Fatalf("%+v, %d segments more", k, s.Run().last.Load()-last)
			}
			if c.name != "log" {
				limitFiles(t, 0)
			}
			now := time.Unix(0, f.wall).Add(15 * time.Second)
			if n := len(journals(t, dir)); n != c.logs {
				t.Errorf("%d logs are left", n)
			}
			if x, errs := recoverCopy(t, dir, cfg, now); len(x.Streams()) != 0 || len(errs) != c.logs {
				t.Errorf("%d streams come back, %v", len(x.Streams()), errs)
			}

			o.Tick(now)
			if k := o.Keeping(); k.Failing != 1 {
				t.Errorf("it is tried again at once: %+v", k)
			}
			o.Tick(now.Add(retryKeeping))
			if k := o.Keeping(); k.Failing != 0 || k.Failures != 1 {
				t.Fatalf("it is not tried again: %+v", k)
			}
			for range 2 {
				before := views(t, o, "live/a")
				x, errs := recoverCopy(t, dir, cfg, now)
				if len(errs) > 0 {
					t.Fatal(errs)
				}
				for id, v := range views(t, x, "live/a") {
					checkRecovered(t, before[id], v)
				}
				f.run(3.1)
			}
			kill()
		})
	}
}

// TestKeepFailsAtRestart: what could be read, but not be written anew, must not be read again: it goes on elsewhere.
func TestKeepFailsAtRestart(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget}
	dir := t.TempDir()
	o, kill, _ := restart(t, dir, cfg, time.Time{})
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(9)
	before := views(t, o, "live/a")
	kill()
	now := time.Unix(0, f.wall).Add(10 * time.Second)
	limitFiles(t, 4096)
	o, _, errs := restart(t, dir, cfg, now)
	limitFiles(t, 0)
	if k := o.Keeping(); len(errs) > 0 || k.Runs != 1 || k.Failing != 1 {
		t.Fatalf("%v, %+v", errs, k)
	}
	for id, v := range views(t, o, "live/a") {
		checkRecovered(t, before[id], v)
	}
	if x, errs := recoverCopy(t, dir, cfg, now); len(x.Streams()) != 0 || len(errs) != 1 {
		t.Errorf("%d streams come back, %v", len(x.Streams()), errs)
	}
	o.Tick(now)
	o.Tick(now.Add(retryKeeping))
	if x, errs := recoverCopy(t, dir, cfg, now); len(x.Streams()) != 1 || len(errs) != 0 {
		t.Errorf("%d streams come back, %v", len(x.Streams()), errs)
	}
}

// TestKeepLadder kills an origin with a ladder whose rungs come and go, and a discontinuity with another configuration.
func TestKeepLadder(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget}
	dir := t.TempDir()
	o, _, _ := restart(t, dir, cfg, time.Time{})
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(9)
	pub, err := o.Open("live/a", "720p", time.Unix(0, f.wall))
	if err != nil {
		t.Fatal(err)
	}
	low := &feed{t: t, pub: pub, fps: 30, gop: 60, depth: 2, wall: f.wall, video: 0, audio: -1, payload: make([]byte, 4000), speed: 1,
		frames: f.frames}
	low.tracks()
	for range 12 {
		f.run(0.5)
		low.run(0.5)
	}
	check := func(renditions int) {
		t.Helper()
		before := views(t, o, "live/a")
		x, errs := recoverCopy(t, dir, cfg, time.Unix(0, f.wall).Add(20*time.Second))
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		now := views(t, x, "live/a")
		if len(now) != renditions || len(before) != renditions {
			t.Errorf("%d renditions, of %d, want %d", len(now), len(before), renditions)
		}
		for id, v := range now {
			checkRecovered(t, before[id], v)
		}
		var edges []uint64
		for _, r := range rendition(t, x, "live/a", "video").Run.Renditions() {
			w := r.Window()
			edges = append(edges, w.LastMSN(), w.Open.DiscSeq)
			if len(w.Siblings) != renditions-1 {
				t.Errorf("%s: %d reports", r.ID, len(w.Siblings))
			}
		}
		for i, e := range edges {
			if e != edges[i%2] {
				t.Errorf("renditions end at different numbers: %d", edges)
			}
		}
	}
	check(3)
	low.pub.Close(nil)
	f.run(3)
	check(3)
	f.base += 3600_000 // another time base: a discontinuity
	f.run(5)
	check(3)
	if s, _ := o.Stream("live/a"); s.Status().Discontinuities == 0 {
		t.Error("there was none")
	}
}

// TestKeepIsBounded: a stream that is live for long takes no more of the disk than what is served, and its log no more either.
func TestKeepIsBounded(t *testing.T) {
	dir := t.TempDir()
	o, _, _ := restart(t, dir, Config{PartTarget: DefaultPartTarget}, time.Time{})
	f := newFeed(t, o, "live/a", 30, 60).tracks()
	var most int64
	for range 20 {
		f.run(60)
		info, err := os.Stat(journals(t, dir)[0])
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, info.Size())
	}
	if most > minRewrite*5/4 {
		t.Errorf("the log is %d bytes long", most)
	}
	media, err := filepath.Glob(filepath.Join(dir, "runs", "*", "*.media"))
	if err != nil || len(media) != 2 {
		t.Fatal(media, err)
	}
	kept := o.kept.Load()
	var taken int64
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); { // ranges are given back when the collector gets to it
		runtime.GC()
		taken = 0
		for _, name := range media {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			taken += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		if taken < kept*3/2 {
			break
		}
		time.Sleep(20 * time.Millisecond) // the collector's goroutine
	}
	if taken > kept*3/2 || taken == 0 {
		t.Errorf("%d bytes of the disk are taken for %d", taken, kept)
	}
	info, _ := os.Stat(media[0])
	t.Logf("log at most %d bytes, %d bytes of disk for %d kept, a file of %d", most, taken, kept, info.Size())
}

// BenchmarkKeep is what it costs to publish a second of a stream of 3 Mb/s, without and with a directory.
func BenchmarkKeep(b *testing.B) {
	for _, c := range []struct {
		name string
		kept bool
	}{{"memory", false}, {"directory", true}} {
		b.Run(c.name, func(b *testing.B) {
			o := origin(Config{PartTarget: DefaultPartTarget})
			if c.kept {
				o, _, _ = restart(b, b.TempDir(), Config{PartTarget: DefaultPartTarget}, time.Time{})
			}
			f := newFeed(b, o, "live/a", 30, 60)
			f.payload = make([]byte, 20000)
			f.size = 12500
			f.tracks().run(10)
			b.ReportAllocs()
			for b.Loop() {
				f.run(1)
			}
		})
	}
}

// BenchmarkRecover is how long a start takes with the windows of 100 streams.
func BenchmarkRecover(b *testing.B) {
	dir := b.TempDir()
	cfg := Config{PartTarget: DefaultPartTarget}
	o, kill, _ := restart(b, dir, cfg, time.Time{})
	var now time.Time
	for i := range 100 {
		f := newFeed(b, o, "live/"+string(rune('a'+i/10))+string(rune('0'+i%10)), 30, 60)
		f.payload = make([]byte, 20000)
		f.size = 12500
		f.tracks().run(40)
		now = time.Unix(0, f.wall).Add(41 * time.Second)
	}
	kill()
	b.ReportAllocs()
	for b.Loop() {
		o, kill, errs := restart(b, dir, cfg, now)
		if len(o.Streams()) != 100 || len(errs) > 0 {
			b.Fatal(len(o.Streams()), errs)
		}
		kill()
	}
}

// TestKeptBeforePublished: what a Window shows is in the log when the Window can be seen, and its bytes are in the file.
func TestKeptBeforePublished(t *testing.T) {
	dir := t.TempDir()
	o, _, _ := restart(t, dir, Config{PartTarget: DefaultPartTarget}, time.Time{})
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(5)
	r := rendition(t, o, "live/a", "video")
	log := journals(t, dir)[0]
	// kept says whether the part is there.
	kept := func(p *Part) bool {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Error(err)
		}
		d, _, _ := journal.NewDecoder(b)
		for rec, err := d.Next(); err == nil; rec, err = d.Next() {
			if j, ok := rec.(*journal.Part); ok && j.Rendition == r.number && j.Time == p.Time {
				info, err := os.Stat(filepath.Join(filepath.Dir(log), "0.media"))
				return err == nil && info.Size() >= j.At+int64(j.Size)
			}
		}
		return false
	}
	var seen atomic.Pointer[Window]
	seen.Store(r.Window())
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // sees each Window when it is published
		defer close(done)
		for w := seen.Load(); ; seen.Store(w) {
			select {
			case <-w.Published():
			case <-stop:
				return
			}
			w = w.succ
			if n := len(w.Open.Parts); n > 0 && !kept(w.Open.Parts[n-1]) {
				t.Errorf("the part at %d is published, and not in the log", w.Open.Parts[n-1].Time)
			}
		}
	}()
	for range 300 {
		f.run(0.33)
		for seen.Load() != r.Window() {
			runtime.Gosched()
		}
	}
	close(stop)
	<-done
}

// TestRecoverGaps: a run in which there is nothing left but gaps waits for its publisher all the same, and the gaps come back as
// they were, with their dates.
func TestRecoverGaps(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget}
	dir := t.TempDir()
	o, kill, _ := restart(t, dir, cfg, time.Time{})
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(9)
	f.pub.Close(errFull)
	now := time.Unix(0, f.wall).Add(9 * time.Second)
	tick := func(seconds int) {
		for range seconds {
			now = now.Add(time.Second)
			o.Tick(now)
		}
	}
	tick(60)
	for range 3 {
		before := views(t, o, "live/a")
		if n := len(before["video"].Retained); !before["video"].Retained[n-before["video"].Listed].Gap {
			t.Fatal("there is media yet")
		}
		kill()
		var errs []error
		o, kill, errs = restart(t, dir, cfg, now)
		s, ok := o.Stream("live/a")
		if !ok || len(errs) > 0 || s.Run().Ended() {
			t.Fatalf("the run has not come back, or ended: %v", errs)
		}
		for id, v := range views(t, o, "live/a") {
			checkRecovered(t, before[id], v)
		}
		tick(5)
	}
}

// What a playlist says of how far to stay behind outlives the process, as it does not change (RFC 8216bis 6.2.1).
func TestKeepHoldBack(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget}
	dir := t.TempDir()
	o, _, _ := restart(t, dir, cfg, time.Time{})
	ladder(t, o, 10, &rung{name: "1080p"}, &rung{name: "720p"})
	x, errs := recoverCopy(t, dir, cfg, time.Date(2026, 1, 2, 3, 4, 17, 0, time.UTC))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	before, now := rendition(t, o, "live/a", "audio").Run.HoldBack(), rendition(t, x, "live/a", "audio").Run.HoldBack()
	if before != ladderHoldBack || now != before {
		t.Errorf("%v, and afterwards %v", before, now)
	}
}
