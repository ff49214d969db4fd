//go:build unix

package transcode

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"headwater/ingest"
	"headwater/segmenter/media"
)

// fake writes a program that stands in for ffmpeg.
func fake(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ffmpeg")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// A source feeds key frames of 20 kB, five a second of media time.
type source struct {
	t  *testing.T
	tr *Transcoder
	n  int
}

func newSource(t *testing.T, b *bench) *source {
	s := &source{t: t, tr: b.Wrap("live/x", discard{})}
	if err := s.tr.SetTracks([]media.Track{video(640, 360)}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *source) frame() {
	err := s.tr.WriteSample(0, &media.Sample{DTS: int64(s.n) * 18000, Sync: true, Data: nals("\x65" + string(make([]byte, 20_000)))})
	if err != nil {
		s.t.Fatal(err)
	}
	s.n++
}

// until feeds until something has happened.
func (s *source) until(what string, done func() bool) {
	s.t.Helper()
	await(s.t, what, func() bool { s.frame(); return done() })
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// pidIn reads a process id from a file that a fake wrote.
func pidIn(t *testing.T, path string) (pid int) {
	t.Helper()
	await(t, "a process id", func() bool {
		b, _ := os.ReadFile(path)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return pid > 0
	})
	return pid
}

// A child that reads nothing and gives nothing holds up nobody, loses what does not fit, and is killed with whatever it
// has started.
func TestStalls(t *testing.T) {
	note := filepath.Join(t.TempDir(), "pid")
	b := newBench(t, fake(t, "sleep 300 & echo $! >"+note+"; wait"), small("a", 180))
	b.times.stall, b.times.check = 300*time.Millisecond, 50*time.Millisecond
	s := newSource(t, b)
	s.frame()
	grandchild := pidIn(t, note)
	s.until("the stall", func() bool { return s.tr.Stats().Failures == 1 })
	await(t, "the end of what the child started", func() bool { return !alive(grandchild) })
	if st := s.tr.Stats(); st.DroppedGOPs == 0 || st.FramesOut != 0 || st.Running != 0 {
		t.Errorf("%+v", st)
	}
	s.tr.Close(nil)
	finished(t, s.tr)
	if log := b.log.String(); !strings.Contains(log, `msg="ffmpeg ended" stream=live/x err="nothing comes out of it"`) {
		t.Error(log)
	}
}

// A child that is given nothing may be silent for as long as it likes.
func TestIdleIsNoStall(t *testing.T) {
	w := watch{limit: 10 * time.Second}
	type at struct{ offered, tags int64 }
	for i, c := range []struct {
		at
		hangs bool
	}{
		{at{1, 0}, false}, {at{1, 0}, false}, {at{1, 0}, false}, // one frame, then nothing
		{at{30, 0}, false}, {at{60, 0}, false}, {at{90, 20}, false}, // something came
		{at{91, 20}, false}, {at{91, 20}, false}, {at{92, 20}, false}, {at{93, 20}, false}, {at{94, 20}, false}, {at{95, 20}, true},
	} {
		if got := w.tick(2*time.Second, c.offered, c.tags); got != c.hangs {
			t.Errorf("tick %d: %v", i, got)
		}
	}
}

// A child that does not end when its input has is killed after a while, and Close does not wait for it.
func TestTailEnds(t *testing.T) {
	note := filepath.Join(t.TempDir(), "pid")
	b := newBench(t, fake(t, "echo $$ >"+note+"; exec sleep 300"), small("a", 180))
	b.times.tail = 200 * time.Millisecond
	s := newSource(t, b)
	s.frame()
	pid := pidIn(t, note)
	start := time.Now()
	s.tr.Close(nil)
	finished(t, s.tr)
	if d := time.Since(start); d < 200*time.Millisecond || d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
	if alive(pid) {
		t.Error("it lives")
	}
}

// Ends that nobody asked for are followed by a pause that doubles.
func TestBackoff(t *testing.T) {
	p := pause{first: 500 * time.Millisecond, limit: 30 * time.Second, healthy: time.Minute}
	for i, c := range []struct{ lived, want float64 }{
		{0, 0.5}, {1, 1}, {59, 2}, {0, 4}, {0, 8}, {0, 16}, {0, 30}, {0, 30}, {60, 0.5}, {0, 1},
	} {
		if got := p.next(time.Duration(c.lived * 1e9)); got.Seconds() != c.want {
			t.Errorf("%d: %v, want %v s", i, got, c.want)
		}
	}

	b := newBench(t, fake(t, "echo no such thing >&2; exit 3"), small("a", 180))
	b.times.backoff, b.times.limit = 20*time.Millisecond, 80*time.Millisecond
	s := newSource(t, b)
	s.until("three failures", func() bool { return s.tr.Stats().Failures >= 3 })
	s.tr.Close(nil)
	finished(t, s.tr)
	log := b.log.String()
	for _, want := range []string{`line="no such thing"`, `err="exit status 3"`, "retry=20ms", "retry=40ms", "retry=80ms"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in\n%s", want, log)
		}
	}
}

// A source that changes soon after its child has begun gets the next one after a pause only.
func TestChangesSoon(t *testing.T) {
	b := newBench(t, fake(t, "exec cat >/dev/null"), small("a", 180))
	b.times.backoff = 300 * time.Millisecond
	s := newSource(t, b)
	s.until("the first child", func() bool { return s.tr.Stats().Starts == 1 })
	began := time.Now()
	if err := s.tr.SetTracks([]media.Track{video(480, 270)}); err != nil {
		t.Fatal(err)
	}
	s.until("the second", func() bool { return s.tr.Stats().Starts == 2 })
	if d := time.Since(began); d < b.times.backoff {
		t.Errorf("after %v", d)
	}
	s.tr.Close(nil)
	finished(t, s.tr)
}

// What a child has started ends with it, also when it ends by itself.
func TestEndsWhatItStarted(t *testing.T) {
	note := filepath.Join(t.TempDir(), "pid")
	b := newBench(t, fake(t, "sleep 300 & echo $! >"+note+"; exit 0"), small("a", 180))
	b.times.backoff = time.Hour
	s := newSource(t, b)
	s.frame()
	grandchild := pidIn(t, note)
	await(t, "its end", func() bool { return !alive(grandchild) })
	s.tr.Close(nil)
	finished(t, s.tr)
}

// Without ffmpeg the source goes on, and the log says what to do.
func TestNoFFmpeg(t *testing.T) {
	b := newBench(t, filepath.Join(t.TempDir(), "none"), small("a", 180))
	s := newSource(t, b)
	s.until("the failure", func() bool { return s.tr.Stats().Failures >= 1 })
	s.tr.Close(nil)
	finished(t, s.tr)
	if log := b.log.String(); !strings.Contains(log, "install it (Debian: apt install ffmpeg) or set --ffmpeg") {
		t.Error(log)
	}
}

// What is no FLV, and what is not the rung's, ends the child.
func TestHostileChild(t *testing.T) {
	for _, script := range []string{
		"head -c 100000 /dev/zero >&3; exec sleep 300",
		`printf 'FLV\001\001\000\000\000\011\000\000\000\000\010\000\000\004\000\000\000\000\000\000\000\257\000\022\020\000\000\000\017' >&3; exec sleep 300`,
	} {
		b := newBench(t, fake(t, script), small("a", 180))
		s := newSource(t, b)
		s.until("the failure", func() bool { return s.tr.Stats().Failures >= 1 })
		s.tr.Close(nil)
		finished(t, s.tr)
		if log := b.log.String(); !strings.Contains(log, "rung a: ffmpeg's FLV") {
			t.Error(log)
		}
	}
}

// The child does not see how we are configured.
func TestEnvironment(t *testing.T) {
	t.Setenv("HEADWATER_PUBLISH_KEYS", "hunter2")
	b := newBench(t, fake(t, "env >&2"), small("a", 180))
	s := newSource(t, b)
	s.until("the end", func() bool { return s.tr.Stats().Failures >= 1 })
	s.tr.Close(nil)
	finished(t, s.tr)
	if log := b.log.String(); strings.Contains(log, "hunter2") || !strings.Contains(log, "PATH=") {
		t.Error(log)
	}
}

// A source of which nothing is to be made costs no goroutine and no process.
func TestNothingToDo(t *testing.T) {
	b := newBench(t, fake(t, "exit 1"), preset(t, "720p"))
	s := newSource(t, b)
	for range 100 {
		s.frame()
	}
	s.tr.Close(nil)
	finished(t, s.tr)
	if s.tr.started || b.Stats() != (Stats{}) || !strings.Contains(b.log.String(), "720 lines are no fewer than the source's 360") {
		t.Errorf("%s", b.log.String())
	}
}

// What is left out is said once, when it is certain, and who wants to know is told what is made.
func TestLeftOut(t *testing.T) {
	b := newBench(t, fake(t, "exit 1"), preset(t, "720p"), preset(t, "360p"), preset(t, "audio"))
	w := &expecter{}
	tr := b.Wrap("live/x", w)
	for _, tracks := range [][]media.Track{
		{{Kind: media.Video}, {Kind: media.Audio}},
		{video(854, 480), {Kind: media.Audio}},
		{video(854, 480), audio(2)},
		{video(854, 480), audio(2)},
	} {
		if err := tr.SetTracks(tracks); err != nil {
			t.Fatal(err)
		}
	}
	tr.Close(nil)
	finished(t, tr)
	if n := strings.Count(b.log.String(), `msg="rung is left out" stream=live/x rung=720p`); n != 1 {
		t.Errorf("said %d times:\n%s", n, b.log.String())
	}
	if got := fmt.Sprint(w.rungs); got != "[[] [360p] [360p audio] [360p audio]]" {
		t.Errorf("told of %s", got)
	}
}

type expecter struct {
	discard
	rungs [][]string
}

func (e *expecter) Expect(rungs []string) { e.rungs = append(e.rungs, rungs) }

// A rung that cannot be opened, or whose Writer fails, is opened again, at a key frame, after a pause that doubles. The
// child goes on.
func TestOpenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opened []*recorder
		start := time.Now()
		var at []time.Duration
		busy := true
		l := &Ladder{Open: func(name string, r Rung) (ingest.Writer, error) {
			at = append(at, time.Since(start))
			if busy {
				return nil, ingest.ErrInUse
			}
			w := &recorder{}
			opened = append(opened, w)
			return w, nil
		}}
		tr := newTranscoder(l, "live/x", discard{})
		o := newOutput(tr, &run{plan: &plan{}}, planned{Rung: Rung{Name: "a"}})
		if err := o.SetTracks([]media.Track{video(320, 180)}); err != nil {
			t.Fatal(err)
		}
		n := 0
		frame := func() { // every second is a key frame
			n++
			if err := o.WriteSample(0, &media.Sample{DTS: int64(n) * 9000, Sync: n%2 == 0, Arrived: time.Now().UnixNano()}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		for range 20 {
			frame()
		}
		busy = false
		for range 20 {
			frame()
		}
		if got := fmt.Sprint(at); got != "[100ms 700ms 1.7s 3.7s]" {
			t.Errorf("tried at %s", got)
		}
		w := opened[0]
		if len(w.steps) < 2 || w.steps[0].tracks == nil || !w.steps[1].sample.Sync {
			t.Errorf("%+v", w.steps)
		}
		w.fail = errors.New("kicked")
		frame()
		if !w.closed || w.reason != w.fail {
			t.Errorf("closed %v: %v", w.closed, w.reason)
		}
		for range 60 {
			frame()
		}
		if len(opened) != 2 {
			t.Fatalf("opened %d times", len(opened))
		}
		o.Close(nil)
		if !opened[1].closed {
			t.Error("not closed")
		}
	})
}

// A frame comes out with the time that it went in with, though FLV has milliseconds, and with the loss before it.
func TestExact(t *testing.T) {
	var w recorder
	l := &Ladder{Open: func(string, Rung) (ingest.Writer, error) { return &w, nil }}
	tr := newTranscoder(l, "live/x", discard{})
	const base = 1 << 40
	o := newOutput(tr, &run{plan: &plan{}, base: base}, planned{Rung: Rung{Name: "a"}})
	if err := o.SetTracks([]media.Track{video(320, 180)}); err != nil {
		t.Fatal(err)
	}
	tr.exact.put(10_000, (base+10_000)*90+31, false)
	tr.exact.put(10_033, (base+10_033)*90-44, true)
	tr.exact.put(10_067, (base+10_067)*90-90, true)          // not the same millisecond
	tr.exact.put(10_100+slots, (base+10_100+slots)*90, true) // another frame has its place
	for _, ms := range []int64{10_000, 10_033, 10_067, 10_100} {
		if err := o.WriteSample(0, &media.Sample{DTS: (base + ms) * 90, Sync: true}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, s := range w.samples(media.Video) {
		got = append(got, fmt.Sprint(s.DTS-base*90-900_000, s.Lost))
	}
	if s := fmt.Sprint(got); s != "[31 false 2926 true 6030 false 9000 false]" {
		t.Error(s)
	}
}

func TestLogLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		in := strings.Repeat("[warning] again\n", 30) + "\n" + strings.Repeat("x", 5000) + "\xff\n[error] end"
		logLines(slog.New(slog.NewTextHandler(&log, nil)), strings.NewReader(in), time.Now)
		out := log.String()
		if n := strings.Count(out, "[warning] again"); n != lineBurst || !strings.Contains(out, `msg="ffmpeg said more" lines=12`) {
			t.Errorf("%d lines:\n%s", n, out)
		}
		log = lockedBuffer{}
		logLines(slog.New(slog.NewTextHandler(&log, nil)), strings.NewReader(strings.Repeat("y", 5000)+"\nz\xff\n"), time.Now)
		if out := log.String(); len(out) > 1500 || strings.Count(out, "level=WARN") != 2 || !strings.Contains(out, "z?") {
			t.Errorf("%d bytes: %s", len(out), out)
		}
		// With time, more may be said.
		log = lockedBuffer{}
		now := time.Now()
		logLines(slog.New(slog.NewTextHandler(&log, nil)), strings.NewReader(strings.Repeat("a\n", 40)),
			func() time.Time { now = now.Add(time.Second); return now })
		if n := strings.Count(log.String(), "line=a"); n != 40 {
			t.Errorf("%d lines of 40", n)
		}
	})
}

// A panic in what a rung is given to ends the child, and neither the program nor the source.
func TestPanickingRung(t *testing.T) {
	b := newBench(t, "ffmpeg", small("a", 180))
	needFFmpeg(t)
	b.Open = func(string, Rung) (ingest.Writer, error) { return panicking{}, nil }
	tr := b.Wrap("live/x", discard{})
	publish(t, tr, clip(t, "-f lavfi -i testsrc2=s=320x240:r=25 -t 2 -c:v libx264 -preset ultrafast -g 25"))
	await(t, "the failure", func() bool { return tr.Stats().Failures >= 1 })
	tr.Close(nil)
	finished(t, tr)
	if log := b.log.String(); !strings.Contains(log, "panic: in a sample") || !strings.Contains(log, "panicking.WriteSample") || !strings.Contains(log, "panic: at the end") {
		t.Error(log)
	}
}

type panicking struct{ discard }

func (panicking) WriteSample(int, *media.Sample) error { panic("in a sample") }
func (panicking) Close(error) error                    { panic("at the end") }
