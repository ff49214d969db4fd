package transcode

import "sync/atomic"

// A ring is a queue of bytes from one goroutine to one other. Neither waits for the other, and nothing is allocated.
type ring struct {
	buf     []byte
	head    atomic.Int64 // bytes ever written; moved by the writer
	tail    atomic.Int64 // bytes ever read; moved by the reader
	at      int64        // where the writer is; it shows what it wrote by head
	closed  atomic.Bool
	waiting atomic.Bool   // the reader is about to wait for wake
	wake    chan struct{} // holds one
}

func newRing(buf []byte) *ring { return &ring{buf: buf, wake: make(chan struct{}, 1)} }

// free is how many bytes fit.
func (r *ring) free() int { return len(r.buf) - int(r.at-r.tail.Load()) }

// put copies b, which must fit. The reader does not see it before publish.
func (r *ring) put(b []byte) {
	n := copy(r.buf[int(r.at%int64(len(r.buf))):], b)
	copy(r.buf, b[n:])
	r.at += int64(len(b))
}

// publish shows the reader all that has been put.
func (r *ring) publish() {
	r.head.Store(r.at)
	r.rouse()
}

// close tells the reader that nothing more will come.
func (r *ring) close() {
	r.closed.Store(true)
	r.rouse()
}

func (r *ring) rouse() {
	if r.waiting.CompareAndSwap(true, false) {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// next returns bytes to read, as many as lie together; they stay valid until advance. It waits for them. ok is false at
// the end, or when stop is closed.
func (r *ring) next(stop <-chan struct{}) (b []byte, ok bool) {
	for {
		r.waiting.Store(true)
		closed := r.closed.Load() // before head: nothing is published after close
		head, tail := r.head.Load(), r.tail.Load()
		if head > tail {
			r.waiting.Store(false)
			from := int(tail % int64(len(r.buf)))
			return r.buf[from:min(from+int(head-tail), len(r.buf))], true
		}
		if closed {
			return nil, false
		}
		select {
		case <-r.wake:
		case <-stop:
			return nil, false
		}
	}
}

// advance gives n bytes of what next returned back to the writer.
func (r *ring) advance(n int) { r.tail.Add(int64(n)) }
