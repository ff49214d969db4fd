package segmenter

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headwater/segmenter/media"
	"headwater/segmenter/store"
)

// restart returns an origin that goes on where the one before it in the directory stopped, and how to let it stop as a
// killed process does.
func restart(t testing.TB, dir string, cfg Config, now time.Time) (o *Origin, kill func(), errs []error) {
	t.Helper()
	d, err := store.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	o = origin(cfg)
	_, errs = o.Recover(d, now)
	killed := false
	kill = func() {
		if !killed {
			killed = true
			d.Close()
		}
	}
	t.Cleanup(kill)
	return o, kill, errs
}

// A segmentInfo is what can be told of a segment from outside.
type segmentInfo struct {
	MSN, DiscSeq           uint64
	Disc, Gap, Independent bool
	Init                   string
	InitBytes              string
	Start, Duration, Time  int64
	Hash                   string
	Parts                  []partInfo
}

type partInfo struct {
	MSN            uint64
	Index          int
	Time, Duration int64
	Arrived        int64
	Independent    bool
	Head           int
	Hash, Bytes    string
	Samples        []media.SampleInfo
}

func partsOf(t testing.TB, parts []*Part) (out []partInfo) {
	t.Helper()
	for _, p := range parts {
		h, err := p.Hash()
		if err != nil {
			t.Fatal(err)
		}
		b, err := p.chunk.Append(nil, 0, p.Size())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, partInfo{p.MSN, p.Index, p.Time, p.Duration, p.Arrived, p.Independent, p.head, h, contentHash(b), p.Samples})
	}
	return out
}

func segmentsOf(t testing.TB, segs []*Segment) (out []segmentInfo) {
	t.Helper()
	for _, s := range segs {
		h, err := s.Hash()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, segmentInfo{s.MSN, s.DiscSeq, s.Discontinuity, s.Gap, s.Independent, s.Init.Hash, string(s.Init.Bytes),
			s.Start, s.Duration, s.Time, h, partsOf(t, s.Parts)})
	}
	return out
}

// A view is what can be told of a rendition from outside.
type view struct {
	Retained []segmentInfo
	Listed   int
	Open     []partInfo
	OpenMSN  uint64
	Peak     int
	Average  int
	DiscSeq  uint64
}

func viewOf(t testing.TB, r *Rendition) view {
	t.Helper()
	w, s := r.Window(), r.Stats()
	return view{segmentsOf(t, w.retained), len(w.Segments), partsOf(t, w.Open.Parts), w.Open.MSN, s.Peak, s.Average, w.DiscSeq}
}

// checkRecovered says what is wrong with now, in which the run has been recovered, against what was seen before.
func checkRecovered(t testing.TB, before, now view) {
	t.Helper()
	n := len(before.Retained)
	if len(now.Retained) < n && n-len(now.Retained) > 1 || len(now.Retained) == 0 {
		t.Fatalf("%d of %d segments are there", len(now.Retained), n)
	}
	// What was retained is, but for what the segment that has been completed let go.
	first := 0
	for first < n && before.Retained[first].MSN < now.Retained[0].MSN {
		first++
	}
	if gone := before.Retained[:first]; len(gone) > n-before.Listed {
		t.Errorf("listed segments are gone")
	}
	if d := cmp.Diff(before.Retained[first:], now.Retained[:n-first]); d != "" {
		t.Errorf("segments: -before +recovered:\n%s", d)
	}
	if len(before.Open) > 0 {
		if len(now.Retained) == n-first {
			t.Fatal("the open segment is gone")
		}
		s := now.Retained[n-first]
		if d := cmp.Diff(before.Open, s.Parts); d != "" || s.MSN != before.OpenMSN {
			t.Errorf("open segment: -before +recovered:\n%s", d)
		}
	}
	if now.Peak < before.Peak || before.Average > 0 && now.Average == 0 {
		t.Errorf("the peak rate was %d and is %d, the average %d and %d", before.Peak, now.Peak, before.Average, now.Average)
	}
}

func views(t testing.TB, o *Origin, name string) map[string]view {
	t.Helper()
	out := map[string]view{}
	s, ok := o.Stream(name)
	if !ok {
		t.Fatalf("no stream %s", name)
	}
	for _, r := range s.Run().Renditions() {
		out[r.ID] = viewOf(t, r)
	}
	return out
}

// TestRecover kills an origin and starts it again, several times: what was there is there, under the same numbers, and what
// follows continues it with a discontinuity.
func TestRecover(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		feed func(f *feed)
	}{
		{"low latency", Config{PartTarget: DefaultPartTarget}, func(*feed) {}},
		{"without parts", Config{}, func(*feed) {}},
		{"audio", Config{PartTarget: DefaultPartTarget}, func(f *feed) { f.video, f.audio = -1, 0 }},
		{"video", Config{PartTarget: DefaultPartTarget}, func(f *feed) { f.audio = -1 }},
		{"long GOP", Config{PartTarget: DefaultPartTarget}, func(f *feed) { f.gop = 100 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			o, kill, _ := restart(t, dir, c.cfg, time.Time{})
			f := newFeed(t, o, "live/a", 30, 60)
			c.feed(f)
			f.tracks()
			var run string
			var last uint64
			wall := f.wall
			for round, d := range []float64{9.1, 40.3, 7.9, 5.2, 3.3}[:often(5)] {
				f.run(d)
				s, _ := o.Stream("live/a")
				before := views(t, o, "live/a")
				if round == 0 {
					run = s.Run().ID
				}
				kill()
				away := []float64{1.7, 7.3, 1.7, 12.9, 30.1}[round]
				wall += int64((d + away) * 1e9)
				var errs []error
				o, kill, errs = restart(t, dir, c.cfg, time.Unix(0, wall))
				if len(errs) > 0 {
					t.Fatal(errs)
				}
				s, ok := o.Stream("live/a")
				if !ok || s.Run().ID != run || s.Run().Ended() || !s.Run().IsReady() {
					t.Fatalf("the run is not there, or another one, or ended")
				}
				if st := s.Status(); st.Publishing || st.Discontinuities != round {
					t.Errorf("status %+v", st)
				}
				now := views(t, o, "live/a")
				if len(now) != len(before) {
					t.Fatalf("%d renditions of %d", len(now), len(before))
				}
				for id := range before {
					checkRecovered(t, before[id], now[id])
				}
				msn := s.Run().last.Load()
				if msn < last {
					t.Errorf("the latest number was %d and is %d", last, msn)
				}
				last = msn
				var watchers []*watcher
				for _, r := range s.Run().Renditions() {
					if w := r.Window(); w.NextPart >= 0 || w.Ended || len(w.Open.Parts) > 0 {
						t.Errorf("%s goes on without a publisher", r.ID)
					}
					watchers = append(watchers, watch(t, r))
				}
				// It has one discontinuity more, for all, and no other.
				f = newFeed(t, o, "live/a", 30, 60)
				f.wall = wall
				c.feed(f)
				f.tracks().run(4.5)
				wall += 4.5e9
				for _, x := range watchers {
					x.holes = true
					x.follow()
					s := x.segs[len(x.segs)-1]
					if want := uint64(round + 1); s.DiscSeq != want {
						t.Errorf("%s: discontinuity number %d, want %d", x.r.ID, s.DiscSeq, want)
					}
					lost := 0.0
					for _, s := range x.segs {
						if s.Gap && s.MSN > msn {
							lost += float64(s.Duration) / float64(x.r.Window().Timescale())
						}
					}
					if td := float64(x.r.Run.TargetDuration()); lost < away-td || lost > away+1 {
						t.Errorf("%s: away for %.1f s, of which %.1f s are gaps", x.r.ID, away, lost)
					}
				}
			}
		})
	}
}

// The ladder of a run that has come back is remembered when that is gone.
func TestRecoveredLadderIsRemembered(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{PartTarget: DefaultPartTarget}
	o, kill, _ := restart(t, dir, cfg, time.Time{})
	ladder(t, o, 10, &rung{name: "1080p"}, &rung{name: "720p"})
	kill()
	now := time.Date(2026, 1, 2, 3, 4, 16, 0, time.UTC)
	o, _, errs := restart(t, dir, cfg, now)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for range 600 {
		now = now.Add(time.Second)
		o.Tick(now)
	}
	if _, ok := o.Stream("live/a"); ok {
		t.Fatal("the stream is not gone")
	}
	got := slices.Sorted(slices.Values(o.lastLadder("live/a")))
	if want := []string{"1080p", "720p"}; !slices.Equal(got, want) {
		t.Errorf("%q are remembered, want %q", got, want)
	}
}

// copyDir copies a directory of files and directories.
func copyDir(t testing.TB, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// journals returns the logs below dir.
func journals(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "runs", "*", "journal"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestRecoverTorn cuts the log off at every byte: what comes back is what was there at some time before.
func TestRecoverTorn(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{PartTarget: DefaultPartTarget}
	o, kill, _ := restart(t, dir, cfg, time.Time{})
	f := newFeed(t, o, "live/a", 5, 10).tracks().run(5)
	first, err := os.ReadFile(journals(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	f.run(1.3) // a segment ends
	full := views(t, o, "live/a")
	s0, _ := o.Stream("live/a")
	kill()
	log, err := os.ReadFile(journals(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	base, step := len(first), 1
	if testing.Short() || raceEnabled {
		step = 7
	}
	last := s0.Run().last.Load()
	reached := last
	torn := filepath.Join(t.TempDir(), "x") // of the media, each needs a beginning of what the one before it needs
	copyDir(t, torn, dir)
	name := journals(t, torn)[0]
	for n := len(log); n >= base; n -= step {
		if err := os.WriteFile(name, log[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		o, kill, errs := restart(t, torn, cfg, time.Unix(0, f.wall+9e9))
		if len(errs) > 0 {
			t.Fatalf("%d bytes: %v", n, errs)
		}
		for id, now := range views(t, o, "live/a") {
			segs := full[id].Retained
			// All but the last are what they were in the end; the last may have been cut short.
			k := len(now.Retained) - 1
			for i := range k + 1 {
				if i >= len(segs) || i == k {
					break
				}
				if now.Retained[i].Gap || now.Retained[i].Duration < segs[i].Duration {
					continue // the halt has ended it
				}
				if d := cmp.Diff(segs[i], now.Retained[i]); d != "" {
					t.Fatalf("%d bytes, %s:\n%s", n, id, d)
				}
			}
			s := now.Retained[k]
			all := full[id].Open
			if k < len(segs) {
				all = segs[k].Parts
			}
			if !s.Gap {
				if d := cmp.Diff(all[:len(s.Parts)], s.Parts); d != "" {
					t.Fatalf("%d bytes, %s: parts:\n%s", n, id, d)
				}
			}
		}
		s, _ := o.Stream("live/a")
		if msn := s.Run().last.Load(); msn > last {
			t.Fatalf("%d bytes: the latest number is %d, with more it was %d", n, msn, last)
		} else {
			last = msn
		}
		kill()
	}
	if last == reached {
		t.Fatal("no segment began meanwhile")
	}

	// A log whose beginning is not there is no run, and leaves nothing behind; nor does one that is damaged.
	for _, c := range []struct {
		name string
		log  []byte
	}{
		{"empty", nil},
		{"header", log[:16]},
		{"beginning", log[:400]},
		{"damaged", append(append(append([]byte(nil), log[:base+20]...), 0xff), log[base+21:]...)},
		{"marked", append(append(append([]byte(nil), log[:8]...), 'f'), log[9:]...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			torn := filepath.Join(t.TempDir(), "x")
			copyDir(t, torn, dir)
			if err := os.WriteFile(journals(t, torn)[0], c.log, 0o600); err != nil {
				t.Fatal(err)
			}
			o, _, errs := restart(t, torn, cfg, time.Unix(0, f.wall+9e9))
			if len(errs) != 1 || len(o.Streams()) != 0 || len(journals(t, torn)) != 0 || o.kept.Load() != 0 {
				t.Errorf("%v, %d streams, %d logs, %d bytes", errs, len(o.Streams()), len(journals(t, torn)), o.kept.Load())
			}
		})
	}
}

// TestRecoverGrace: the grace of a lost publisher counts from the restart; if it was over before, the run has ended; and long
// after that nothing is left.
func TestRecoverGrace(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, LossGrace: 20 * time.Second}
	dir := t.TempDir()
	o, kill, _ := restart(t, dir, cfg, time.Time{})
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(9)
	s, _ := o.Stream("live/a")
	run, last := s.Run().ID, s.Run().last.Load()
	kill()
	end := time.Unix(0, f.wall).Add(9 * time.Second)
	for _, c := range []struct {
		name  string
		after time.Duration
		there bool
		ended bool
	}{
		{"at once", time.Second, true, false},
		{"within the grace", 19 * time.Second, true, false},
		{"after it", 22 * time.Second, true, true},
		{"long after it", 20*time.Second + 30*time.Second, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			again := filepath.Join(t.TempDir(), "x")
			copyDir(t, again, dir)
			now := end.Add(c.after)
			o, kill, errs := restart(t, again, cfg, now)
			s, ok := o.Stream("live/a")
			if len(errs) > 0 || ok != c.there {
				t.Fatalf("there: %t, %v", ok, errs)
			}
			if !ok {
				if len(journals(t, again)) != 0 {
					t.Error("it is still in the directory")
				}
				return
			}
			if s.Run().Ended() != c.ended || rendition(t, o, "live/a", "video").Window().Ended != c.ended {
				t.Errorf("ended: %t", !c.ended)
			}
			if c.ended { // another start changes nothing: ENDLIST never disappears (RFC 8216bis 6.2.1)
				kill()
				o, _, _ = restart(t, again, cfg, now)
				if s, _ = o.Stream("live/a"); !s.Run().Ended() {
					t.Error("it goes on")
				}
				// Who comes then begins another run, with higher numbers.
				f := newFeed(t, o, "live/a", 30, 60)
				f.wall = now.UnixNano()
				f.tracks().run(5)
				if r := s.Run(); r.ID == run || r.FirstMSN <= last || !later(r, s.runs[0]) {
					t.Errorf("run %s begins with %d; %s ended with %d", r.ID, r.FirstMSN, run, last)
				}
				if len(journals(t, again)) != 2 {
					t.Errorf("%d logs", len(journals(t, again)))
				}
				return
			}
			o.Tick(now)
			o.Tick(now.Add(cfg.LossGrace - time.Second))
			if s.Run().Ended() {
				t.Error("the grace is over before its end")
			}
			o.Tick(now.Add(cfg.LossGrace))
			if !s.Run().Ended() {
				t.Error("the grace has no end")
			}
			o.Tick(now.Add(cfg.LossGrace + 2*time.Minute))
			if len(o.Streams()) != 0 || len(journals(t, again)) != 0 || o.Keeping().Runs != 0 {
				t.Errorf("something is left: %d streams, %d logs, %+v", len(o.Streams()), len(journals(t, again)), o.Keeping())
			}
		})
	}
}

// TestRecoverStopped: what a clean stop ends has ended when the origin is back.
func TestRecoverStopped(t *testing.T) {
	dir := t.TempDir()
	o, kill, _ := restart(t, dir, Config{PartTarget: DefaultPartTarget}, time.Time{})
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(9)
	f.pub.Close(fmt.Errorf("the origin stops"))
	o.End()
	before := views(t, o, "live/a")
	kill()
	o, _, _ = restart(t, dir, Config{PartTarget: DefaultPartTarget}, time.Unix(0, f.wall).Add(10*time.Second))
	for id, now := range views(t, o, "live/a") {
		checkRecovered(t, before[id], now)
		if !rendition(t, o, "live/a", id).Window().Ended {
			t.Errorf("%s goes on", id)
		}
	}
}

// TestRecoverConfiguration: what cannot change in a run ends it with the next publication; the window's length applies.
func TestRecoverConfiguration(t *testing.T) {
	dir := t.TempDir()
	o, kill, _ := restart(t, dir, Config{PartTarget: DefaultPartTarget}, time.Time{})
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(9)
	s, _ := o.Stream("live/a")
	run := s.Run().ID
	before := views(t, o, "live/a")
	kill()
	cfg := Config{TargetDuration: 4 * time.Second, PartTarget: 500 * time.Millisecond, WindowSegments: 30}
	o, _, _ = restart(t, dir, cfg, time.Unix(0, f.wall).Add(10*time.Second))
	for id, now := range views(t, o, "live/a") {
		checkRecovered(t, before[id], now)
	}
	s, _ = o.Stream("live/a")
	if r := s.Run(); r.ID != run || r.TargetDuration() != 2 || r.Config.PartTarget != DefaultPartTarget || r.Config.WindowSegments != 30 {
		t.Errorf("run %s, %d s, %+v", r.ID, r.TargetDuration(), r.Config)
	}
	last := s.Run().last.Load()
	g := newFeed(t, o, "live/a", 30, 60)
	g.wall = f.wall - 3600e9 // and the clock has been set back
	g.tracks().run(9)
	if r := s.Run(); r.ID == run || r.Config.PartTarget != cfg.PartTarget || !s.runs[0].Ended() {
		t.Errorf("run %s goes on with other targets", r.ID)
	} else if r.FirstMSN <= last || !later(r, s.runs[0]) {
		t.Errorf("run %s begins with %d; %s ended with %d", r.ID, r.FirstMSN, run, last)
	}
}

// TestRecoverOtherBoot: after a power failure what was published last may be missing, and its URLs must not be used again.
func TestRecoverOtherBoot(t *testing.T) {
	dir := t.TempDir()
	d, err := store.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	d.Boot = "another"
	o := origin(Config{PartTarget: DefaultPartTarget})
	o.Recover(d, time.Time{})
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(9)
	d.Close()
	o, _, errs := restart(t, dir, Config{}, time.Unix(0, f.wall).Add(10*time.Second))
	if len(o.Streams()) != 0 || len(errs) != 1 || len(journals(t, dir)) != 0 {
		t.Errorf("%d streams, %v", len(o.Streams()), errs)
	}
}

// later says whether a run was named after a later time than another.
func later(r, than *Run) bool {
	a, ok := r.named()
	b, too := than.named()
	return ok && too && a > b
}
