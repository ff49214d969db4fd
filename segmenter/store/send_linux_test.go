package store

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onDisk returns a Blob that lies on a disk, what is in it, and its file.
func onDisk(t testing.TB, dir string, n int) (Blob, []byte, *os.File) {
	t.Helper()
	file, err := folder(t, openDir(t, dir)).File(0)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, n)
	rand.Read(want)
	file.Append(nil, []byte("something before it"))
	return file.Append(want[:10], want[10:]), want, file.f
}

// wire returns both ends of a TCP connection.
func wire(t testing.TB) (from, to net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if from, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if to, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { from.Close(); to.Close() })
	return from, to
}

// What lies on a disk goes to many connections at one time, each from where it wants.
func TestSend(t *testing.T) {
	const size = 5 * copySize
	b, want, f := onDisk(t, t.TempDir(), size)
	var wg sync.WaitGroup
	for i := range 8 {
		from, to := wire(t)
		first := i * 1000
		wg.Go(func() {
			if err := b.WriteRange(from, first, size-2*first); err != nil {
				t.Error(err)
			}
			from.Close()
		})
		wg.Go(func() {
			if got, err := io.ReadAll(to); err != nil || !bytes.Equal(got, want[first:size-first]) {
				t.Errorf("from %d on: %d bytes, %v", first, len(got), err)
			}
		})
	}
	wg.Wait()

	// What is gone from the disk is not taken for the whole.
	if err := f.Truncate(2 * copySize); err != nil {
		t.Fatal(err)
	}
	from, to := wire(t)
	wg.Go(func() { io.Copy(io.Discard, to) })
	if err := b.WriteRange(from, 0, size); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off: %v", err)
	}
	from.Close()
	wg.Wait()
}

// BenchmarkSend is a segment that lies on a disk, and goes to another process from there, and by way of a buffer. What counts is the
// processor time of this one.
func BenchmarkSend(b *testing.B) {
	const size = 750 << 10
	blob, _, _ := onDisk(b, b.TempDir(), size)
	for _, c := range []struct {
		name string
		as   func(net.Conn) io.Writer
	}{
		{"file", func(c net.Conn) io.Writer { return c }},
		{"buffer", func(c net.Conn) io.Writer { return struct{ io.Writer }{c} }},
	} {
		b.Run(c.name, func(b *testing.B) {
			from, to := wire(b)
			reader := exec.Command("cat")
			f, err := to.(*net.TCPConn).File()
			if err != nil {
				b.Fatal(err)
			}
			reader.Stdin = f
			if err := reader.Start(); err != nil {
				b.Fatal(err)
			}
			f.Close()
			to.Close()
			b.SetBytes(size)
			began := used(b)
			for b.Loop() {
				if err := blob.WriteRange(c.as(from), 0, size); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((used(b)-began).Seconds()/(float64(b.N)*size/(1<<30)), "cpu-s/GiB")
			from.Close()
			if err := reader.Wait(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// used is the processor time of this process.
func used(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
