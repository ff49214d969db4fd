package casetest

import (
	"bytes"
	"math/rand/v2"
	"time"

	"headwater/ingest"
	"headwater/segmenter"
)

const (
	second = 1000 // ms
	hour   = 3600 * second
)

// based returns a script that publishes with timestamps that begin so high, through a client that is as the last argument makes it.
func based(v, a int64, client func(*client)) func(*encoder) {
	return func(e *encoder) {
		e.vbase, e.abase = v, a
		e.connect()
		if client != nil {
			client(e.c)
		}
		e.run(30)
	}
}

// like returns a script that publishes for half a minute from an encoder that is as its argument makes it.
func like(f func(e *encoder)) func(*encoder) {
	return func(e *encoder) {
		f(e)
		e.connect().run(30)
	}
}

// back returns a script that publishes, loses the connection somehow, and is back after so many seconds, perhaps with timestamps
// that begin at 0 again.
func back(lose func(*encoder), away float64, restart bool) func(*encoder) {
	return func(e *encoder) {
		e.vbase, e.abase = hour, hour
		e.connect().run(13)
		lose(e)
		e.away(away)
		if restart {
			e.restart()
		}
		e.connect().run(15)
	}
}

// stalled is like back, after the listener has ended the connection itself.
func stalled(away float64, restart bool) func(*encoder) {
	return back(func(e *encoder) { e.stall() }, away, restart)
}

func reset(e *encoder)     { e.reset() }
func unpublish(e *encoder) { e.unpublish() }

// mute leaves the connection open and says nothing more.
func mute(*encoder) {}

var cases = []testCase{
	{name: "plain", do: like(func(*encoder) {}), want: want{onGrid: true}},

	// Timestamps wrap: 24 bits of them in the header, 32 altogether (RTMP 1.0, 5.3.1.2 and 5.3.1.3).
	{name: "wrap 24", do: based(0xffffff-10*second, 0xffffff-10*second, nil), want: want{onGrid: true}},
	{name: "wrap 24 in small chunks", do: based(0xffffff-10*second, 0xffffff-10*second, func(c *client) { c.setChunk(16) }), want: want{onGrid: true}},
	{name: "wrap 24 without repetition", do: based(0xffffff-10*second, 0xffffff-10*second, func(c *client) {
		c.repeat = false
		c.setChunk(16)
	}), want: want{onGrid: true}},
	{name: "wrap 24 by differences", do: based(0xffffff-10*second, 0xffffff-10*second, func(c *client) { c.deltas = true }), want: want{onGrid: true}},
	{name: "wrap 32", do: based(1<<32-10*second, 1<<32-10*second, nil), want: want{onGrid: true}},
	{name: "wrap 32 by differences", do: based(1<<32-10*second, 1<<32-10*second, func(c *client) { c.deltas = true }), want: want{onGrid: true}},
	{name: "wrap 32 between the tracks", do: based(1<<32-20, 1<<32+20, nil), want: want{onGrid: true, skew: 0.07}},
	{name: "wrap 32 at the start", do: based(1<<32-1, 1<<32-1, nil), want: want{onGrid: true}},

	// MPEG-TS has 33 bits for times of 90 kHz (ISO/IEC 13818-1 2.4.3.7), which are full after 26.5 hours. Until half a minute before
	// nothing comes, and until shortly before nobody looks.
	{name: "wrap 33", cfg: segmenter.Config{LossGrace: 30 * time.Hour}, do: func(e *encoder) {
		e.h.blind = true
		e.connect().run(13).reset().away((tsWrap-tsZero)/tsClock - 30 - e.pos)
		e.connect().run(10)
		e.h.blind = false
		e.h.now() // see connect
		e.run(30)
	}, want: want{discs: 1, gap: [2]float64{4, 10}, lost: [2]int{400, 620}, wraps: true}},

	// Single timestamps that are wrong are dropped and counted, and nothing else changes.
	{name: "outlier ahead", do: func(e *encoder) { e.connect().run(11).outlier(2 * hour).run(15) },
		want: want{lost: [2]int{1, 1}, drops: [2]float64{2, 2}}},
	{name: "outlier behind", do: func(e *encoder) {
		e.vbase, e.abase = 5*hour, 5*hour
		e.connect().run(11).outlier(-4 * hour).run(15)
	}, want: want{lost: [2]int{1, 1}, drops: [2]float64{2, 2}}},
	{name: "outlier at a key frame", do: func(e *encoder) { e.connect().run(12).outlier(2 * hour).run(15) },
		want: want{lost: [2]int{1, 1}, drops: [2]float64{2, 2}}},
	{name: "outlier every few seconds", do: func(e *encoder) {
		e.vbase, e.abase = 20*hour, 20*hour
		e.connect()
		for i := range 8 {
			e.run(3.3).outlier(int64(i*2-7) * hour)
		}
		e.run(8)
	}, want: want{moved: [2]float64{8, 8}, lost: [2]int{8, 8}, drops: [2]float64{16, 16}, skew: 0.065}},

	// One track is there before the other.
	{name: "sound first", do: func(e *encoder) {
		e.keyAt = func(n int) bool { return n%60 == 30 && n > 100 }
		e.connect().run(30)
	}, want: want{onGrid: true, lost: [2]int{150, 235}, drops: [2]float64{0, 5}}},
	{name: "picture first", do: func(e *encoder) {
		e.connect()
		e.apos += 1.5
		e.run(30)
	}, want: want{onGrid: true, holes: true}},

	// Time jumps for good: a new time base, at the next key frame.
	{name: "jump ahead", do: func(e *encoder) { e.connect().run(11).jump(hour).run(15) },
		want: want{discs: 1, lost: [2]int{64, 100}, drops: [2]float64{2, 60}}},
	{name: "jump back", do: func(e *encoder) {
		e.vbase, e.abase = 2*hour, 2*hour
		e.connect().run(11).jump(-hour).run(15)
	}, want: want{discs: 1, lost: [2]int{64, 100}, drops: [2]float64{2, 60}}},
	{name: "jump to 0", do: func(e *encoder) {
		e.vbase, e.abase = 2*hour, 2*hour
		e.connect().run(12)
		e.restart().run(15)
	}, want: want{discs: 1, lost: [2]int{64, 100}, drops: [2]float64{2, 60}}},
	{name: "jump back by a second", do: func(e *encoder) { e.connect().run(13).jump(-second).run(15) },
		want: want{moved: [2]float64{1, 10}, discs: 1, lost: [2]int{64, 100}, drops: [2]float64{0, 100}}},
	{name: "jump ahead by a second", do: func(e *encoder) { e.connect().run(13).jump(second).run(15) }, want: want{moved: [2]float64{46, 48}, skew: 1.05, slews: true, late: 1.01}},
	{name: "video jumps", do: func(e *encoder) {
		e.connect().run(11)
		e.vbase += hour
		e.run(15)
	}, want: want{discs: 1, lost: [2]int{64, 100}, drops: [2]float64{2, 100}, skew: 0.5, holes: true}},
	{name: "sound jumps", do: func(e *encoder) {
		e.connect().run(11)
		e.abase += hour
		e.run(15)
	}, want: want{lost: [2]int{0, 60}, drops: [2]float64{40, 60}, skew: 0.5, holes: true}},
	{name: "sound jumps back", do: func(e *encoder) {
		e.vbase, e.abase = 2*hour, 2*hour
		e.connect().run(11)
		e.abase -= hour
		e.run(15)
	}, want: want{lost: [2]int{0, 60}, drops: [2]float64{40, 60}, skew: 0.5, holes: true}},
	{name: "different bases", do: based(0, hour, nil), want: want{lost: [2]int{0, 60}, drops: [2]float64{40, 60}, skew: 0.5, holes: true}},
	{name: "different bases, sound behind", do: based(hour, 0, nil), want: want{lost: [2]int{0, 60}, drops: [2]float64{40, 60}, skew: 0.5, holes: true}},

	// Timestamps in whole milliseconds.
	{name: "44.1 kHz", do: like(func(e *encoder) { e.rate = 44100 }), want: want{onGrid: true}},
	{name: "44.1 kHz alone", do: like(func(e *encoder) { e.rate, e.noVideo = 44100, true }), want: want{onGrid: true}},
	{name: "48 kHz alone", do: like(func(e *encoder) { e.noVideo = true }), want: want{onGrid: true}},
	{name: "59.94", do: like(func(e *encoder) { e.fps, e.gop = 60000.0/1001, 120 }), want: want{onGrid: true}},
	{name: "59.94 stepping back", do: like(func(e *encoder) {
		e.fps, e.gop = 60000.0/1001, 120
		e.jitter = func(n int) int64 { return -18 * int64(b2i(n%9 == 4)) }
	}), want: want{raised: [2]uint64{199, 201}, onGrid: true}},
	{name: "144", do: like(func(e *encoder) { e.fps, e.gop = 144, 288 }), want: want{onGrid: true}},
	{name: "144 stepping back", do: like(func(e *encoder) {
		e.fps, e.gop = 144, 288
		e.jitter = func(n int) int64 { return -8 * int64(b2i(n%5 == 3)) }
	}), want: want{raised: [2]uint64{860, 870}, onGrid: true}},
	{name: "23.976", do: like(func(e *encoder) { e.fps, e.gop = 24000.0/1001, 48 }), want: want{onGrid: true}},
	{name: "25 as stated", do: like(func(e *encoder) { e.fps, e.gop, e.pic.fps = 25, 50, 25 }), want: want{onGrid: true}},
	{name: "25 stated as 50", do: like(func(e *encoder) { e.fps, e.gop, e.pic.fps = 25, 50, 50 }), want: want{onGrid: true}},
	{name: "negative composition times", do: like(func(e *encoder) { e.negative = true }), want: want{onGrid: true}},
	{name: "negative composition times, seven B-frames", do: like(func(e *encoder) { e.negative, e.bframes = true, 7 }), want: want{onGrid: true}},
	{name: "frames of no duration", do: like(func(e *encoder) {
		e.bframes = 0
		e.jitter = func(n int) int64 { return -33 * int64(b2i(n%10 == 5)) }
	}), want: want{raised: [2]uint64{60, 60}, onGrid: true}},
	{name: "frames in pairs", do: like(func(e *encoder) {
		e.bframes = 0
		e.jitter = func(n int) int64 { return -33 * int64(b2i(n%2 == 1)) }
	}), want: want{raised: [2]uint64{290, 310}, onGrid: true}},
	{name: "7 to 60 frames a second", do: like(func(e *encoder) { variable(e, 7, 60) }), want: want{onGrid: true}},
	{name: "late by chance", do: like(func(e *encoder) {
		rnd := rand.New(rand.NewPCG(7, 7))
		e.jitter = func(int) int64 { return rnd.Int64N(13) - 6 }
	}), want: want{onGrid: true}},

	// Clocks that run at other speeds.
	{name: "1 % fast", do: func(e *encoder) { e.long(1.01, 1, 1200) }, want: want{onGrid: true, slews: true}},
	{name: "1 % slow", do: func(e *encoder) { e.long(0.99, 1, 1200) }, want: want{onGrid: true, slews: true}},
	{name: "500 ppm fast for an hour", do: func(e *encoder) { e.long(1.0005, 1, 3600) }, want: want{onGrid: true, slews: true}},
	{name: "500 ppm slow for an hour", do: func(e *encoder) { e.long(0.9995, 1, 3600) }, want: want{onGrid: true, slews: true}},
	{name: "sound 1 % fast", do: func(e *encoder) { e.long(1, 1.01, 600) }, want: want{moved: [2]float64{500, 620}, skew: 0.06}},
	{name: "sound 500 ppm fast for an hour", do: func(e *encoder) { e.long(1, 1.0005, 3600) }, want: want{moved: [2]float64{150, 190}}},
	{name: "sound 500 ppm slow for an hour", do: func(e *encoder) { e.long(1, 0.9995, 3600) }, want: want{moved: [2]float64{75, 95}}},

	// Nothing comes for a while, and then everything at once.
	{name: "freeze for a second", do: func(e *encoder) { e.connect().run(13).freeze(1).run(20) }, want: want{onGrid: true}},
	{name: "freeze for 5 s", do: func(e *encoder) { e.connect().run(13).freeze(5).run(20) },
		want: want{onGrid: true, discs: 1, gap: [2]float64{2, 5}, lost: [2]int{155, 245}}},

	// Connections are lost.
	{name: "reset, back in 1 s", do: back(reset, 1, false), want: want{discs: 1}},
	{name: "reset, back in 1 s from 0", do: back(reset, 1, true), want: want{discs: 1}},
	{name: "reset, back in 2.9 s", do: back(reset, 2.9, false), want: want{discs: 1, gap: [2]float64{2.8, 3}}},
	{name: "reset, back in 10 s", do: back(reset, 10, false), want: want{discs: 1, gap: [2]float64{8, 10}}},
	{name: "reset, back in 10 s from 0", do: back(reset, 10, true), want: want{discs: 1, gap: [2]float64{8, 10}}},
	{name: "reset, back in 60 s", do: back(reset, 60, false), want: want{discs: 1, gap: [2]float64{58, 60}}},
	{name: "reset, back in 60 s from 0", do: back(reset, 60, true), want: want{discs: 1, gap: [2]float64{58, 60}}},
	{name: "unpublished, back in 1 s", do: back(unpublish, 1, false), want: want{discs: 1}},
	{name: "unpublished, back in 1 s from 0", do: back(unpublish, 1, true), want: want{discs: 1}},
	{name: "unpublished, back in 9 s", do: back(unpublish, 9, false), want: want{discs: 1, gap: [2]float64{7, 9}}},
	{name: "unpublished, back in 60 s", do: back(unpublish, 60, true), want: want{runs: 2, gap: [2]float64{0, 10}}},
	{name: "half open, back in 1 s from 0", do: back(mute, 1, true), want: want{discs: 1}},
	{name: "half open, back in 10 s from 0", do: back(mute, 10, true), want: want{discs: 1, gap: [2]float64{8, 10}}},
	{name: "half open, back in 60 s", do: back(mute, 60, false), want: want{discs: 1, gap: [2]float64{56, 60}}},
	// Whoever has the place keeps it while another one is there that nobody could watch yet.
	{name: "another one waits", do: func(e *encoder) {
		first := *e
		first.connect().run(7.3)
		e.pos = first.pos
		e.connect().c.flush() // it announces itself
		first.run(3)
		e.pos, e.vpos, e.apos = first.pos, first.pos, first.pos
		e.keyAt = func(int) bool { return false }
		for range 4 {
			e.ignored(0.5)
			first.run(0.5)
		}
		if n, reason := e.h.ended(); n > 0 {
			e.t.Errorf("it has ended the first: %v", reason)
		}
		e.keyAt, e.frames, e.queue, e.vpos, e.apos, e.sent = nil, 0, nil, e.pos, e.pos, first.sent
		e.run(15)
		<-first.c.ended
		if n, reason := e.h.ended(); n != 1 || reason != ingest.ErrKicked {
			e.t.Errorf("%d publications have ended, the last: %v", n, reason)
		}
	}, want: want{discs: 1}},
	// The listener ends a connection that says nothing. That is a loss, not a goodbye.
	{name: "stalled, back in 11 s", idle: 2 * time.Second, do: stalled(1, false), want: want{discs: 1, gap: [2]float64{8, 11}}},
	{name: "stalled, back in 70 s from 0", idle: 2 * time.Second, do: stalled(60, true), want: want{discs: 1, gap: [2]float64{68, 70}}},
	{name: "stalled, never back", idle: 2 * time.Second, do: func(e *encoder) { e.connect().run(20).stall().away(95) },
		want: want{ended: true, gap: [2]float64{90, 105}, drops: [2]float64{0, 2}}}, // of sound that waited
	{name: "reset, never back", do: func(e *encoder) { e.connect().run(20).reset().away(95) }, want: want{ended: true, gap: [2]float64{80, 95}}},
	{name: "unpublished, never back", do: func(e *encoder) { e.connect().run(20).unpublish().away(15) }, want: want{ended: true, gap: [2]float64{0, 12}}},
	{name: "another encoder", do: func(e *encoder) {
		e.connect().run(13).reset().away(2)
		e.pic, e.fps, e.gop, e.bframes, e.rate = picture{width: 1920, height: 1080}, 25, 50, 0, 44100
		e.restart().connect().run(15)
	}, want: want{discs: 1, inits: 4}},
	{name: "a dozen resets", do: func(e *encoder) {
		e.connect().run(7)
		for i := range 12 {
			e.reset().away(0.3 * float64(i%4))
			if i%2 == 0 {
				e.restart()
			}
			e.connect().run(4.7)
		}
	}, want: want{discs: 12}},

	// The configuration changes.
	{name: "720 to 1080 and back", do: func(e *encoder) {
		e.connect().run(12)
		e.pic = picture{width: 1920, height: 1080}
		e.headers().run(12)
		e.pic = picture{width: 1280, height: 720}
		e.headers().run(12)
	}, want: want{discs: 2, inits: 3}},
	{name: "H.264 to HEVC and back", do: func(e *encoder) {
		e.connect().run(12)
		e.pic.hevc = true
		e.headers().run(12)
		e.pic.hevc = false
		e.headers().run(12)
	}, want: want{discs: 2, inits: 3}},
	{name: "48 to 44.1 kHz", do: func(e *encoder) {
		e.connect().run(12)
		e.rate = 44100
		e.headers().run(16)
	}, want: want{discs: 1, inits: 3}},
	{name: "mono to stereo", do: func(e *encoder) {
		e.channels = 1
		e.connect().run(12)
		e.channels = 2
		e.headers().run(16)
	}, want: want{discs: 1, inits: 3}},
	{name: "the same header with each key frame", do: like(func(e *encoder) { e.header = func(n int) bool { return n%60 == 0 } }), want: want{onGrid: true}},
	{name: "the same header with each frame", do: like(func(e *encoder) { e.header = func(int) bool { return true } }), want: want{onGrid: true}},
	{name: "sound comes later", do: func(e *encoder) {
		e.rate = 0
		e.connect().run(14)
		e.rate, e.apos = 48000, e.pos
		e.headers().run(16)
	}, want: want{discs: 1, lost: [2]int{0, 100}, drops: [2]float64{0, 100}}},
	{name: "sound goes", do: func(e *encoder) {
		e.connect().run(14)
		e.rate = 0
		e.run(16)
		e.rate = 48000
	}, want: want{holes: true}},
	{name: "sound goes and comes back", do: func(e *encoder) {
		e.connect().run(14)
		e.rate = 0
		e.run(9)
		e.rate, e.apos = 48000, e.pos
		e.run(12)
	}, want: want{holes: true, drops: [2]float64{0, 5}}},
	{name: "the picture goes", do: func(e *encoder) {
		e.connect().run(14)
		e.noVideo = true
		e.run(16)
		e.noVideo = false
	}, want: want{gap: [2]float64{10, 16.5}, discs: 1, lost: [2]int{30, 200}}},

	// Key frames are not where they should be: the target duration stays, and it is told what to set.
	{name: "no key frame for 25 s", do: func(e *encoder) {
		e.keyAt = func(n int) bool { return n <= 360 && n%60 == 0 || n == 360+750 || n > 1110 && n%60 == 30 }
		e.connect().run(14).told().run(3).told(interval("no keyframe for 4.8 s")).run(20).told(interval("no keyframe for 20 s")).run(13)
	}, want: want{advice: []string{interval("no keyframe for 25 s")}}},
	{name: "only one key frame", do: func(e *encoder) {
		e.keyAt = func(n int) bool { return n == 0 }
		e.connect().run(2).told().run(1).told(interval("no keyframe for 2.4 s")).run(42)
	}, want: want{target: 10, advice: []string{interval("no keyframe for 40 s")}}},
	{name: "only one key frame, to be cut", cfg: segmenter.Config{LongGOP: segmenter.CutGOP}, do: func(e *encoder) {
		e.keyAt = func(n int) bool { return n == 0 }
		e.connect().run(45)
	}, want: want{advice: []string{interval("no keyframe for 40 s")}}},
	{name: "no key frame at first", do: func(e *encoder) {
		e.keyAt = func(n int) bool { return n >= 810 && n%60 == 30 }
		e.connect().run(2).told().run(24.5).told(interval("no keyframe for 25 s")).run(18)
	}, want: want{onGrid: true, lost: [2]int{810, 1275}, drops: [2]float64{0, 5}, advice: []string{}}},
	{name: "key frames stay away, to be refused", cfg: segmenter.Config{LongGOP: segmenter.Refuse}, do: func(e *encoder) {
		e.keyAt = func(n int) bool { return n <= 360 && n%60 == 0 }
		e.connect().run(14)
		e.h.ending(func() { e.run(1) })
		const want = "going 2.43 s without a key frame at a segment target of 2s is not supported: set the encoder's keyframe interval to 2 s"
		if n, reason := e.h.ended(); n != 1 || reason == nil || reason.Error() != want {
			e.t.Errorf("%d publications have ended, the last: %v", n, reason)
		}
		if <-e.c.ended; !bytes.Contains(e.c.said, []byte(want)) {
			e.t.Errorf("the encoder is told %q", e.c.said)
		}
		e.keyAt = nil
		e.away(5)
		e.restart().connect().run(15)
	}, want: want{discs: 1, gap: [2]float64{3, 7}, lost: [2]int{30, 50}, advice: []string{}}},
	{name: "every frame a key frame", do: like(func(e *encoder) { e.gop, e.bframes = 1, 0 }), want: want{onGrid: true, advice: []string{}}},
	{name: "recovery points", do: func(e *encoder) {
		e.open = 5
		e.connect().run(60)
	}, want: want{target: 10, advice: []string{closed("recovery points")}}},
	{name: "recovery points, to be cut", cfg: segmenter.Config{LongGOP: segmenter.CutGOP}, do: func(e *encoder) {
		e.open = 5
		e.connect().run(45)
	}, want: want{advice: []string{closed("recovery points")}}},
	{name: "CRA pictures", do: func(e *encoder) {
		e.open, e.pic.hevc = 5, true
		e.connect().run(60)
	}, want: want{target: 10, advice: []string{closed("CRA pictures")}}},
	{name: "scene cuts", do: like(func(e *encoder) {
		rnd := rand.New(rand.NewPCG(3, 3))
		e.keyAt = func(n int) bool { return n%60 == 0 || cut(rnd, n) }
	}), want: want{onGrid: true, advice: []string{}}},
	{name: "key frames every 1.2 s", do: like(func(e *encoder) { e.gop = 36 }), want: want{onGrid: true, advice: []string{}}},
	{name: "key frames every 1.5 s", do: like(func(e *encoder) { e.gop = 45 }), want: want{onGrid: true, advice: []string{}}},
	{name: "key frames every 2.5 s", do: like(func(e *encoder) { e.gop = 75 }), want: want{onGrid: true, target: 3, advice: []string{interval("keyframes every 2.5 s")}}},
	{name: "key frames every 4 s", do: like(func(e *encoder) { e.gop = 120 }), want: want{onGrid: true, target: 4, advice: []string{interval("keyframes every 4 s")}}},
	{name: "key frames every 8.33 s", do: func(e *encoder) {
		e.gop = 250
		e.connect().run(60)
	}, want: want{onGrid: true, target: 8, advice: []string{interval("keyframes every 8.33 s")}}},
}

// interval and closed are the advice for key frames that are too far apart: as such, and because those between begin no segment.
func interval(what string) string {
	return what + ", but the segment target is 2 s: set the encoder's keyframe interval to 2 s"
}

func closed(which string) string {
	return "keyframes every 10 s, but the segment target is 2 s, and " + which + " (open GOPs) begin no segment: " +
		"set the encoder to closed GOPs, in which each keyframe is an IDR picture, and its keyframe interval to 2 s"
}

func b2f(b bool) float64 { return float64(b2i(b)) }

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// cut says, always the same of the same frame, whether a scene begins there.
func cut(rnd *rand.Rand, n int) bool { return n*2654435761%4294967296 < 1<<26 }

// variable makes e's frames last between 1/most and 1/least of a second, with a key frame every two seconds.
func variable(e *encoder, least, most float64) {
	rnd := rand.New(rand.NewPCG(5, 5))
	e.bframes = 0
	e.last = func(int) float64 { return 1 / (least + rnd.Float64()*(most-least)) }
	e.keyAt = func(n int) bool {
		key := n == 0 || e.vpos-e.began >= 2
		if key {
			e.began = e.vpos
		}
		return key
	}
}

// long publishes for so many seconds with a clock and a sound card of other speeds.
func (e *encoder) long(speed, sound, seconds float64) {
	e.speed, e.soundSpeed = speed, sound
	e.h.check.sparse = true
	e.connect()
	if slow {
		seconds, e.short = seconds/10, true
	}
	for range int(seconds / 60) {
		e.run(60)
	}
}
