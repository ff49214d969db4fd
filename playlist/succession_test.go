package playlist

import (
	"bytes"
	"context"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"headwater/playlist/playlisttest"
	"headwater/segmenter"
	"headwater/segmenter/media"
)

// TestSteady: over 1,000 segments each version of the playlist is a lawful successor of the one before, and no hint is
// abandoned (RFC 8216bis 4.4.5.3, 6.2.6): whoever waits for the hinted part gets it.
func TestSteady(t *testing.T) {
	segments := 1000
	if testing.Short() {
		segments = 50
	}
	for _, c := range []struct {
		name     string
		num, den int64
		track    media.Track
	}{
		{"23.976", 24000, 1001, videoTrack()}, {"24", 24, 1, videoTrack()}, {"25", 25, 1, videoTrack()},
		{"29.97", 30000, 1001, videoTrack()}, {"30", 30, 1, videoTrack()}, {"50", 50, 1, videoTrack()}, {"60", 60, 1, videoTrack()},
		{"AAC", 48000, 1024, audioTrack()},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			run := segmenter.NewRun("m1abc", nil, segmenter.Config{PartTarget: segmenter.DefaultPartTarget}, firstMSN, epoch)
			l := newLane(run, "x", c.track, c.num, c.den)
			l.size = 0
			perSegment := l.frames(2)
			var older []byte
			versions, hints := 0, map[int64]bool{}
			each := func() {
				w := l.r.Window()
				if w.NextPart < 0 {
					t.Fatal("no hint")
				}
				for _, p := range w.Open.Parts {
					delete(hints, p.Time)
				}
				hints[w.NextPart] = true
				versions++
				// Reading them all with the checker's regular expressions takes a minute: all at first, then two at a time.
				if len(w.Segments) == 0 || versions > 100 && versions%200 > 1 {
					older = nil
					return
				}
				newer := AppendMedia(make([]byte, 0, len(older)+100), w, NoSkip)
				p := playlisttest.Problems(newer)
				if older != nil {
					p = append(p, playlisttest.SuccessionProblems(older, newer)...)
				}
				if len(p) > 0 {
					t.Fatalf("%q\nolder:\n%s\nnewer:\n%s", p, older, newer)
				}
				if versions%1000 == 0 {
					playlisttest.Check(t, newer)
				}
				older = newer
			}
			for range segments {
				l.fill(perSegment, each)
				l.cut(false)
				each()
			}
			if len(hints) != 1 || !hints[l.r.Window().NextPart] {
				t.Errorf("abandoned hints: %v", hints)
			}
			if _, err := l.r.AwaitPart(context.Background(), nil, 1); err != segmenter.ErrNotFound {
				t.Errorf("a part that nobody hinted: %v", err)
			}
		})
	}
}

// A history is a broadcast's Windows of one rendition, oldest first, with everything happening to it that can.
func history(rng *rand.Rand, parts time.Duration) []*segmenter.Window {
	run := segmenter.NewRun("m1abc", nil, segmenter.Config{PartTarget: parts}, firstMSN, epoch)
	l := newLane(run, "video", videoTrack(), 30, 1)
	other := newLane(run, "audio", audioTrack(), 48000, 1024)
	var ws []*segmenter.Window
	keep := func() { ws = append(ws, l.r.Window()) }
	change := func() { // the picture may have another size, and the clock has gone on
		if rng.IntN(2) == 0 {
			l.larger()
		} else {
			l.in = initOf(videoTrack(), 1)
		}
		l.shift += rng.Int64N(int64(time.Second))
	}
	for range 60 {
		if rng.IntN(8) == 0 {
			l.key = false
		}
		frames := int64(60)
		if rng.IntN(4) == 0 {
			frames = 30 + rng.Int64N(40)
		}
		if parts > 0 {
			l.fill(frames, keep)
		} else {
			l.part(frames)
		}
		other.part(10)
		switch rng.IntN(8) {
		case 0: // reconnect: time is lost and filled with gaps
			l.cut(false)
			keep()
			for range rng.IntN(3) {
				l.gap(60, false)
				keep()
			}
			change()
			l.gap(60, true)
		case 1:
			change()
			l.cut(true)
		default:
			l.cut(false)
		}
		other.cut(false)
		keep()
	}
	l.part(5)
	l.r.Cut(l.now(), nil)
	run.End()
	keep()
	return ws
}

// edge is the time at which w ends, in ticks.
func edge(w *segmenter.Window) int64 {
	if n := len(w.Open.Parts); n > 0 {
		return w.Open.Parts[n-1].Time + w.Open.Parts[n-1].Duration
	}
	last := w.Segments[len(w.Segments)-1]
	return last.Start + last.Duration
}

// TestHistory: whatever happens, each version is a lawful successor of all earlier ones, and a full playlist with a later
// delta update gives the later full playlist's segment list, byte for byte (RFC 8216bis 6.3.7).
func TestHistory(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		target := []time.Duration{segmenter.DefaultPartTarget, 0, time.Second / 3}[seed%3]
		ws := history(rng, target)
		deltas := 0
		for i, w := range ws {
			if len(w.Segments) == 0 {
				continue
			}
			full, delta := AppendMedia(nil, w, NoSkip), AppendMedia(nil, w, SkipYes)
			if p := append(playlisttest.Problems(full), playlisttest.Problems(delta)...); len(p) > 0 {
				t.Fatalf("seed %d: %q\n%s\n%s", seed, p, full, delta)
			}
			if i%40 == 0 {
				playlisttest.Check(t, full)
				playlisttest.CheckReports(t, full, len(w.Siblings))
				playlisttest.Check(t, delta)
			}
			parsed, update := playlisttest.Parse(full), playlisttest.Parse(delta)
			if (skippable(w) > 0) != (update.Skipped > 0) || update.Skipped == 0 && !bytes.Equal(full, delta) {
				t.Fatalf("seed %d: %d segments can be skipped:\n%s", seed, skippable(w), delta)
			}
			for _, back := range []int{1, []int{2, 5, 13}[i%3]} {
				if i < back || len(ws[i-back].Segments) == 0 {
					continue
				}
				older := AppendMedia(nil, ws[i-back], NoSkip)
				playlisttest.CheckSuccession(t, older, full)
				// A client asks for a delta update only if it has a version no older than half the Skip Boundary (6.2.5.1).
				if update.Skipped == 0 || edge(w)-edge(ws[i-back]) > 6*90000 {
					continue
				}
				playlisttest.CheckSuccession(t, older, delta)
				deltas++
				merged, err := playlisttest.Merge(playlisttest.Parse(older), update)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if !reflect.DeepEqual(merged.Segments, parsed.Segments) || !reflect.DeepEqual(merged.Open, parsed.Open) ||
					merged.MSN != parsed.MSN || merged.DiscSeq != parsed.DiscSeq || merged.Hint != parsed.Hint || merged.Independent != parsed.Independent {
					t.Fatalf("seed %d: older:\n%s\ndelta:\n%s\nfull:\n%s", seed, older, delta, full)
				}
			}
			if t.Failed() {
				return
			}
		}
		if deltas < 50 {
			t.Errorf("seed %d: only %d delta updates", seed, deltas)
		}
	}
}

// TestEqualSiblings: the server control of a presentation's playlists is the same, and so is the discontinuity number and
// the date of a segment, the latter to within an audio frame (RFC 8216bis 6.2.4).
func TestEqualSiblings(t *testing.T) {
	b := lowLatency().segments(2).cut2().segments(3).parts(1)
	v, a := playlisttest.Parse([]byte(text(b.video.r.Window(), NoSkip))), playlisttest.Parse([]byte(text(b.audio.r.Window(), NoSkip)))
	if v.Target != a.Target || !reflect.DeepEqual(v.Control, a.Control) || !reflect.DeepEqual(v.PartInf, a.PartInf) {
		t.Errorf("heads differ: %v, %v", v, a)
	}
	for i := range v.Segments {
		vs, as := v.Segments[i], a.Segments[i]
		at, _ := time.Parse(time.RFC3339, vs.PDT)
		bt, _ := time.Parse(time.RFC3339, as.PDT)
		if off := bt.Sub(at).Abs(); vs.MSN != as.MSN || vs.DiscSeq != as.DiscSeq || off > 23*time.Millisecond {
			t.Errorf("segment %d of discontinuity %d, %d of %d: %v apart", vs.MSN, vs.DiscSeq, as.MSN, as.DiscSeq, off)
		}
	}
}
