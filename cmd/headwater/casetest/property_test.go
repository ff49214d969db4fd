package casetest

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"headwater/segmenter"
)

// Whatever goes wrong, in whatever order, the checker's rules hold and the stream goes on.
func TestRandomFaults(t *testing.T) {
	seeds := uint64(24)
	if slow {
		seeds = 6
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 11))
			h := newHarness(t, segmenter.Config{PartTarget: segmenter.DefaultPartTarget,
				LongGOP: []segmenter.LongGOP{segmenter.Stretch, segmenter.CutGOP}[rnd.IntN(2)]})
			h.check.holes, h.check.slews, h.check.rough = true, true, true
			e := newEncoder(t, h)
			e.vbase, e.abase = rnd.Int64N(1<<33), 0
			e.abase = e.vbase
			e.fps = []float64{15, 24000.0 / 1001, 25, 30, 50, 60000.0 / 1001}[rnd.IntN(6)]
			e.gop, e.bframes = int(e.fps*(0.5+2*rnd.Float64())), rnd.IntN(4)
			if e.connect(); rnd.IntN(2) == 0 {
				e.c.setChunk(16 + rnd.IntN(200))
				e.c.repeat, e.c.deltas = rnd.IntN(2) == 0, rnd.IntN(2) == 0
			}
			e.run(8 + 5*rnd.Float64())
			var log []string
			for range 8 {
				name := faults[rnd.IntN(len(faults))]
				log = append(log, fmt.Sprintf("%.3f s: %s", e.pos, name.what))
				name.do(e, rnd)
				e.run(3 + 6*rnd.Float64())
				if h.over() { // time or configuration has changed too often
					e.away(11)
					e.connect()
				}
			}
			sent := h.ids.Load()
			e.run(14)
			h.check.finish()
			for _, p := range h.check.problems {
				t.Error(p)
			}
			alive := false
			for _, x := range h.check.tracks {
				alive = alive || x.last > sent
			}
			if !alive {
				t.Error("nothing comes out any more")
			}
			if t.Failed() {
				t.Log(log)
			}
		})
	}
}

// What may go wrong.
var faults = []struct {
	what string
	do   func(e *encoder, rnd *rand.Rand)
}{
	{"a reset", func(e *encoder, rnd *rand.Rand) { away(e.reset(), rnd) }},
	{"an unpublish", func(e *encoder, rnd *rand.Rand) { away(e.unpublish(), rnd) }},
	{"a connection half open", func(e *encoder, rnd *rand.Rand) { away(e, rnd) }},
	{"a jump", func(e *encoder, rnd *rand.Rand) { e.jump(rnd.Int64N(2*hour) - hour) }},
	{"a small jump", func(e *encoder, rnd *rand.Rand) { e.jump(rnd.Int64N(6*second) - 3*second) }},
	{"a jump of the video", func(e *encoder, rnd *rand.Rand) { e.vbase += rnd.Int64N(2*hour) - hour }},
	{"a jump of the audio", func(e *encoder, rnd *rand.Rand) { e.abase += rnd.Int64N(2*hour) - hour }},
	{"an outlier", func(e *encoder, rnd *rand.Rand) { e.outlier(rnd.Int64N(4*hour) - 2*hour) }},
	{"a freeze", func(e *encoder, rnd *rand.Rand) { e.freeze(8 * rnd.Float64()) }},
	{"nothing for a while", func(e *encoder, rnd *rand.Rand) {
		d := 8 * rnd.Float64()
		e.pos, e.vpos, e.apos, e.queue = e.pos+d, e.vpos+d, e.apos+d, nil
	}},
	{"no sound for a while", func(e *encoder, rnd *rand.Rand) {
		rate := e.rate
		e.rate = 0
		e.run(6 * rnd.Float64())
		e.rate, e.apos = rate, e.pos
	}},
	{"no picture for a while", func(e *encoder, rnd *rand.Rand) {
		e.noVideo = true
		e.run(6 * rnd.Float64())
		e.noVideo, e.vpos, e.queue, e.frames = false, e.pos, nil, 0
	}},
	{"another size", func(e *encoder, rnd *rand.Rand) {
		e.pic = picture{width: 640 + 16*rnd.IntN(40), height: 360 + 2*rnd.IntN(200)}
		e.headers()
	}},
	{"another sound", func(e *encoder, rnd *rand.Rand) {
		e.rate, e.channels = []int{48000, 44100, 32000}[rnd.IntN(3)], 1+rnd.IntN(2)
		e.headers()
	}},
	{"another codec", func(e *encoder, _ *rand.Rand) {
		e.pic.hevc = !e.pic.hevc
		e.headers()
	}},
	{"the same headers", func(e *encoder, _ *rand.Rand) { e.headers() }},
	{"another rhythm", func(e *encoder, rnd *rand.Rand) { e.gop = 1 + rnd.IntN(200) }},
	{"jitter", func(e *encoder, rnd *rand.Rand) {
		n := rnd.Int64N(12)
		e.jitter = func(int) int64 { return rnd.Int64N(2*n+1) - n }
	}},
}

func away(e *encoder, rnd *rand.Rand) {
	if e.away(rnd.Float64() * []float64{0.5, 5, 25}[rnd.IntN(3)]); rnd.IntN(2) == 0 {
		e.restart()
	}
	e.connect()
}

// A thousand reconnects leave nothing behind.
func TestReconnectsLeaveNothing(t *testing.T) {
	leavesNothing(t, newHarness(t, segmenter.Config{PartTarget: segmenter.DefaultPartTarget}), "")
}

// leavesNothing lets an encoder come again and again. dir is where its media is kept; "" is in memory.
func leavesNothing(t *testing.T, h *harness, dir string) {
	h.blind = true
	e := newEncoder(t, h)
	again := func(n int) {
		for i := range n {
			e.restart().connect().run(1.1)
			switch i % 3 {
			case 0:
				e.reset()
			case 1:
				e.unpublish()
			default: // and half open: the next one takes over
			}
			e.away(0.4)
		}
	}
	measure := func() (heap int64, goroutines, files, kept int) {
		e.reset()
		h.until("still live", h.over)
		for range 3 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil && runtime.GOOS == "linux" {
			t.Fatal(err)
		}
		if dir != "" {
			filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { kept++; return nil })
		}
		return int64(m.HeapAlloc), runtime.NumGoroutine(), len(fds), kept
	}
	again(100)
	heap, goroutines, files, kept := measure()
	many := 1000
	if slow {
		many = 200
	}
	again(many)
	heapAfter, goroutinesAfter, filesAfter, keptAfter := measure()
	t.Logf("heap %d and %d KiB, goroutines %d and %d, files %d and %d, on the disk %d and %d", heap>>10, heapAfter>>10, goroutines, goroutinesAfter,
		files, filesAfter, kept, keptAfter)
	if keptAfter > kept+2 || dir != "" && kept < 4 {
		t.Errorf("on the disk: %d files after 100, %d after %d more", kept, keptAfter, many)
	}
	if heapAfter > heap+heap/5+512<<10 {
		t.Errorf("heap: %d KiB after 100, %d KiB after %d more", heap>>10, heapAfter>>10, many)
	}
	if goroutinesAfter > goroutines+2 {
		t.Errorf("goroutines: %d after 100, %d after %d more", goroutines, goroutinesAfter, many)
	}
	if filesAfter > files+2 {
		t.Errorf("files: %d after 100, %d after %d more", files, filesAfter, many)
	}
	if n := len(h.origin.Streams()); n != 1 {
		t.Errorf("%d streams", n)
	}
}
