package rtmp

import (
	"io"

	"headwater/segmenter/media"
)

// Sizes of the read buffer. A read takes whatever the socket holds up to the buffer's size, so the large one makes for
// few system calls; a connection that has not been allowed to publish yet does with the small one.
const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

// A reader is the buffered input of one connection, read by the handshake and then by the chunk reader. Its first error
// stays.
type reader struct {
	src io.Reader
	buf []byte
	r   int // buf[r:w] has been received and not yet consumed
	w   int
	err error
}

// peek returns the next n bytes without consuming them; they are valid until the next call of a method. n is at most the
// buffer's size.
func (r *reader) peek(n int) ([]byte, error) {
	for r.w-r.r < n {
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
	return r.buf[r.r : r.r+n], nil
}

// take is peek and consumes.
func (r *reader) take(n int) ([]byte, error) {
	p, err := r.peek(n)
	if err == nil {
		r.r += n
	}
	return p, err
}

// fill reads once from the source, at least one byte unless it fails.
func (r *reader) fill() error {
	if r.err != nil {
		return r.err
	}
	if r.r == r.w {
		r.r, r.w = 0, 0
	} else if r.r > 0 {
		// What is left is a part of a chunk header: payload is consumed as it comes.
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	for range 100 {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		if n > 0 {
			r.err = err // for the next call
			return nil
		}
		if err != nil {
			r.err = err
			return err
		}
	}
	r.err = io.ErrNoProgress
	return r.err
}

// resize exchanges the buffer for one of another size that holds what is buffered.
func (r *reader) resize(size int) {
	if size == len(r.buf) || r.w-r.r > size {
		return
	}
	buf := make([]byte, size)
	r.w = copy(buf, r.buf[r.r:r.w])
	r.buf, r.r = buf, 0
}

// fail makes err the reader's error and drops what is buffered.
func (r *reader) fail(err error) error {
	r.err = err
	r.r, r.w = 0, 0
	return err
}

func (r *reader) failf(format string, args ...any) error {
	return r.fail(media.Formatf("rtmp chunk", format, args...))
}
