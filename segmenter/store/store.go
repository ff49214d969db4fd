// Package store keeps media bytes out of the heap: in anonymous files that live in memory, where the platform has them, and
// otherwise in slices. Bytes are written once, read by anybody, and given back when nobody can read them any more.
//
// Why not the heap: fresh heap memory costs a page fault for every 4 KiB, which on virtual machines is dearer than
// everything else that is done with the bytes, and a garbage collector that has to let hundreds of megabytes pass before
// it runs. Written with one system call and never mapped, they cost a copy.
package store

import (
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
)

// A File takes bytes at its end. One goroutine appends; the Blobs that it gets are everybody's. The zero File keeps its
// bytes in slices.
type File struct {
	f   *os.File // nil: slices
	end int64
	cur *extent
}

// An extent is a range of a file that is given back as a whole, when no Blob in it is reachable any more.
type extent struct {
	f    *os.File
	from int64
}

// A Blob is immutable bytes. The zero Blob is empty.
type Blob struct {
	mem []byte
	ext *extent
	off int64
	n   int
}

// New returns an empty File in memory. Where the platform has no anonymous files, or gives no more of them, it keeps its
// bytes in slices.
func New() *File {
	f, err := anonymous()
	if err != nil {
		f = nil
	}
	return &File{f: f}
}

// Mark begins a range: what is appended from here to the next Mark is given back at one time.
func (f *File) Mark() {
	if f.f == nil {
		return
	}
	if f.cur != nil && f.end > f.cur.from {
		// The cleanup must not reach the extent, or that would never be free.
		runtime.AddCleanup(f.cur, span.giveBack, span{f.f, f.cur.from, f.end - f.cur.from})
	}
	f.cur = &extent{f: f.f, from: f.end}
}

type span struct {
	f       *os.File
	from, n int64
}

func (s span) giveBack() { punch(s.f, s.from, s.n) }

// Append stores a copy of head and body, one after the other. A file that has no room leaves the copy in a slice: live
// media is never lost for that.
func (f *File) Append(head, body []byte) Blob {
	n := len(head) + len(body)
	if n == 0 {
		return Blob{}
	}
	if f.f != nil {
		if f.cur == nil {
			f.Mark()
		}
		if write(f.f, f.end, head, body) == nil {
			b := Blob{ext: f.cur, off: f.end, n: n}
			f.end += int64(n)
			return b
		}
	}
	return Blob{mem: append(append(make([]byte, 0, n), head...), body...), n: n}
}

// write writes head and body at off.
func write(f *os.File, off int64, head, body []byte) error {
	if _, err := f.WriteAt(head, off); err != nil {
		return err
	}
	_, err := f.WriteAt(body, off+int64(len(head)))
	return err
}

// Bytes returns a Blob of b, which nobody may modify any more.
func Bytes(b []byte) Blob { return Blob{mem: b, n: len(b)} }

// Len is how many bytes there are.
func (b Blob) Len() int { return b.n }

var errRange = errors.New("store: beyond the end of a blob")

// ReadAt reads len(p) bytes from off on, or fails; io.EOF comes with nothing less.
func (b Blob) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(b.n) {
		return 0, errRange
	}
	var short error
	if rest := int64(b.n) - off; int64(len(p)) > rest {
		p, short = p[:rest], io.EOF
	}
	if b.ext == nil {
		return copy(p, b.mem[off:]), short
	}
	n, err := b.ext.f.ReadAt(p, b.off+off)
	runtime.KeepAlive(b.ext) // the range is not given back before it has been read
	if err == nil {
		err = short
	}
	return n, err
}

// Append appends n bytes from offset from on to dst.
func (b Blob) Append(dst []byte, from, n int) ([]byte, error) {
	if from < 0 || n < 0 || from+n > b.n {
		return dst, errRange
	}
	at := len(dst)
	for cap(dst)-at < n {
		dst = append(dst[:cap(dst)], 0)
	}
	dst = dst[:at+n]
	_, err := b.ReadAt(dst[at:], int64(from))
	return dst, err
}

// copySize is how much of a file is read at a time, and so what a slow reader of it holds.
const copySize = 64 << 10

var buffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// WriteRange writes n bytes from offset from on to w.
func (b Blob) WriteRange(w io.Writer, from, n int) error {
	if from < 0 || n < 0 || from+n > b.n {
		return errRange
	}
	if b.ext == nil {
		_, err := w.Write(b.mem[from : from+n])
		return err
	}
	buf := buffers.Get().(*[copySize]byte)
	defer buffers.Put(buf)
	for n > 0 {
		p := buf[:min(n, copySize)]
		if _, err := b.ReadAt(p, int64(from)); err != nil {
			return err
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		from, n = from+len(p), n-len(p)
	}
	return nil
}
