package transcode

import (
	"encoding/binary"
	"sync/atomic"

	"headwater/segmenter/media"
)

const (
	// queueSize bounds the bytes that wait for one child. Two seconds of 30 Mb/s fit.
	queueSize = 8 << 20

	// maxBehind bounds the media time that waits for one child, ns.
	maxBehind = 4 * media.Second

	// patience is how long a child's start waits for a track that has been announced, ns of media time.
	patience = 3 * media.Second

	// A child's clock starts at headroom, for audio that begins a little before the first picture; ms. FLV's is a signed
	// number of 32 bits: near its end, after 24 days, a new child takes over.
	headroom = 10_000
	lastTime = 1<<31 - 3_600_000

	// maxBackstep is by how much a track's time may fall short of what it was, ms. Beyond it, it is another timeline.
	maxBackstep = 1000

	videoTimescale = 90000 // flv.Demuxer's
)

// A run is the life of one child, and what is fed to it. It is made by the source's goroutine.
type run struct {
	plan *plan
	ring *ring
	base int64         // child's time + base = source's time; ms
	over atomic.Bool   // the supervisor has done with it
	end  chan struct{} // closed by finish
	why  error         // set before end is closed: the rungs' reason

	// For the source's goroutine.
	headers  bool // the configuration is to be sent again
	last     [2]int64
	lost     bool // something of the track that leads was lost since the last of its samples that was fed
	dropping bool
	marks    marks
	head     [flvTagHeader + 5]byte
	foot     [4]byte

	offered atomic.Int64 // samples, fed or dropped
	heard   atomic.Int64 // decode time of the last, source's ns
	fed     atomic.Int64 // of the last that was fed
	began   int64        // of the first
	outputs []*output    // one for each of plan.rungs
	tags    atomic.Int64 // out of the child
}

// newRun makes a run that starts at start, source's ms, and queues in queue.
func newRun(t *Transcoder, p *plan, start int64, queue []byte) *run {
	r := &run{plan: p, ring: newRing(queue), base: start - headroom, end: make(chan struct{}), began: start * 1e6}
	r.heard.Store(r.began)
	r.fed.Store(r.began)
	for _, rung := range p.rungs {
		r.outputs = append(r.outputs, newOutput(t, r, rung))
	}
	return r
}

// finish ends the child's input; its rungs will be closed with that reason.
func (r *run) finish(why error) {
	r.why = why
	r.ring.close()
	close(r.end)
}

// feed gives the child a copy of the sample, if it wants that track and can keep up.
func (t *Transcoder) feed(track int, s *media.Sample) {
	p := t.plan
	if p == nil || len(p.rungs) == 0 || track != p.video && track != p.audio {
		return
	}
	from := &p.v
	leads := p.video < 0 || track == p.video
	if track == p.audio {
		from = &p.a
	}
	boundary := leads && s.Sync
	dts := floorMS(s.DTS, from.Timescale)
	r := t.running()
	if boundary && (r == nil || t.renew) {
		r = t.begin(dts)
	}
	if r == nil || t.renew {
		return
	}
	r.offered.Add(1)
	if leads && s.Lost {
		r.lost = true
	}
	at := dts - r.base
	kind := 0
	if track == p.audio {
		kind = 1
	}
	switch {
	case at > lastTime || r.last[kind] > 0 && at < r.last[kind]-maxBackstep:
		t.renew = true
		if boundary {
			t.feed(track, s) // begins anew, where the time is good
		}
		return
	case at < 0:
		return // audio from long before the first picture
	}
	pts := at
	if track == p.video {
		pts = media.Rescale(s.DTS+int64(s.CTO), from.Timescale, 1000) - r.base
	}
	if leads {
		r.heard.Store(dts * 1e6)
	}
	if !r.room(len(s.Data), dts, boundary) {
		t.count.droppedFrames.Add(1)
		if boundary || !r.dropping {
			t.count.droppedGOPs.Add(1)
		}
		r.dropping, r.lost = true, true
		return
	}
	r.dropping = false
	r.last[kind] = at
	if track == p.video {
		if r.headers {
			r.headers = false
			r.videoHeader(at, p.v.Codec.Config)
		}
		t.exact.put(pts, media.Rescale(s.DTS+int64(s.CTO), from.Timescale, videoTimescale), r.lost)
		r.video(at, pts, s)
	} else {
		r.audio(at, s)
	}
	if leads {
		r.lost = false
		r.marks.put(r.ring.at, dts)
		r.fed.Store(dts * 1e6)
		t.count.framesIn.Add(1)
	}
	r.ring.publish()
}

// begin makes a new run that starts at dts, source's ms, and returns it; nil when it is not yet time.
func (t *Transcoder) begin(dts int64) *run {
	p := t.plan
	if !t.seen {
		t.seen, t.first = true, dts
	}
	if waited := (dts - t.first) * 1e6; p.waiting && waited >= 0 && waited < patience {
		return nil
	}
	switch old := t.running(); {
	case old != nil:
		old.finish(errChanged)
		t.current = nil
	case !t.want.Load():
		return nil
	}
	r := newRun(t, p, dts, t.queue())
	r.start()
	t.hand(r)
	return r
}

// queue returns memory for a run: that of the one that waits to be served, which the new one replaces, so that a source which
// changes all the time does not cost a queue each time.
func (t *Transcoder) queue() []byte {
	select {
	case r := <-t.runs:
		return r.ring.buf
	default:
		return make([]byte, queueSize)
	}
}

// room says whether the child can take n more bytes. After the first that it cannot, it gets nothing before it has
// caught up by half, and then from a boundary on.
func (r *run) room(n int, dts int64, boundary bool) bool {
	if r.dropping && !boundary {
		return false
	}
	bytes, behind := len(r.ring.buf), int64(maxBehind/1e6)
	if r.dropping {
		bytes, behind = bytes/2, behind/2
	}
	const around = 256 + 64<<10 // headers: the tag's, and configuration
	used := len(r.ring.buf) - r.ring.free()
	return used+n+around <= bytes && r.marks.behind(r.ring.tail.Load(), dts) <= behind
}

// marks remember where in the ring which time begins.
type marks struct {
	list [1024]mark
	a, b uint32 // those from a up to b are in use
}

type mark struct{ end, dts int64 }

func (m *marks) put(end, dts int64) {
	if m.b-m.a < uint32(len(m.list)) {
		m.list[m.b%uint32(len(m.list))] = mark{end, dts}
		m.b++
	}
}

// behind returns how far the time of the first byte that has not been read lies behind now, ms.
func (m *marks) behind(tail, now int64) int64 {
	for m.a != m.b && m.list[m.a%uint32(len(m.list))].end <= tail {
		m.a++
	}
	switch {
	case m.a == m.b:
		return 0
	case m.b-m.a == uint32(len(m.list)):
		return 1 << 62
	}
	return now - m.list[m.a%uint32(len(m.list))].dts
}

// start writes what an FLV stream begins with (Adobe Flash Video File Format 10.1, E.2).
func (r *run) start() {
	flags := byte(0)
	if r.plan.video >= 0 {
		flags |= 1
	}
	if r.plan.audio >= 0 {
		flags |= 4
	}
	r.ring.put([]byte{'F', 'L', 'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0})
	if r.plan.video >= 0 {
		r.videoHeader(headroom, r.plan.v.Codec.Config)
	}
	if r.plan.audio >= 0 {
		r.tag(tagAudio, headroom, []byte{0xaf, 0}, r.plan.a.Codec.Config)
	}
}

func (r *run) videoHeader(at int64, config []byte) {
	r.tag(tagVideo, at, []byte{0x17, 0, 0, 0, 0}, config)
}

func (r *run) video(at, pts int64, s *media.Sample) {
	cts := max(min(pts-at, 1<<23-1), -1<<23) // signed, 24 bits
	h := append(r.head[:flvTagHeader], 0x27, 1, byte(cts>>16), byte(cts>>8), byte(cts))
	prefix, cut := h[flvTagHeader:], 0
	if s.Sync {
		prefix[0] = 0x17
	} else {
		cut = recoveryPoints(s.Data)
	}
	if cut == 0 {
		r.tag(tagVideo, at, prefix, s.Data)
		return
	}
	size := len(prefix) + len(s.Data) - cut
	r.tagHead(tagVideo, at, size)
	r.ring.put(prefix)
	for b := s.Data; len(b) > 0; {
		var nal []byte
		if nal, b = nextNAL(b); !isRecoveryPoint(nal) {
			r.ring.put(nal)
		}
	}
	r.tagFoot(size)
}

func (r *run) audio(at int64, s *media.Sample) {
	h := append(r.head[:flvTagHeader], 0xaf, 1)
	r.tag(tagAudio, at, h[flvTagHeader:], s.Data)
}

// tag writes a tag whose body is prefix and data (E.4.1).
func (r *run) tag(kind byte, at int64, prefix, data []byte) {
	r.tagHead(kind, at, len(prefix)+len(data))
	r.ring.put(prefix)
	r.ring.put(data)
	r.tagFoot(len(prefix) + len(data))
}

func (r *run) tagHead(kind byte, at int64, size int) {
	h := r.head[:flvTagHeader]
	h[0] = kind
	h[1], h[2], h[3] = byte(size>>16), byte(size>>8), byte(size)
	h[4], h[5], h[6], h[7] = byte(at>>16), byte(at>>8), byte(at), byte(at>>24)
	h[8], h[9], h[10] = 0, 0, 0
	r.ring.put(h)
}

func (r *run) tagFoot(size int) {
	binary.BigEndian.PutUint32(r.foot[:], uint32(flvTagHeader+size))
	r.ring.put(r.foot[:])
}

// recoveryPoints returns how many bytes of an access unit say that decoding could begin there. ffmpeg takes such a picture
// for a key frame and would force one of the rungs there, where the source, by what is cut, has none.
func recoveryPoints(b []byte) (n int) {
	for len(b) > 0 {
		var nal []byte
		if nal, b = nextNAL(b); isRecoveryPoint(nal) {
			n += len(nal)
		}
	}
	return n
}

// isRecoveryPoint says whether a NAL unit with its length is SEI that begins with a recovery point (ITU-T H.264, 7.3.2.3.1
// and D.1.8).
func isRecoveryPoint(nal []byte) bool {
	const sei, recoveryPoint = 6, 6
	return len(nal) > 5 && nal[4]&0x1f == sei && nal[5] == recoveryPoint
}

// nextNAL takes the first NAL unit off b, its length of four bytes included; all of b if it is malformed.
func nextNAL(b []byte) (nal, rest []byte) {
	if len(b) < 4 {
		return b, nil
	}
	n := uint64(binary.BigEndian.Uint32(b)) + 4
	if n > uint64(len(b)) {
		return b, nil
	}
	return b[:n], b[n:]
}

// floorMS converts ticks to milliseconds, downwards: a decode time must not come to lie after its presentation.
func floorMS(v int64, timescale uint32) int64 {
	ms := media.Rescale(v, timescale, 1000)
	if media.Rescale(ms, 1000, timescale) > v {
		ms--
	}
	return ms
}
