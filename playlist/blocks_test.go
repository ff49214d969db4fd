package playlist

import (
	"math/rand/v2"
	"testing"
	"time"

	"headwater/segmenter"
	"headwater/segmenter/media"
)

// What is made of blocks is what would be written without them, byte for byte, whatever becomes of the stream and in whatever order its
// Windows are read.
func TestBlocks(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		cfg := segmenter.Config{PartTarget: segmenter.DefaultPartTarget, WindowMin: 5 * time.Minute}
		if seed%3 == 1 {
			cfg.PartTarget = 0
		}
		if seed%3 == 2 {
			cfg.Delivery = &segmenter.Delivery{Shards: []string{"https://m1.example", "https://m2.example"}}
		}
		run := segmenter.NewRun("m1abc", nil, cfg, firstMSN+rng.Uint64N(100), epoch)
		l := newLane(run, "video", videoTrack(), 30, 1)
		var old []*segmenter.Window
		made := 0
		for i := range 700 {
			switch rng.IntN(40) {
			case 0:
				l.gap(60, true)
			case 1:
				l.in = initOf(videoTrack(), rng.IntN(3))
				l.fill(60, nil)
				l.cut(true)
			default:
				l.fill(60, nil)
				l.cut(false)
			}
			w := l.r.Window()
			if rng.IntN(20) == 0 {
				old = append(old, w)
			}
			if rng.IntN(8) > 0 || i < 100 {
				continue
			}
			if rng.IntN(4) == 0 && len(old) > 0 {
				w = old[rng.IntN(len(old))]
			}
			if got, want := string(Media(w, NoSkip, Identity).Body), text(w, NoSkip); got != want {
				t.Fatalf("seed %d, segment %d:\n%s\nwant\n%s", seed, i, got, want)
			}
			if blocksOf(w) != nil {
				made++
			}
		}
		b := l.r.Memo(func() any { return new(blocks) }).(*blocks)
		if n := len(b.all); made < 30 || n == 0 || n > len(l.r.Window().Segments)/blockSegments+2 {
			t.Errorf("seed %d: %d playlists were made of blocks, of which %d are kept", seed, made, n)
		}
	}
}

// Blocks go when their segments do, also when nobody asks for more than delta updates any more, and when the list has become short.
func TestBlocksGo(t *testing.T) {
	cfg := segmenter.Config{PartTarget: segmenter.DefaultPartTarget, WindowMin: 5 * time.Minute}
	run := segmenter.NewRun("m1abc", nil, cfg, firstMSN, epoch)
	l := newLane(run, "video", videoTrack(), 30, 1)
	grow := func(segments int) *segmenter.Window {
		for range segments {
			l.fill(60, nil)
			l.cut(false)
		}
		return l.r.Window()
	}
	Media(grow(300), NoSkip, Identity)
	b := l.r.Memo(func() any { return new(blocks) }).(*blocks)
	if len(b.all) == 0 {
		t.Fatal("none were made")
	}
	last := b.first + uint64(len(b.all))*blockSegments
	w := grow(64)
	Media(w, SkipYes, Identity)
	if listed := w.Segments[0].MSN; len(b.all) == 0 || b.first+blockSegments <= listed {
		t.Errorf("%d are kept, from %d, and %d is the first that is listed", len(b.all), b.first, listed)
	}
	if w = grow(300); w.Segments[0].MSN < last {
		t.Fatalf("%d is listed still", w.Segments[0].MSN)
	}
	short := &segmenter.Window{Rendition: w.Rendition, Segments: w.Segments[len(w.Segments)-10:]}
	if blocksOf(short) != nil || len(b.all) > 0 {
		t.Errorf("%d are kept of what is not listed any more", len(b.all))
	}
}

// A delta update is made without a look at what it skips.
func TestDeltaCost(t *testing.T) {
	most := map[int]float64{}
	for _, minutes := range []int{1, 5} {
		run := segmenter.NewRun("m1abc", nil, segmenter.Config{PartTarget: segmenter.DefaultPartTarget, WindowMin: time.Duration(minutes) * time.Minute}, firstMSN, epoch)
		l := newLane(run, "video", media.Track{ID: 1, Kind: media.Video, Timescale: 90000, Codec: videoTrack().Codec}, 30, 1)
		for range 200 {
			l.fill(60, nil)
			l.cut(false)
		}
		w := l.r.Window()
		mustEqual(t, "segments", len(w.Segments) >= 30*minutes, true)
		for _, s := range w.Segments[:len(w.Segments)-20] {
			*s = segmenter.Segment{} // a look at one of these would be seen
		}
		w.Segments[0].MSN = 1 // but for where the playlist begins
		most[minutes] = testing.AllocsPerRun(10, func() { text(w, SkipYes) })
		if d := len(text(w, SkipYes)); d > 6000 {
			t.Errorf("a delta update of %d bytes", d)
		}
		if c := mediaSize(w, SkipYes); c > 8000 {
			t.Errorf("room for %d bytes", c)
		}
	}
	mustEqual(t, "allocations", most[5], most[1])
}
