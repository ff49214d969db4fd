package segmenter

import (
	"testing"
	"time"
)

// A run's name is never given again: not to a stream that begins anew, though nothing is remembered of it and the clock has been
// set back; not in the second in which another run began; and not to a run that follows one that was thrown away.
func TestRunNames(t *testing.T) {
	used := map[string]string{}
	note := func(what string, r *Run) {
		t.Helper()
		if old, again := used[r.ID]; again {
			t.Errorf("%s: run %s was that of %s", what, r.ID, old)
		}
		used[r.ID] = what
	}
	o := origin(Config{PartTarget: DefaultPartTarget})
	begin := func(what string, at time.Time) *feed {
		t.Helper()
		f := newFeed(t, o, "live/a", 30, 60)
		f.wall = at.UnixNano()
		f.tracks().run(5)
		note(what, f.pub.stream.Run())
		return f
	}
	forget := func(f *feed, now time.Time) {
		t.Helper()
		if err := f.pub.Close(nil); err != nil {
			t.Fatal(err)
		}
		o.Tick(now)
		o.Tick(now.Add(time.Hour))
		o.Tick(now.Add(2 * time.Hour))
		if n := len(o.Streams()); n != 0 {
			t.Fatalf("%d streams are left", n)
		}
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	forget(begin("the first", at), at)
	forget(begin("the same time again", at), at)
	forget(begin("the clock set back", at.Add(-time.Hour)), at)
	forget(begin("later", at.Add(time.Minute)), at)
	forget(begin("between", at.Add(time.Second)), at)

	// Another origin has been given the same at the same time.
	o = origin(Config{PartTarget: DefaultPartTarget})
	forget(begin("another origin", at), at)
	forget(begin("another origin, the clock set back", at.Add(-time.Minute)), at)

	// Another process that has no mark knows nothing of all this, and has the clock alone: a restart takes more than a millisecond.
	o = origin(Config{PartTarget: DefaultPartTarget})
	o.Mark = ""
	forget(begin("another process", at.Add(2*time.Minute)), at)
	o = origin(Config{PartTarget: DefaultPartTarget})
	o.Mark = ""
	forget(begin("one more in the same second", at.Add(2*time.Minute+time.Millisecond)), at)
}
