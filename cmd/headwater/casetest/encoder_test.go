package casetest

import (
	"math"
	"slices"
	"testing"
)

// An encoder makes one camera's frames and says what time they are, rightly or wrongly. It is driven by the script of a case:
// run lets it send, and what lies between two runs changes it.
//
// Its clock says e.pos, seconds since it was plugged in; by the simulated wall clock it was then e.zero, and e.speed of its seconds
// go by in one of the wall's.
type encoder struct {
	t    testing.TB
	h    *harness
	c    *client
	rung string // of a ladder; "" is the only one
	role string // "backup" stands by for another encoder

	pic      picture
	fps      float64
	gop      int  // frames
	bframes  int  // between two others
	negative bool // frames' decode times are not moved ahead: those that are presented early have negative composition times
	rate     int  // of the sound; 0: none
	channels int
	noVideo  bool
	open     int // every so many groups of pictures begin with an IDR frame, the others with a recovery point; 0: all with IDR

	keyAt  func(n int) bool    // instead of gop: whether the nth frame is a key frame
	last   func(n int) float64 // instead of fps: how long the nth frame lasts, s; without B-frames
	jitter func(n int) int64   // ms, added to a video timestamp; composition times make up for it
	header func(n int) bool    // whether the sequence header is repeated before the nth frame

	vbase, abase int64   // added to timestamps, ms
	soundSpeed   float64 // audio frames that are made in the time of one by the clock that stamps them
	speed        float64
	zero         int64 // Unix ns
	held         int64 // what is sent arrives then, Unix ns, if that is later than it should

	pos        float64
	frames     int     // of video that have been sent since the last change of its rhythm
	vpos, apos float64 // where the next frames are
	began      float64 // where the group of pictures began
	queue      []vframe
	sent       [2]int // frames, of video and audio
	short      bool   // it has not sent as much as it does without the race detector
}

// A vframe is a frame of video in decode order.
type vframe struct {
	n        int
	dts, pts float64 // s
	kind     int
}

// newEncoder returns a plain encoder: 720p at 30 frames a second with a key frame every two seconds and two B-frames, and stereo
// sound of 48 kHz.
func newEncoder(t testing.TB, h *harness) *encoder {
	return &encoder{t: t, h: h, pic: picture{width: 1280, height: 720}, fps: 30, gop: 60, bframes: 2, rate: 48000, channels: 2,
		soundSpeed: 1, speed: 1, zero: h.now()}
}

// connect begins to publish, with sequence headers.
func (e *encoder) connect() *encoder {
	e.t.Helper()
	e.h.now() // what the script has written is seen by whoever takes the clock next, which the socket does not show the race detector
	c, err := dial(e.h.rtmp, e.name())
	if err != nil {
		e.t.Fatal(err)
	}
	e.c = c
	e.frames, e.queue = 0, nil
	e.vpos, e.apos = e.pos, e.pos
	e.headers()
	return e
}

// name is what the encoder publishes.
func (e *encoder) name() string {
	switch {
	case e.role != "":
		return e.h.name + "?role=" + e.role
	case e.rung != "":
		return e.h.name + "?rendition=" + e.rung
	}
	return e.h.name
}

// headers sends the sequence headers as they are now.
func (e *encoder) headers() *encoder {
	if !e.noVideo {
		e.c.message(6, 9, 1, uint32(e.vbase+ms(e.pos)), videoHeader(e.pic))
	}
	if e.rate > 0 {
		e.c.message(4, 8, 1, uint32(e.abase+ms(e.pos)), audioHeader(e.rate, e.channels))
	}
	return e
}

func ms(sec float64) int64 { return int64(math.Round(sec * 1000)) }

// wall is the simulated wall clock when the encoder's clock says sec.
func (e *encoder) wall(sec float64) int64 { return e.zero + int64(sec/e.speed*1e9) }

// run sends what d seconds of the encoder's clock bring.
func (e *encoder) run(d float64) *encoder {
	e.t.Helper()
	e.make(d)
	e.flush()
	return e
}

// ignored is run for an encoder whose frames nobody takes.
func (e *encoder) ignored(d float64) *encoder {
	e.t.Helper()
	e.make(d)
	if err := e.c.flush(); err != nil {
		e.t.Fatal(err)
	}
	e.h.arrive()
	return e
}

// make makes what d seconds bring.
func (e *encoder) make(d float64) {
	e.pos += d
	for {
		v, a := math.Inf(1), math.Inf(1)
		if !e.noVideo {
			if len(e.queue) == 0 {
				e.group()
			}
			v = e.queue[0].dts
		}
		if e.rate > 0 {
			a = e.apos
		}
		if min(v, a) >= e.pos-1e-9 {
			break
		}
		if v <= a {
			e.frame()
		} else {
			e.sound()
		}
	}
}

func (e *encoder) flush() {
	e.t.Helper()
	if err := e.c.flush(); err != nil && !e.h.over() {
		e.t.Fatal(err)
	}
	e.h.sync()
}

// group puts the next frames into the queue: from one that is not a B-frame to before the next such.
func (e *encoder) group() {
	n := e.frames
	key := func(n int) bool {
		if e.keyAt != nil {
			return e.keyAt(n)
		}
		return n%e.gop == 0
	}
	at := func(i int) float64 { return e.vpos + float64(i)/e.fps }
	kind := other
	if key(n) {
		if kind = idr; e.open > 0 && n/e.gop%e.open != 0 {
			kind = recovery
		}
	}
	switch {
	case e.last != nil:
		e.queue = append(e.queue, vframe{n, e.vpos, e.vpos, kind})
		e.vpos += e.last(n)
		e.frames++
		return
	case e.bframes == 0 || kind == idr:
		e.queue = append(e.queue, vframe{n, at(0), at(0), kind})
		e.frames++
		e.vpos = at(1)
	default:
		// A reference, presented after the B-frames that follow it.
		b := 0
		for b < e.bframes && !key(n+b+1) {
			b++
		}
		if kind == recovery {
			b = 0
		}
		e.queue = append(e.queue, vframe{n, at(0), at(b), kind})
		for i := range b {
			e.queue = append(e.queue, vframe{n + 1 + i, at(1 + i), at(i), other})
		}
		e.frames += b + 1
		e.vpos = at(b + 1)
	}
	if e.bframes > 0 && !e.negative { // decode times run a frame ahead, so that none is later than it is presented
		for i := range e.queue {
			e.queue[i].pts += 1 / e.fps
		}
	}
}

// told checks what is told of the encoder now.
func (e *encoder) told(advice ...string) *encoder {
	e.t.Helper()
	if got := e.h.told().Advice; !slices.Equal(got, advice) {
		e.t.Errorf("%v s on, the advice is %q, not %q", e.pos, got, advice)
	}
	return e
}

// arrival is the simulated wall clock at which what the encoder's clock calls sec arrives.
func (e *encoder) arrival(sec float64) int64 { return max(e.wall(sec), e.held) }

func (e *encoder) stamp(dts, pts float64) stamp {
	return stamp{id: e.h.ids.Add(1), arrived: e.arrival(dts), capture: int64(math.Round(pts * 1e9)), display: e.wall(pts)}
}

func (e *encoder) frame() {
	f := e.queue[0]
	e.queue = slices.Delete(e.queue, 0, 1)
	if e.header != nil && e.header(f.n) {
		e.c.message(6, 9, 1, uint32(e.vbase+ms(f.dts)), videoHeader(e.pic))
	}
	ts := ms(f.dts)
	if e.jitter != nil {
		ts += e.jitter(f.n)
	}
	e.sent[0]++
	e.c.message(6, 9, 1, uint32(e.vbase+ts), e.pic.videoBody(f.kind, int32(ms(f.pts)-ts), e.stamp(f.dts, f.pts)))
}

func (e *encoder) sound() {
	e.sent[1]++
	e.c.message(4, 8, 1, uint32(e.abase+ms(e.apos)), audioBody(e.stamp(e.apos, e.apos)))
	e.apos += 1024 / float64(e.rate) / e.soundSpeed
}

// outlier sends one frame of video and one of audio with timestamps that are off by so much.
func (e *encoder) outlier(d int64) *encoder {
	e.jump(d)
	if !e.noVideo {
		if len(e.queue) == 0 {
			e.group()
		}
		e.frame()
	}
	if e.rate > 0 {
		e.sound()
	}
	return e.jump(-d)
}

// jump moves all timestamps by so many milliseconds from now on.
func (e *encoder) jump(d int64) *encoder {
	e.vbase += d
	e.abase += d
	return e
}

// freeze holds back what is sent until so many seconds from now; then it comes all at once.
func (e *encoder) freeze(d float64) *encoder {
	e.held = e.wall(e.pos) + int64(d*1e9)
	return e
}

// stall says nothing more until the listener has had enough, ten seconds of the simulated clock later.
func (e *encoder) stall() *encoder {
	e.away(10)
	e.h.ending(func() {})
	return e
}

// unpublish and reset end the connection: with a goodbye, and without.
func (e *encoder) unpublish() *encoder {
	e.h.ending(func() { e.c.unpublish(e.name()) })
	return e
}

func (e *encoder) reset() *encoder {
	e.h.ending(e.c.reset)
	return e
}

// away lets so much time go by for the wall clock and the encoder's alike, while it is not connected.
func (e *encoder) away(d float64) *encoder {
	e.pos += d
	e.h.wait(e.wall(e.pos))
	return e
}

// restart sets timestamps back to 0: what comes next is of time 0.
func (e *encoder) restart() *encoder {
	e.vbase, e.abase = -ms(e.pos), -ms(e.pos)
	return e
}
