package main

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// fakeSink takes at most room bytes a call and remembers all.
type fakeSink struct {
	got   []byte
	calls int
	room  []int // of the calls to come; when used up, there is room for anything
	pongs [][]byte
	err   error
}

func (s *fakeSink) tryWrite(b []byte) (int, error) {
	s.calls++
	if s.err != nil {
		return 0, s.err
	}
	n := len(b)
	if len(s.room) > 0 {
		n, s.room = min(n, s.room[0]), s.room[1:]
	}
	s.got = append(s.got, b[:n]...)
	return n, nil
}

func (s *fakeSink) pong() []byte {
	if len(s.pongs) == 0 {
		return nil
	}
	p := s.pongs[0]
	s.pongs = s.pongs[1:]
	return p
}

func tinyStream() *stream {
	return &stream{period: 100 * time.Millisecond, packets: []packet{
		{at: 0, bytes: []byte("VIDEO0"), video: true},
		{at: 20 * time.Millisecond, bytes: []byte("au")},
		{at: 40 * time.Millisecond, bytes: []byte("VIDEO1"), video: true},
	}}
}

// A late wake-up sends all that is due and does not move later deadlines; a round follows the one before exactly.
func TestCursorKeepsAbsoluteDeadlines(t *testing.T) {
	start := time.Unix(1000, 0)
	now := start
	out := &fakeSink{}
	var late durations
	c := cursor{s: tinyStream(), out: out, start: start, late: &late}
	for _, step := range []struct {
		at, next time.Duration
		got      string
	}{
		{0, 20, "VIDEO0"},
		{10, 20, "VIDEO0"}, // a spurious call sends nothing
		{27, 40, "VIDEO0au"},
		{130, 140, "VIDEO0auVIDEO1VIDEO0au"},
		{240, 300, "VIDEO0auVIDEO1VIDEO0auVIDEO1VIDEO0auVIDEO1"},
	} {
		now = start.Add(step.at * time.Millisecond)
		next, err := c.step(func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		if string(out.got) != step.got || next.Sub(start) != step.next*time.Millisecond {
			t.Fatalf("at %d ms: sent %q, next at %v; want %q and %d ms", step.at, out.got, next.Sub(start), step.got, step.next)
		}
	}
	if late.n != 9 || late.longest != 100*time.Millisecond {
		t.Errorf("%d writes, longest late %v; want 9 and 100 ms", late.n, late.longest)
	}
	if c.frames != 6 || c.bytes != int64(len(out.got)) {
		t.Errorf("%d frames and %d bytes counted", c.frames, c.bytes)
	}
}

// A full socket gets the rest of the packet later, and a pong never lands inside a packet.
func TestCursorResumesInsideAPacket(t *testing.T) {
	start := time.Unix(1000, 0)
	now := start
	out := &fakeSink{room: []int{2, 0, 100}}
	var late durations
	var told []time.Duration
	c := cursor{s: tinyStream(), out: out, start: start, late: &late,
		onVideo: func(n int64, at time.Time) { told = append(told, at.Sub(start)) }}
	clock := func() time.Time { return now }
	for _, want := range []string{"VI", "VI"} {
		next, err := c.step(clock)
		if err != nil || string(out.got) != want || next != now.Add(retryBlocked) {
			t.Fatalf("sent %q, next %v, %v", out.got, next.Sub(now), err)
		}
		now = next
		out.pongs = [][]byte{[]byte("<pong>")}
	}
	if _, err := c.step(clock); err != nil || string(out.got) != "VIDEO0" {
		t.Fatalf("sent %q, %v", out.got, err)
	}
	now = start.Add(20 * time.Millisecond)
	if _, err := c.step(clock); err != nil || string(out.got) != "VIDEO0<pong>au" {
		t.Fatalf("sent %q, %v", out.got, err)
	}
	if len(told) != 1 || told[0] != 2*retryBlocked {
		t.Errorf("video frame told at %v", told)
	}
}

func TestCursorGivesUp(t *testing.T) {
	start := time.Unix(1000, 0)
	var late durations
	blocked := &fakeSink{room: []int{1, 0, 0}}
	c := cursor{s: tinyStream(), out: blocked, start: start, late: &late}
	now := start
	clock := func() time.Time { return now }
	if _, err := c.step(clock); err != nil {
		t.Fatal(err)
	}
	now = start.Add(maxBehind + time.Millisecond)
	if _, err := c.step(clock); !errors.Is(err, errBehind) {
		t.Errorf("blocked for %v: %v", maxBehind, err)
	}
	broken := errors.New("broken")
	c = cursor{s: tinyStream(), out: &fakeSink{err: broken}, start: start, late: &late}
	now = start
	if _, err := c.step(clock); !errors.Is(err, broken) {
		t.Errorf("broken connection: %v", err)
	}
}

func TestStepDoesNotAllocate(t *testing.T) {
	var late durations
	c := cursor{s: tinyStream(), out: discard{}, start: time.Unix(1000, 0), late: &late}
	now := c.start
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(100 * time.Millisecond)
		c.step(func() time.Time { return now })
	}); n > 0 {
		t.Errorf("%v allocations a round", n)
	}
}

type discard struct{}

func (discard) tryWrite(b []byte) (int, error) { return len(b), nil }
func (discard) pong() []byte                   { return nil }

func TestDurations(t *testing.T) {
	var d, other durations
	for i := range 1000 {
		d.add(time.Duration(i) * time.Millisecond)
	}
	other.add(-time.Second)
	other.add(5 * time.Second)
	d.merge(&other)
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0, 0}, {0.5, 500 * time.Millisecond}, {0.99, 991 * time.Millisecond}, {1, 5 * time.Second}} {
		got := d.quantile(c.q)
		if diff := (got - c.want).Abs(); diff > c.want/32+time.Microsecond {
			t.Errorf("quantile %v is %v, want %v", c.q, got, c.want)
		}
	}
	if d.n != 1002 || d.longest != 5*time.Second {
		t.Errorf("n %d, longest %v", d.n, d.longest)
	}
	var none durations
	if none.quantile(0.5) != 0 || none.String() != "none" {
		t.Errorf("empty: %v", &none)
	}
	none.add(1000 * time.Hour) // off the scale: still counted
	if none.quantile(0.5) != 1000*time.Hour {
		t.Logf("off the scale reads as %v", none.quantile(0.5))
	}
	b, err := none.MarshalJSON()
	if err != nil || !bytes.Contains(b, []byte(`"p99_ms"`)) {
		t.Errorf("%s, %v", b, err)
	}
}

func BenchmarkStep(b *testing.B) {
	var late durations
	c := cursor{s: tinyStream(), out: discard{}, start: time.Unix(1000, 0), late: &late}
	now := c.start
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(100 * time.Millisecond)
		c.step(func() time.Time { return now })
	}
}
