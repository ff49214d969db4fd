package segmenter

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"headwater/segmenter/media"
	"headwater/segmenter/store"
)

// recorded is the configuration of a stream that is recorded.
func recorded() Config {
	return Config{PartTarget: DefaultPartTarget, Record: time.Hour, UnpublishGrace: 10 * time.Second}
}

// settleWork waits for what an origin does beside Tick.
func settleWork(o *Origin) { o.recorded.work.Wait() }

// restartAfter is restart after the system has been started anew.
func restartAfter(t testing.TB, dir string, cfg Config, now time.Time) (*Origin, []error) {
	t.Helper()
	d, err := store.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	d.Boot = "another"
	o := origin(cfg)
	_, errs := o.Recover(d, now)
	return o, errs
}

// checkRecording compares a recording with all that its run has had.
func checkRecording(t testing.TB, o *Origin, v Recording, all seen) *Run {
	t.Helper()
	r, ok := o.Run(v.Stream, v.Run)
	if !ok {
		t.Fatalf("run %s cannot be had: %v", v.Run, o.Keeping().Err)
	}
	var bytes int64
	for _, x := range r.Renditions() {
		w := x.Window()
		if !w.Ended || len(w.retained) != len(all[x.ID]) || w.Init() == nil || len(w.Segments) == 0 {
			t.Fatalf("%s: ended %t, %d of %d segments", x.ID, w.Ended, len(w.retained), len(all[x.ID]))
		}
		all.compare(t, x)
		for _, s := range w.retained {
			bytes += int64(s.Size())
			if was := all[x.ID][s.MSN]; was.MSN == 0 {
				t.Fatalf("%s: segment %d was never there", x.ID, s.MSN)
			}
		}
	}
	if bytes != v.Bytes || !r.Ended() || !r.IsReady() {
		t.Errorf("%d bytes of %d; ended: %t, ready: %t", bytes, v.Bytes, r.Ended(), r.IsReady())
	}
	return r
}

// TestRecording: a run that is recorded is all there when it has ended, however it has, also after the system has been started
// anew, until it is too old.
func TestRecording(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(t *testing.T, o *Origin, f *feed, now time.Time)
		kill bool // and only the origin that follows ends it
	}{
		{"unpublished", func(t *testing.T, o *Origin, f *feed, now time.Time) {
			f.pub.Close(nil)
			for s := range 13 {
				o.Tick(now.Add(time.Duration(s) * time.Second))
			}
		}, false},
		{"stopped", func(t *testing.T, o *Origin, f *feed, now time.Time) {
			f.pub.Close(errors.New("the origin stops"))
			o.End()
			o.Close()
		}, false},
		{"killed", func(*testing.T, *Origin, *feed, time.Time) {}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := recorded()
			dir := t.TempDir()
			o, kill, _ := restart(t, dir, cfg, time.Time{})
			f := newFeed(t, o, "live/a", 5, 10).tracks()
			all := seen{}
			for range 20 {
				f.run(10)
				all.look(t, o, "live/a")
			}
			s, _ := o.Stream("live/a")
			run := s.Run()
			for _, x := range run.Renditions() {
				if w := x.Window(); len(w.retained) != len(all[x.ID]) || countStored(w.retained) < 60 || len(w.Segments) > 10 {
					t.Fatalf("%s: %d retained, %d stored, %d listed", x.ID, len(w.retained), countStored(w.retained), len(w.Segments))
				}
				checkCounts(t, x)
			}
			now := time.Unix(0, f.wall).Add(200 * time.Second)
			c.end(t, o, f, now)
			settleWork(o)
			if c.kill {
				kill()
				var errs []error
				now = now.Add(10 * time.Minute)
				if o, kill, errs = restart(t, dir, cfg, now); len(errs) > 0 {
					t.Fatal(errs)
				}
				o.Tick(now)
				settleWork(o)
				s, _ = o.Stream("live/a")
				run = s.Run()
			}
			all.look(t, o, "live/a")
			list := o.Recordings("live/a")
			if len(list) != 1 || list[0].Run != run.ID || list[0].Ended.Sub(list[0].Began).Round(time.Second) < 200*time.Second || len(o.Recordings("")) != 1 || len(o.Recordings("live/b")) != 0 {
				t.Fatalf("%+v, %v", list, o.Keeping().Err)
			}
			if r, ok := o.Run("live/a", run.ID); !ok || r != run {
				t.Error("it is read again while it is still served")
			}

			// Nobody can be playing it any more, but it stays.
			o.Tick(now.Add(5 * time.Minute))
			o.Tick(now.Add(15 * time.Minute))
			if n := len(o.Streams()); n != 0 || o.Keeping().Runs != 0 || o.kept.Load() != 0 {
				t.Fatalf("%d streams, %+v, %d bytes", n, o.Keeping(), o.kept.Load())
			}
			runtime.GC() // what nobody can reach any more stays
			runtime.GC()
			r := checkRecording(t, o, list[0], all)
			if again, _ := o.Run("live/a", run.ID); again != r {
				t.Error("it is read twice")
			}
			for _, none := range [][2]string{{"live/a", "../" + run.ID}, {"live/b", run.ID}, {"live/a", ""}, {"", run.ID}} {
				if _, ok := o.Run(none[0], none[1]); ok {
					t.Errorf("run %q of %q is there", none[1], none[0])
				}
			}
			if p := r.Presentation(); len(p.Renditions) != 2 || p.Renditions[0].FrameRate != 5 || p.Renditions[0].Peak == 0 || p.Renditions[0].IFramePeak == 0 {
				t.Errorf("%+v", p.Renditions)
			}

			// A publication goes on in another run, whatever its clock says.
			g := newFeed(t, o, "live/a", 5, 10)
			g.wall = f.wall
			g.tracks().run(10)
			s, _ = o.Stream("live/a")
			if s.Run().ID == run.ID {
				t.Error("the recording's name is used again")
			}
			kill()

			for range 2 {
				o, errs := restartAfter(t, dir, cfg, now.Add(16*time.Minute))
				if len(errs) > 1 { // the run that was live
					t.Fatal(errs)
				}
				if d := o.Recordings(""); !slices.Equal(d, list) {
					t.Fatalf("%+v", d)
				}
				checkRecording(t, o, list[0], all)
				o.Tick(now.Add(16 * time.Minute))
				g := newFeed(t, o, "live/a", 5, 10)
				g.wall = f.wall
				g.tracks().run(10)
				if s, _ := o.Stream("live/a"); s.Run().ID == run.ID {
					t.Error("the recording's name is used again")
				}
				checkRecording(t, o, list[0], all)
				o.dir.Close()
			}
			o, _ = restartAfter(t, dir, cfg, now.Add(2*time.Hour))
			for i := range 4 { // the other runs become recordings first
				o.Tick(now.Add(2*time.Hour + time.Duration(i)*lookEvery))
				settleWork(o)
			}
			if len(o.Recordings("")) != 0 || len(journals(t, dir)) != 0 {
				t.Errorf("too old: %+v, %d logs", o.Recordings(""), len(journals(t, dir)))
			}
			if _, ok := o.Run("live/a", run.ID); ok {
				t.Error("it can still be had")
			}
		})
	}
}

// TestRecordingStays: what nobody can reach any more of a run that was recorded is not given back.
func TestRecordingStays(t *testing.T) {
	o, _, _ := restart(t, t.TempDir(), recorded(), time.Time{})
	all := seen{}
	func() {
		f := newFeed(t, o, "live/a", 5, 10).tracks().run(200)
		f.pub.Close(nil)
		now := time.Unix(0, f.wall).Add(200 * time.Second)
		for _, s := range []int{0, 11, 12} {
			o.Tick(now.Add(time.Duration(s) * time.Second))
			settleWork(o)
		}
		all.look(t, o, "live/a")
		o.Tick(now.Add(10 * time.Minute))
	}()
	if n := len(o.Streams()); n != 0 {
		t.Fatalf("%d streams", n)
	}
	for range 5 {
		runtime.GC()
		time.Sleep(10 * time.Millisecond) // the collector's goroutine
	}
	checkRecording(t, o, o.Recordings("")[0], all)
}

// TestRecordingRemoved: what is removed is neither served nor there after a restart; and no more is kept than Origin.MaxRecorded.
func TestRecordingRemoved(t *testing.T) {
	dir := t.TempDir()
	cfg := recorded()
	o, kill, _ := restart(t, dir, cfg, time.Time{})
	var now time.Time
	for i := range 4 {
		name := fmt.Sprint("live/", i)
		f := newFeed(t, o, name, 5, 10)
		f.wall += int64(i) * 60e9
		f.tracks().run(30)
		f.pub.Close(nil)
		now = time.Unix(0, f.wall).Add(30 * time.Second)
		o.Tick(now)
		o.Tick(now.Add(11 * time.Second))
		o.Tick(now.Add(12 * time.Second))
		settleWork(o)
	}
	list := o.Recordings("")
	if len(list) != 4 || !slices.IsSortedFunc(list, func(a, b Recording) int { return a.Began.Compare(b.Began) }) {
		t.Fatalf("%+v, %v", list, o.Keeping().Err)
	}
	// One that is still served, as it was and as a recording.
	last := list[3]
	if err := o.RemoveRecording(last.Stream, last.Run); err != nil {
		t.Fatal(err)
	}
	if _, ok := o.Run(last.Stream, last.Run); ok || len(journals(t, dir)) != 3 {
		t.Errorf("there: %t, %d logs", ok, len(journals(t, dir)))
	}
	if err := o.RemoveRecording(last.Stream, last.Run); err != ErrNotFound {
		t.Errorf("once more: %v", err)
	}
	// One that has been read.
	o.Tick(now.Add(10 * time.Minute))
	o.Tick(now.Add(20 * time.Minute))
	r, ok := o.Run(list[2].Stream, list[2].Run)
	if !ok {
		t.Fatal(o.Keeping().Err)
	}
	seg := r.Main().Segments[0]
	want := contentHash(bytesOf(t, seg))
	if err := o.RemoveRecording(list[2].Stream, list[2].Run); err != nil {
		t.Fatal(err)
	}
	if _, ok := o.Run(list[2].Stream, list[2].Run); ok || contentHash(bytesOf(t, seg)) != want {
		t.Error("it is there, or taken from under a reader")
	}
	kill()

	o, kill, errs := restart(t, dir, cfg, now)
	if l := o.Recordings(""); len(errs) > 0 || len(l) != 2 {
		t.Fatalf("%+v, %v", l, errs)
	}
	o.MaxRecorded = list[1].Bytes
	o.Tick(now)
	settleWork(o)
	if l := o.Recordings(""); len(l) != 1 || l[0] != list[1] || len(journals(t, dir)) != 1 {
		t.Errorf("%+v, %d logs", l, len(journals(t, dir)))
	}
	kill()
}

// TestRecordingsLoaded: no more than some are in memory.
func TestRecordingsLoaded(t *testing.T) {
	dir := t.TempDir()
	o, _, _ := restart(t, dir, recorded(), time.Time{})
	for i := range maxLoaded + 3 {
		f := newFeed(t, o, fmt.Sprint("live/", i), 5, 10)
		f.audio = -1
		f.tracks().run(8)
		f.pub.Close(nil)
	}
	now := time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC)
	for _, d := range []time.Duration{0, 11 * time.Second, 12 * time.Second, 5 * time.Minute} {
		o.Tick(now.Add(d))
		settleWork(o)
	}
	list := o.Recordings("")
	if len(list) != maxLoaded+3 || len(o.Streams()) != 0 {
		t.Fatal(len(list), len(o.Streams()), o.Keeping().Err)
	}
	loaded := func() (n int) {
		for _, v := range o.recorded.all {
			if v.run != nil {
				n++
			}
		}
		return n
	}
	content := func(v Recording) string {
		r, ok := o.Run(v.Stream, v.Run)
		if !ok {
			t.Fatal(o.Keeping().Err)
		}
		var b []byte
		for _, s := range r.Main().Retained() {
			b = append(b, bytesOf(t, s)...)
		}
		return contentHash(b)
	}
	second := content(list[1])
	first, _ := o.Run(list[0].Stream, list[0].Run)
	for _, v := range list[:maxLoaded] {
		o.Run(v.Stream, v.Run)
	}
	o.Run(list[0].Stream, list[0].Run) // now the last one
	for _, v := range list[maxLoaded:] {
		o.Run(v.Stream, v.Run)
	}
	if again, _ := o.Run(list[0].Stream, list[0].Run); again != first || loaded() != maxLoaded {
		t.Errorf("%d are in memory, and the one that was used lately is one of them: %t", loaded(), again == first)
	}
	for range 3 { // what is not in memory any more stays on the disk
		runtime.GC()
		time.Sleep(10 * time.Millisecond) // the collector's goroutine
	}
	if content(list[1]) != second {
		t.Error("a recording that was in memory is another now")
	}
}

// TestEvent: an EVENT loses no segment (RFC 8216bis 6.2.2); without a disk another run follows before the memory is full.
func TestEvent(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, Event: true}
	t.Run("kept", func(t *testing.T) {
		dir := t.TempDir()
		o, kill, _ := restart(t, dir, cfg, time.Time{})
		f := newFeed(t, o, "live/a", 5, 10).tracks().run(900)
		r := rendition(t, o, "live/a", "video")
		o.Tick(time.Unix(0, f.wall).Add(900 * time.Second))
		w := r.Window()
		if w.Segments[0].MSN != r.Run.FirstMSN || len(w.Segments) < 448 || countStored(w.Segments) < 400 || r.Run.Ended() {
			t.Fatalf("begins with %d of %d, %d segments", w.Segments[0].MSN, r.Run.FirstMSN, len(w.Segments))
		}
		checkCounts(t, r)
		kill()
		o, _, _ = restart(t, dir, Config{PartTarget: DefaultPartTarget}, time.Unix(0, f.wall).Add(901*time.Second))
		if r = rendition(t, o, "live/a", "video"); len(r.Window().Segments) < len(w.Segments) || !r.Run.Config.Event {
			t.Errorf("%d of %d segments come back", len(r.Window().Segments), len(w.Segments))
		}
	})
	t.Run("in memory", func(t *testing.T) {
		o := origin(cfg)
		f := newFeed(t, o, "live/a", 5, 10).tracks()
		s, _ := o.Stream("live/a")
		runs := map[*Run]bool{}
		for i := range 1500 {
			f.run(1)
			o.Tick(time.Unix(0, f.wall).Add(time.Duration(i+1) * time.Second))
			r := s.Run()
			runs[r] = true
			if x, ok := r.Rendition("video"); ok {
				if w := x.Window(); len(w.Segments) > 160 || len(w.Segments) > 0 && w.Segments[0].MSN != r.FirstMSN {
					t.Fatalf("%d segments, from %d of %d", len(w.Segments), w.Segments[0].MSN, r.FirstMSN)
				}
			}
		}
		if len(runs) < 4 || len(runs) > 6 {
			t.Errorf("%d runs", len(runs))
		}
		for r := range runs {
			if r != s.Run() && !r.Ended() {
				t.Errorf("run %s goes on", r.ID)
			}
		}
	})
}

// TestRange: times are those of the dates in the playlist.
func TestRange(t *testing.T) {
	o, _, _ := restart(t, t.TempDir(), Config{PartTarget: DefaultPartTarget, WindowMin: time.Minute}, time.Time{})
	f := newFeed(t, o, "live/a", 5, 10).tracks().run(300)
	s, _ := o.Stream("live/a")
	r := s.Run()
	segs := rendition(t, o, "live/a", "video").Window().Retained()
	n := len(segs)
	first, last := segs[0], segs[n-1]
	sec := int64(media.Second)
	for _, c := range []struct {
		name       string
		start, end int64
		from, to   uint64
		whole      bool
	}{
		{"all", 0, 0, first.MSN, last.MSN, false},
		{"from before", first.Time - 100*sec, 0, first.MSN, last.MSN, false},
		{"one", segs[5].Time, segs[6].Time, segs[5].MSN, segs[5].MSN, true},
		{"within one", segs[5].Time + 1, segs[5].Time + 2, segs[5].MSN, segs[5].MSN, true},
		{"over an edge", segs[6].Time - 1, segs[6].Time + 1, segs[5].MSN, segs[6].MSN, true},
		{"to the end", segs[9].Time, last.ends(), segs[9].MSN, last.MSN, true},
		{"beyond the end", segs[9].Time, last.ends() + 1, segs[9].MSN, last.MSN, false},
		{"future", last.ends() + 10*sec, 0, last.MSN + 1, last.MSN, false},
		{"past", first.Time - 10*sec, first.Time, first.MSN, first.MSN - 1, true},
	} {
		from, to, whole := r.Range(c.start, c.end)
		if from != c.from || to != c.to || whole != c.whole {
			t.Errorf("%s: %d to %d, %t; want %d to %d, %t", c.name, from, to, whole, c.from, c.to, c.whole)
		}
	}
	f.pub.Close(nil)
	r.End()
	segs = rendition(t, o, "live/a", "video").Window().Retained()
	if _, to, whole := r.Range(0, 0); to != segs[len(segs)-1].MSN || !whole {
		t.Errorf("ended: to %d, whole %t", to, whole)
	}
	if from, to, whole := NewRun("a", nil, Config{}, 1, 0).Range(0, 0); from <= to || whole {
		t.Errorf("of nothing: %d to %d, %t", from, to, whole)
	}
}

// TestRunAt looks for the run of a time, among live, ended and recorded ones.
func TestRunAt(t *testing.T) {
	o, _, _ := restart(t, t.TempDir(), recorded(), time.Time{})
	var runs []string
	base := newFeed(t, o, "live/x", 5, 10).wall
	at := func(sec int) time.Time { return time.Unix(0, base).Add(time.Duration(sec) * time.Second) }
	for i := range 3 {
		f := newFeed(t, o, "live/a", 5, 10)
		f.wall += int64(i) * 1000e9
		f.tracks().run(60)
		s, _ := o.Stream("live/a")
		runs = append(runs, s.Run().ID)
		if i == 2 {
			break
		}
		f.pub.Close(nil)
		for _, sec := range []int{61, 75, 76, 400, 999} {
			o.Tick(at(i*1000 + sec))
			settleWork(o)
		}
	}
	s, _ := o.Stream("live/a")
	if len(s.runs) != 1 || len(o.Recordings("live/a")) != 2 {
		t.Fatalf("%d runs, %v", len(s.runs), o.Recordings("live/a"))
	}
	for _, c := range []struct {
		sec int
		run int // -1: none
	}{{-100, 0}, {30, 0}, {500, 1}, {1001, 1}, {1100, 2}, {2030, 2}, {5000, 2}} {
		r, ok := o.RunAt("live/a", at(c.sec).UnixNano())
		if !ok || r.ID != runs[c.run] {
			t.Errorf("%d s: %v, %t, want run %d", c.sec, r, ok, c.run)
		}
	}
	if r, ok := s.RunAt(at(30).UnixNano()); !ok || r.ID != runs[2] {
		t.Error("the stream has others")
	}
	if _, ok := o.RunAt("live/b", at(30).UnixNano()); ok {
		t.Error("a run of no stream")
	}
}
