// Package store keeps media bytes out of the heap: in anonymous files that live in memory, where the platform has them, and
// otherwise in slices. Bytes are written once, read by anybody, and given back when nobody can read them any more.
//
// Why not the heap: fresh heap memory costs a page fault for every 4 KiB, which on virtual machines is dearer than
// everything else that is done with the bytes, and a garbage collector that has to let hundreds of megabytes pass before
// it runs. Written with a system call they cost a copy. What somebody reads is mapped then, for reading, and goes to a socket
// from there: one copy, which measures at half of what sendfile(2) costs for pages of 4 KiB.
package store

import (
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
)

// A File takes bytes at its end. One goroutine appends; the Blobs that it gets are everybody's. The zero File keeps its
// bytes in slices.
type File struct {
	f    *os.File // nil: slices
	disk *disk    // where f lies under a name; nil: nowhere
	end  int64
	size int64 // that f is known to have at least; Restore's
	cur  *extent
}

// An extent is a range of a file that is given back as a whole, when no Blob in it is reachable any more. There may be very
// many of those that lie on a disk.
type extent struct {
	f    *os.File
	from int64
	view *view // nil: it is on a disk, where a page that cannot be read kills the process and read(2) returns an error
}

// A view is how an extent in memory is read.
type view struct {
	once  sync.Once
	bytes []byte // the file from the page on that from lies in; nil: it cannot be mapped. Set by once
	skip  int64  // bytes before from
}

// wide is 1 where addresses have 64 bits, and 0 where they have 32: there all views together get 256 MiB of them, because Go's
// heap cannot grow when they have run out.
const wide = int64(^uint(0) >> 63)

// reserve is how much of a file an extent's view covers: addresses, not memory. What lies beyond, in a segment of
// a size that live media does not have, is read and not mapped.
const reserve = 4<<20 + wide*(12<<20)

// maxViews bounds how many there are at one time. Systems allow a process some 65,000 mappings (Linux: vm.max_map_count), and
// Go's heap needs some of them. What there is no view for is read.
const maxViews = 64 + wide*(20_000-64)

var views atomic.Int64

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
		runtime.AddCleanup(f.cur, span.giveBack, span{f.f, f.disk, f.cur.from, f.end - f.cur.from})
	}
	f.cur = &extent{f: f.f, from: f.end}
	if f.disk == nil {
		f.cur.view = &view{}
	}
}

// A span is what is to be given back.
type span struct {
	f       *os.File
	disk    *disk
	from, n int64
}

func (s span) giveBack() {
	if s.disk == nil || !s.disk.kept.Load() && !s.disk.dir.closed.Load() {
		punch(s.f, s.from, s.n)
	}
}

// bytes returns n bytes from offset off of the file on, without a copy, or false. They are valid while e is reachable.
func (e *extent) bytes(off int64, n int) ([]byte, bool) {
	v := e.view
	if v == nil {
		return nil, false
	}
	v.once.Do(func() {
		if views.Add(1) > maxViews {
			views.Add(-1)
			return
		}
		v.skip = e.from % int64(os.Getpagesize())
		if v.bytes = mapped(e.f, e.from-v.skip, reserve); v.bytes == nil {
			views.Add(-1)
			return
		}
		runtime.AddCleanup(e, func(b []byte) {
			unmap(b)
			views.Add(-1)
		}, v.bytes)
	})
	at := off - e.from + v.skip
	if at+int64(n) > int64(len(v.bytes)) {
		return nil, false
	}
	return v.bytes[at : at+int64(n) : at+int64(n)], true
}

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

// Then returns b and next as one Blob, if they lie in one file one after the other. Everything does after an empty one.
func (b Blob) Then(next Blob) (Blob, bool) {
	switch {
	case b.n == 0:
		return next, true
	case b.ext == nil || b.ext != next.ext || b.off+int64(b.n) != next.off:
		return b, false
	}
	b.n += next.n
	return b, true
}

// Slice returns n bytes of b from offset from on. They must be there.
func (b Blob) Slice(from, n int) Blob {
	if from < 0 || n < 0 || from+n > b.n {
		panic(errRange)
	}
	if n == 0 {
		return Blob{}
	}
	if b.ext == nil {
		return Blob{mem: b.mem[from : from+n : from+n], n: n}
	}
	b.off, b.n = b.off+int64(from), n
	return b
}

// copySize is how much of a file that cannot be mapped is read at a time, and so what a slow reader of it holds.
const copySize = 64 << 10

var buffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// WriteRange writes n bytes from offset from on to w. They are written from where they lie: w must not modify them, nor keep
// them. Much that lies on a disk is read by w, if it is an io.ReaderFrom.
func (b Blob) WriteRange(w io.Writer, from, n int) error {
	if from < 0 || n < 0 || from+n > b.n {
		return errRange
	}
	if b.ext == nil {
		_, err := w.Write(b.mem[from : from+n])
		return err
	}
	defer runtime.KeepAlive(b.ext) // the range is not given back before it has been written
	if p, ok := b.ext.bytes(b.off+int64(from), n); ok {
		_, err := w.Write(p)
		return err
	}
	if r, ok := w.(io.ReaderFrom); ok && n > copySize {
		if f, err := reopen(b.ext.f); err == nil {
			defer f.Close()
			return send(r, f, b.off+int64(from), int64(n))
		}
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

// send lets w read n bytes from offset off of f on. A TCP connection has the system do it (sendfile(2)), from where f stands.
func send(w io.ReaderFrom, f *os.File, off, n int64) error {
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return err
	}
	sent, err := w.ReadFrom(&io.LimitedReader{R: f, N: n})
	if err == nil && sent < n {
		err = io.ErrUnexpectedEOF
	}
	return err
}
