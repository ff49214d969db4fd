package segmenter

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"headwater/segmenter/media"
	"headwater/segmenter/store"
)

// bytesOf is what is served of s.
func bytesOf(t testing.TB, s *Segment) []byte {
	t.Helper()
	var w bytes.Buffer
	if err := s.WriteRange(&w, 0, s.Size()); err != nil {
		t.Fatal(err)
	}
	return w.Bytes()
}

// An outside is what can be told of a segment from outside, wherever it lies.
type outside struct {
	MSN, DiscSeq           uint64
	Disc, Gap, Independent bool
	Init, Hash, Bytes      string
	Start, Duration, Time  int64
	Size, IFrame, Samples  int
	Arrived                int64
	Parts                  []partInfo
}

func outsideOf(t testing.TB, s *Segment) outside {
	t.Helper()
	h, err := s.Hash()
	if err != nil {
		t.Fatal(err)
	}
	full, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	parts := partsOf(t, full.Parts)
	for i := range parts {
		parts[i].Arrived = 0
	}
	return outside{s.MSN, s.DiscSeq, s.Discontinuity, s.Gap, s.Independent, s.Init.Hash, h, contentHash(bytesOf(t, s)), s.Start, s.Duration, s.Time,
		s.Size(), s.IFrameSize(), s.samples(), s.Arrived(), parts}
}

// stored is how many of segs are.
func countStored(segs []*Segment) (n int) {
	for _, s := range segs {
		if s.Stored() {
			n++
		}
	}
	return n
}

// seen remembers what every segment was when it was first complete.
type seen map[string]map[uint64]outside

// look remembers what is new in o's stream, and compares what is not.
func (v seen) look(t testing.TB, o *Origin, name string) {
	t.Helper()
	s, _ := o.Stream(name)
	for _, r := range s.Run().Renditions() {
		if v[r.ID] == nil {
			v[r.ID] = map[uint64]outside{}
		}
		v.compare(t, r)
	}
}

func (v seen) compare(t testing.TB, r *Rendition) {
	t.Helper()
	for i, s := range r.Window().Retained() {
		if _, ok := v[r.ID][s.MSN]; ok && i < r.first && i%7 != 0 {
			continue
		}
		now := outsideOf(t, s)
		if was, ok := v[r.ID][s.MSN]; !ok {
			v[r.ID][s.MSN] = now
		} else if d := cmp.Diff(was, now); d != "" {
			t.Fatalf("%s, segment %d, stored: %t: -before +now:\n%s", r.ID, s.MSN, s.Stored(), d)
		}
	}
}

// checkCounts compares what a rendition keeps count of with what it has.
func checkCounts(t testing.TB, r *Rendition) {
	t.Helper()
	r.Run.mu.Lock()
	defer r.Run.mu.Unlock()
	var want listing
	var bytes int64
	for i, s := range r.list {
		bytes += s.cost()
		if i >= r.first {
			want.add(s, 1)
		}
		if i < r.cold && !s.Stored() && !s.Gap {
			t.Errorf("%s: segment %d is not stored", r.ID, s.MSN)
		}
		if in, ok := r.Window().InitByHash(s.Init.Hash); !ok || in.Hash != s.Init.Hash {
			t.Errorf("%s: the initialization section of segment %d is gone", r.ID, s.MSN)
		}
	}
	for _, p := range r.open.Parts {
		bytes += p.cost()
	}
	w := r.Window()
	if want != r.listed || want.mixed != w.Mixed || want.media != w.media || want.ticks != w.ticks {
		t.Errorf("%s: %+v is listed, not %+v", r.ID, want, r.listed)
	}
	if got := r.stats.retained.Load(); got != bytes {
		t.Errorf("%s: %d bytes are accounted for, %d are there", r.ID, got, bytes)
	}
}

// TestStored: what is old lies on the disk alone, and is the same there, and after every restart.
func TestStored(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		feed func(f *feed)
	}{
		{"low latency", Config{PartTarget: DefaultPartTarget, WindowMin: 100 * time.Second}, func(*feed) {}},
		{"without parts", Config{WindowMin: 100 * time.Second}, func(*feed) {}},
		{"cut between key frames", Config{PartTarget: DefaultPartTarget, WindowMin: 100 * time.Second, LongGOP: CutGOP}, func(f *feed) { f.gop = 40 }},
		{"audio", Config{PartTarget: DefaultPartTarget, WindowMin: 100 * time.Second}, func(f *feed) { f.video, f.audio = -1, 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			o, kill, _ := restart(t, dir, c.cfg, time.Time{})
			f := newFeed(t, o, "live/a", 10, 20)
			c.feed(f)
			f.tracks()
			all := seen{}
			wall := f.wall
			for range often(3) {
				for range 10 {
					f.run(12)
					all.look(t, o, "live/a")
				}
				s, _ := o.Stream("live/a")
				stored := map[string]int{}
				for _, r := range s.Run().Renditions() {
					checkCounts(t, r)
					w := r.Window()
					hot := len(w.retained) - countStored(w.retained)
					if stored[r.ID] = countStored(w.retained); stored[r.ID] < 25 || hot < 2*DefaultWindowSegments || hot > 3*DefaultWindowSegments+storeBatch {
						t.Errorf("%s: %d of %d are stored", r.ID, stored[r.ID], len(w.retained))
					}
				}
				s.Run().mu.Lock()
				s.Run().rewrite()
				s.Run().mu.Unlock()
				f.run(21.3) // some more are stored after the log was begun anew
				all.look(t, o, "live/a")
				run := s.Run().ID
				kill()
				wall += int64((120 + 21.3 + 1.7) * 1e9)
				var errs []error
				o, kill, errs = restart(t, dir, c.cfg, time.Unix(0, wall))
				if s, ok := o.Stream("live/a"); len(errs) > 0 || !ok || s.Run().ID != run {
					t.Fatal(ok, errs)
				}
				s, _ = o.Stream("live/a")
				for _, r := range s.Run().Renditions() {
					checkCounts(t, r)
					all.compare(t, r)
					if n := countStored(r.Window().retained); n < stored[r.ID]-11-storeBatch {
						t.Errorf("%s: %d are stored, before the restart there were %d", r.ID, n, stored[r.ID])
					}
				}
				f = newFeed(t, o, "live/a", 10, 20)
				c.feed(f)
				f.wall = wall
				f.tracks()
			}
		})
	}
}

// TestStoredInits: every segment keeps its initialization section, however many there have been, and after every restart.
func TestStoredInits(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, WindowMin: 100 * time.Second}
	dir := t.TempDir()
	o, kill, _ := restart(t, dir, cfg, time.Time{})
	all := seen{}
	wall := newFeed(t, o, "live/x", 5, 10).wall
	for i := range 24 {
		f := newFeed(t, o, "live/a", 5, 10)
		f.wall, f.audio = wall, -1
		v := videoTrack()
		v.Codec.Config = slices.Clone(v.Codec.Config)
		v.Codec.Config[len(v.Codec.Config)-1] = byte(i) // of the PPS
		if err := f.pub.SetTracks([]media.Track{v}); err != nil {
			t.Fatal(err)
		}
		f.run(20)
		all.look(t, o, "live/a")
		f.pub.Close(errors.New("lost"))
		wall += 21e9
		r := rendition(t, o, "live/a", "video")
		checkCounts(t, r)
		if i%2 == 0 {
			r.Run.mu.Lock()
			r.Run.rewrite()
			if n := len(r.Run.keeper.inits); n > 16 {
				t.Errorf("%d initialization sections are kept", n)
			}
			r.Run.mu.Unlock()
		}
		if i%3 == 0 {
			kill()
			var errs []error
			if o, kill, errs = restart(t, dir, cfg, time.Unix(0, wall)); len(errs) > 0 {
				t.Fatal(errs)
			}
			r = rendition(t, o, "live/a", "video")
			checkCounts(t, r)
			all.compare(t, r)
		}
	}
	if n := len(all["video"]); n < 230 {
		t.Errorf("%d segments", n)
	}
	f := newFeed(t, o, "live/a", 5, 10)
	f.wall, f.audio = wall, -1
	f.tracks().run(300)
	if n := len(rendition(t, o, "live/a", "video").Window().inits); n != 1 {
		t.Errorf("%d initialization sections are remembered, of which one is needed", n)
	}
}

// TestStoredReaders reads everything while it is being stored.
func TestStoredReaders(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, WindowMin: 60 * time.Second}
	o, _, _ := restart(t, t.TempDir(), cfg, time.Time{})
	f := newFeed(t, o, "live/a", 5, 10).tracks().run(5)
	r := rendition(t, o, "live/a", "video")
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			known := map[uint64]string{}
			for {
				select {
				case <-stop:
					return
				default:
				}
				for _, s := range r.Window().Retained() {
					h, err := s.Hash()
					full, bad := s.Load()
					if err != nil || bad != nil || known[s.MSN] != "" && known[s.MSN] != h {
						t.Errorf("segment %d: %v, %v", s.MSN, err, bad)
						return
					}
					known[s.MSN] = h
					again := &Segment{Parts: full.Parts}
					if g, err := again.Hash(); err != nil || g != h {
						t.Errorf("segment %d: its parts are others: %v", s.MSN, err)
						return
					}
					r.Stats()
					r.Run.Presentation()
				}
			}
		})
	}
	for range 100 {
		f.run(4)
		runtime.GC()
	}
	close(stop)
	readers.Wait()
}

// TestStoredDamaged: a run whose index is not whole does not come back, and what cannot be read of a segment is an error.
func TestStoredDamaged(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, WindowMin: 100 * time.Second}
	dir := t.TempDir()
	o, kill, _ := restart(t, dir, cfg, time.Time{})
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(120)
	s, _ := o.Stream("live/a")
	s.Run().mu.Lock()
	s.Run().rewrite()
	s.Run().mu.Unlock()
	kill()
	now := time.Unix(0, f.wall).Add(121 * time.Second)
	for _, c := range []struct {
		name string
		harm func(index []byte) []byte
	}{
		{"short", func(b []byte) []byte { return b[:len(b)-1] }},
		{"damaged", func(b []byte) []byte { b[len(b)/2] ^= 1; return b }},
		{"empty", func(b []byte) []byte { return nil }},
		{"moved", func(b []byte) []byte { return append(b[72:], b[:72]...) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			again := filepath.Join(t.TempDir(), "x")
			copyDir(t, again, dir)
			names, _ := filepath.Glob(filepath.Join(again, "runs", "*", "0.index"))
			b, err := os.ReadFile(names[0])
			if err != nil {
				t.Fatal(err)
			}
			os.WriteFile(names[0], c.harm(b), 0o600)
			o, _, errs := restart(t, again, cfg, now)
			if len(errs) != 1 || len(o.Streams()) != 0 || len(journals(t, again)) != 0 || o.kept.Load() != 0 {
				t.Errorf("%v, %d streams, %d bytes", errs, len(o.Streams()), o.kept.Load())
			}
		})
	}

	again := filepath.Join(t.TempDir(), "x")
	copyDir(t, again, dir)
	o, _, _ = restart(t, again, cfg, now)
	r := rendition(t, o, "live/a", "video")
	seg := r.Window().Segments[0]
	if !seg.Stored() {
		t.Fatal("it is not stored")
	}
	names, _ := filepath.Glob(filepath.Join(again, "runs", "*", "*.media"))
	for _, n := range names {
		file, err := os.OpenFile(n, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt(make([]byte, 1<<20), seg.stored.Offset()); err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	var format *media.FormatError
	if _, err := seg.Load(); !errors.As(err, &format) {
		t.Errorf("Load: %v", err)
	}
	if _, err := seg.Hash(); !errors.As(err, &format) {
		t.Errorf("Hash: %v", err)
	}
}

// TestStoredFails: when the disk fails, a long window becomes, in its time, one of five minutes more than usual; and when it works
// again it grows as before.
func TestStoredFails(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, WindowMin: time.Hour}
	dir := t.TempDir()
	o, _, _ := restart(t, dir, cfg, time.Time{})
	f := newFeed(t, o, "live/a", 5, 10).tracks().run(900)
	r := rendition(t, o, "live/a", "video")
	if n := countStored(r.Window().Segments); n < 400 {
		t.Fatalf("%d are stored", n)
	}
	seconds := func() float64 { w := r.Window(); return float64(w.ticks) / float64(w.Timescale()) }
	if s := seconds(); s < 895 {
		t.Fatalf("%.0f s are listed", s)
	}
	limitFiles(t, 4096)
	f.run(250)
	if s := seconds(); s < 1145 {
		t.Errorf("%.0f s are listed four minutes later", s)
	}
	first := r.Window().Segments[0].MSN
	f.run(80)
	if now := r.Window().Segments[0].MSN; now == first {
		t.Error("nothing goes")
	}
	f.run(600)
	w := r.Window()
	if s := seconds(); s > 320 || countStored(w.retained) > 0 || len(w.retained) > 2*160+5 {
		t.Errorf("%.0f s are listed, %d stored ones of %d", s, countStored(w.retained), len(w.retained))
	}
	checkCounts(t, r)
	limitFiles(t, 0)
	now := time.Unix(0, f.wall).Add(1831 * time.Second)
	o.Tick(now)
	o.Tick(now.Add(retryKeeping))
	if k := o.Keeping(); k.Failing != 0 {
		t.Fatalf("%+v", k)
	}
	f.run(300)
	if s := seconds(); s < 600 || countStored(r.Window().Segments) < 250 {
		t.Errorf("%.0f s are listed, %d are stored", s, countStored(r.Window().Segments))
	}
	checkCounts(t, r)
	x, errs := recoverCopy(t, dir, cfg, now.Add(300*time.Second))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if n := len(rendition(t, x, "live/a", "video").Window().Segments); n < len(r.Window().Segments) {
		t.Errorf("%d of %d segments come back", n, len(r.Window().Segments))
	}
}

// TestKeepSome: what has come together while the disk failed is stored bit by bit, and the run goes on between.
func TestKeepSome(t *testing.T) {
	o, _, _ := restart(t, t.TempDir(), Config{PartTarget: DefaultPartTarget, WindowMin: time.Hour}, time.Time{})
	f := newFeed(t, o, "live/a", 5, 10)
	f.payload, f.size, f.audio = make([]byte, 100_000), 100_000, -1
	f.tracks().run(10)
	r := rendition(t, o, "live/a", "video")
	r.Run.mu.Lock()
	r.Run.failKeeping(errors.New("it fails"))
	r.Run.mu.Unlock()
	f.run(60)
	now := time.Unix(0, f.wall).Add(70 * time.Second)
	r.Run.tend(now)
	now = now.Add(retryKeeping)
	missing := func() (n int) {
		for _, s := range r.list {
			for _, p := range s.Parts {
				if p.disk.Len() == 0 {
					n += p.Size()
				}
			}
		}
		return n
	}
	was, times := missing(), 0
	for more := true; more; times++ {
		more = r.Run.keepSome(now)
		n := missing()
		if was-n > keepAtOnce+2_200_000 || more && n >= was {
			t.Fatalf("%d bytes at once", was-n)
		}
		was = n
	}
	if was > 0 || times < 5 {
		t.Errorf("%d bytes are not stored after %d times", was, times)
	}
	r.Run.tend(now)
	if k := o.Keeping(); k.Failing != 0 {
		t.Errorf("%+v", k)
	}
}

// TestNoDisk: without a directory a long window is one of five minutes more than usual, at every time.
func TestNoDisk(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget, WindowMin: 12 * time.Hour})
	f := newFeed(t, o, "live/a", 5, 10).tracks()
	for range 8 {
		f.run(200)
		r := rendition(t, o, "live/a", "video")
		w := r.Window()
		if s := w.ticks / int64(w.Timescale()); s > 320 || len(w.retained) > 2*160+5 {
			t.Fatalf("%d s are listed, %d segments retained", s, len(w.retained))
		}
		checkCounts(t, r)
	}
}

// busy is for how long this process has had a processor: unlike the time of day, it does not go on while others have it.
func busy(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestLongWindow feeds twelve hours: neither the memory nor what a segment costs grows with the window.
func TestLongWindow(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	hours := often(12)
	all := hours * 3600 / 2 // segments
	window := time.Duration(hours) * time.Hour
	cfg := Config{PartTarget: DefaultPartTarget, WindowMin: window}
	dir := t.TempDir()
	o, kill, _ := restart(t, dir, cfg, time.Time{})
	f := newFeed(t, o, "live/a", 5, 10)
	f.size, f.audio = 40, -1
	f.tracks()
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	f.run(300)
	r := rendition(t, o, "live/a", "video")
	before := heap()
	took := func(seconds float64) time.Duration {
		begun := busy(t)
		f.run(seconds)
		return busy(t) - begun
	}
	early := min(took(1200), took(1200), took(1200))
	f.run(window.Seconds() - 3900 - 3600)
	late := min(took(1200), took(1200), took(1200))
	w := r.Window()
	if n := len(w.Segments); n < all-10 || len(w.retained)-countStored(w.retained) > 60 {
		t.Fatalf("%d segments, %d stored", n, countStored(w.retained))
	}
	grown := heap() - before
	kept := o.kept.Load()
	per := grown / int64(countStored(w.retained))
	t.Logf("%d segments take %d KB of the heap, %d bytes each; %d KB are accounted for; 600 segments took %v and %v of the processor", len(w.Segments), grown>>10, per, kept>>10, early, late)
	if per > storedCost+100 {
		t.Errorf("a stored segment takes %d bytes", per)
	}
	if kept > int64(all)*storedCost+2<<20 {
		t.Errorf("%d bytes are accounted for", kept)
	}
	if late > 2*early {
		t.Errorf("600 segments took %v of the processor, %d hours later %v", early, hours, late)
	}
	run := r.Run
	run.mu.Lock()
	begun := time.Now()
	run.rewrite()
	t.Logf("the log is begun anew in %v, with %d bytes", time.Since(begun), run.keeper.log.Size())
	if run.keeper.log.Size() > 256<<10 {
		t.Error("the log grows with the window")
	}
	run.mu.Unlock()
	kill()
	d, err := store.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	o = origin(cfg)
	begun = time.Now()
	if n, errs := o.Recover(d, time.Unix(0, f.wall).Add(window)); n != 1 {
		t.Fatal(errs)
	}
	t.Logf("recovered in %v", time.Since(begun))
	if n := len(rendition(t, o, "live/a", "video").Window().Segments); n < all-10 {
		t.Errorf("%d segments come back", n)
	}
	runtime.KeepAlive(w)
}

// BenchmarkLongWindow is what a segment costs at the end of a window of twelve hours, and of the default one.
func BenchmarkLongWindow(b *testing.B) {
	for _, c := range []struct {
		name   string
		window time.Duration
	}{{"12s", 0}, {"12h", 12 * time.Hour}} {
		b.Run(c.name, func(b *testing.B) {
			o, _, _ := restart(b, b.TempDir(), Config{PartTarget: DefaultPartTarget, WindowMin: c.window}, time.Time{})
			f := newFeed(b, o, "live/a", 5, 10)
			f.size, f.audio = 40, -1
			f.tracks().run(c.window.Seconds() + 60)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				f.run(2)
			}
		})
	}
}
