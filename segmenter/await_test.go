package segmenter

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := origin(Config{PartTarget: DefaultPartTarget})
		f := newFeed(t, o, "live/a", 30, 60).tracks().run(10.5)
		r := rendition(t, o, "live/a", "video")
		w := r.Window()
		last := w.LastMSN()
		if w.Open.MSN != last+1 || len(w.Open.Parts) != 1 {
			t.Fatalf("open %d with %d parts after %d", w.Open.MSN, len(w.Open.Parts), last)
		}
		ctx := context.Background()
		short, cancel := context.WithTimeout(ctx, 6*time.Second)
		defer cancel()

		for _, c := range []struct {
			name string
			msn  uint64
			part int
			err  error
		}{
			{"past", last - 3, -1, nil},
			{"long past", 1, 0, nil},
			{"last segment", last, -1, nil},
			{"part of the last segment", last, 5, nil},
			{"past the last segment's end: first part of the next", last, 6, nil},
			{"part there", last + 1, 0, nil},
			{"next part", last + 1, 1, context.DeadlineExceeded},
			{"open segment", last + 1, -1, context.DeadlineExceeded},
			{"segment after", last + 2, -1, context.DeadlineExceeded},
			{"segment too far", last + 3, -1, ErrTooFar},
			{"far part", last + 1, 9, context.DeadlineExceeded},
			{"part too far", last + 1, 10, ErrTooFar},
			{"part of a segment too far", last + 3, 0, ErrTooFar},
		} {
			got, err := r.Await(short, nil, c.msn, c.part)
			if !errors.Is(err, c.err) {
				t.Errorf("%s: %v, want %v (RFC 8216bis 6.2.5.2)", c.name, err, c.err)
			}
			if err == nil && got != w {
				t.Errorf("%s: another window than the newest", c.name)
			}
		}

		// Everybody who asks for one thing in the future gets the same window: the first that holds it.
		var mu sync.Mutex
		got := map[string][]*Window{}
		var wg sync.WaitGroup
		for range 50 {
			for name, ask := range map[string][2]int{"part": {1, 3}, "segment": {1, -1}, "past the end": {1, 6}} {
				wg.Go(func() {
					w, err := r.Await(ctx, nil, last+uint64(ask[0]), ask[1])
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					got[name] = append(got[name], w)
					mu.Unlock()
				})
			}
		}
		synctest.Wait()
		f.run(10)
		wg.Wait()
		for name, ws := range got {
			for _, w := range ws {
				if w != ws[0] {
					t.Fatalf("%s: two windows for one request", name)
				}
			}
		}
		if w := got["part"][0]; w.Open.MSN != last+1 || len(w.Open.Parts) != 4 {
			t.Errorf("not the first window that holds the part: %d.%d", w.Open.MSN, len(w.Open.Parts))
		}
		if w := got["segment"][0]; w.LastMSN() != last+1 || len(w.Open.Parts) != 0 {
			t.Errorf("not the first window that holds the segment: %d.%d", w.Open.MSN, len(w.Open.Parts))
		}
		if w := got["past the end"][0]; w.Open.MSN != last+2 || len(w.Open.Parts) != 1 {
			t.Errorf("a part past a segment's end is not the next one's first: %d.%d", w.Open.MSN, len(w.Open.Parts))
		}

		// The end wakes everybody (RFC 8216bis 6.2.5.2).
		done := make(chan *Window)
		go func() {
			w, _ := r.Await(ctx, nil, r.Window().LastMSN()+2, -1)
			done <- w
		}()
		synctest.Wait()
		f.pub.Close(nil)
		r.Run.End()
		if w := <-done; !w.Ended {
			t.Error("woken with a playlist that has not ended")
		}
		ended := r.Window()
		newFeed(t, o, "live/a", 30, 60).tracks().run(5) // somebody who publishes after the end begins another run
		if r.Window() != ended {
			t.Error("an ended playlist has changed")
		}
		if _, err := r.Await(ctx, nil, r.Window().LastMSN()+100, 3); err != nil {
			t.Error("an ended playlist answers everything")
		}
	})
}

// A hinted part is waited for; one that nobody hinted, or whose hint is abandoned, is not (RFC 8216bis 6.2.6).
func TestAwaitPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := origin(Config{PartTarget: DefaultPartTarget})
		f := newFeed(t, o, "live/a", 30, 60).tracks().run(10.5)
		r := rendition(t, o, "live/a", "video")
		hint := r.Window().NextPart
		got := make(chan error)
		go func() {
			p, err := r.AwaitPart(context.Background(), nil, hint)
			if err == nil && p.Time != hint {
				err = errors.New("another part")
			}
			got <- err
		}()
		synctest.Wait()
		if _, err := r.AwaitPart(context.Background(), nil, hint+1); err != ErrNotFound {
			t.Error(err)
		}
		f.run(1)
		if err := <-got; err != nil {
			t.Error(err)
		}
		if p, err := r.AwaitPart(context.Background(), nil, r.Window().Segments[0].Parts[2].Time); err != nil || p.Index != 2 {
			t.Error(err)
		}
		hint = r.Window().NextPart
		go func() {
			_, err := r.AwaitPart(context.Background(), nil, hint)
			got <- err
		}()
		synctest.Wait()
		f.pub.Close(errors.New("reset"))
		if err := <-got; err != ErrNotFound && err != nil {
			t.Error(err)
		}
		if r.Window().NextPart != -1 {
			t.Error("a hint without a publisher")
		}
	})
}

func TestAwaitReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := origin(Config{PartTarget: DefaultPartTarget})
		f := newFeed(t, o, "live/a", 30, 60)
		s, _ := o.Stream("live/a")
		ctx, cancel := context.WithTimeout(context.Background(), 6*time.Second)
		defer cancel()
		if _, err := s.AwaitReady(ctx, nil); err != ErrNotReady {
			t.Error(err)
		}
		got := make(chan *Run)
		go func() {
			r, err := s.AwaitReady(context.Background(), nil)
			if err != nil {
				t.Error(err)
			}
			got <- r
		}()
		synctest.Wait()
		f.tracks().run(2)
		select {
		case <-got:
			t.Fatal("ready without a segment (RFC 8216bis 6.2.1: segments are complete when listed)")
		default:
		}
		f.run(0.3)
		r := <-got
		if len(r.Renditions()) != 2 || len(r.Renditions()[0].Window().Segments) == 0 || len(r.Renditions()[1].Window().Segments) == 0 {
			t.Error("ready without a segment in each rendition")
		}
		f.pub.Close(nil)
		now := time.Now()
		for range 200 {
			now = now.Add(time.Second)
			o.Tick(now)
		}
		if _, err := s.AwaitReady(context.Background(), nil); err != ErrNotFound {
			t.Error(err)
		}
		if _, ok := o.Stream("live/a"); ok {
			t.Error("the stream stays for ever")
		}
	})
}

// 10,000 waiters are released by one publication.
func BenchmarkWake10000(b *testing.B) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	f := newFeed(b, o, "live/a", 30, 60).tracks().run(10.5)
	r := rendition(b, o, "live/a", "video")
	for b.Loop() {
		b.StopTimer()
		w := r.Window()
		var wg sync.WaitGroup
		for range 10000 {
			wg.Go(func() {
				if _, err := r.Await(context.Background(), nil, w.Open.MSN, len(w.Open.Parts)); err != nil {
					b.Error(err)
				}
			})
		}
		time.Sleep(20 * time.Millisecond) // until they wait; not a wait for a result
		b.StartTimer()
		for !r.Window().holds(w.Open.MSN, len(w.Open.Parts)) {
			f.run(1.0 / 30)
		}
		wg.Wait()
	}
}

// One second of media: 30 frames of 13 kB and 47 audio frames.
func BenchmarkSecond(b *testing.B) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	f := newFeed(b, o, "live/a", 30, 60).tracks()
	f.payload = make([]byte, 13000)
	f.run(10)
	b.ReportAllocs()
	for b.Loop() {
		f.run(1)
	}
}

// Who waits for a whole segment, or for one that has not begun, is woken when the open one ends and not for each of its parts.
func TestAwaitWholeSegment(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	f := newFeed(t, o, "live/a", 30, 60).tracks().run(10.5)
	r := rendition(t, o, "live/a", "video")
	closed := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	w := r.Window()
	parts := 0
	for r.Window().Open.MSN == w.Open.MSN {
		if now := r.Window(); now.whole != w.whole || closed(now.whole) {
			t.Fatal("woken by a part")
		}
		parts = max(parts, len(r.Window().Open.Parts))
		f.run(1.0 / 30)
	}
	if parts < 4 {
		t.Fatalf("%d parts: nothing was tested", parts)
	}
	if !closed(w.whole) || closed(r.Window().whole) {
		t.Error("not woken when the segment was whole, or for good")
	}
	open := r.Window().whole
	f.pub.Close(nil)
	r.Run.End()
	if !closed(open) {
		t.Error("not woken by the end")
	}
}
