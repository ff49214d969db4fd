package store

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kinds runs a test on a File of each kind that this platform has.
func kinds(t *testing.T, f func(t *testing.T, file *File)) {
	t.Run("slices", func(t *testing.T) { f(t, &File{}) })
	t.Run("anonymous", func(t *testing.T) {
		file := New()
		if runtime.GOOS == "linux" && file.f == nil {
			t.Fatal("no anonymous file on Linux")
		}
		f(t, file)
	})
}

func TestBlob(t *testing.T) {
	kinds(t, func(t *testing.T, f *File) {
		var want [][]byte
		var got []Blob
		for i := range 40 {
			if i%7 == 0 {
				f.Mark()
			}
			head, body := bytes.Repeat([]byte{byte(i)}, i), bytes.Repeat([]byte{byte(i + 100)}, i*i*100)
			want = append(want, append(append([]byte(nil), head...), body...))
			got = append(got, f.Append(head, body))
			clear(head) // they are the caller's again
			clear(body)
		}
		for i, b := range got {
			if b.Len() != len(want[i]) {
				t.Fatalf("%d: length %d, want %d", i, b.Len(), len(want[i]))
			}
			all, err := b.Append([]byte("x"), 0, b.Len())
			if err != nil || !bytes.Equal(all[1:], want[i]) || all[0] != 'x' {
				t.Fatalf("%d: other bytes, %v", i, err)
			}
			from := b.Len() / 3
			n := b.Len() / 2
			var w bytes.Buffer
			if err := b.WriteRange(&w, from, n); err != nil || !bytes.Equal(w.Bytes(), want[i][from:from+n]) {
				t.Fatalf("%d: other bytes in a range, %v", i, err)
			}
		}
		b := got[10]
		for _, r := range [][2]int{{-1, 1}, {0, b.Len() + 1}, {b.Len() + 1, 0}, {1, -1}} {
			if b.WriteRange(io.Discard, r[0], r[1]) == nil {
				t.Errorf("range %v of %d bytes is there", r, b.Len())
			}
			if _, err := b.Append(nil, r[0], r[1]); err == nil {
				t.Errorf("range %v of %d bytes is there", r, b.Len())
			}
		}
		if n, err := b.ReadAt(make([]byte, 10), int64(b.Len())-4); n != 4 || err != io.EOF {
			t.Errorf("ReadAt over the end: %d, %v", n, err)
		}
	})
}

// A range is given back when, and only when, none of its blobs can be reached.
func TestGivenBack(t *testing.T) {
	f := New()
	if f.f == nil {
		t.Skip("no anonymous files here")
	}
	const size = 1 << 20
	body := bytes.Repeat([]byte{7}, size)
	var blobs []Blob
	for range 8 {
		f.Mark()
		blobs = append(blobs, f.Append(nil, body), f.Append(nil, body))
	}
	if got := held(t, f.f); got < 16*size {
		t.Fatalf("%d bytes held, wrote %d", got, 16*size)
	}
	keep := blobs[3] // the second of the second range
	blobs = nil
	limit := time.Now().Add(10 * time.Second)
	// The second range is needed, and the last is open.
	for held(t, f.f) > 4*size && time.Now().Before(limit) {
		runtime.GC()
		runtime.Gosched()
	}
	if got := held(t, f.f); got != 4*size {
		t.Fatalf("%d bytes still held, want %d", got, 4*size)
	}
	p := make([]byte, size)
	if _, err := keep.ReadAt(p, 0); err != nil || !bytes.Equal(p, body) {
		t.Errorf("what is still reachable has changed: %v", err)
	}
	runtime.KeepAlive(f)
}

// held is how many bytes of memory the file takes.
func held(t *testing.T, f *os.File) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// When the file takes no more, bytes go on being kept.
func TestNoRoom(t *testing.T) {
	f := New()
	if f.f == nil {
		t.Skip("no anonymous files here")
	}
	a := f.Append([]byte("a"), []byte("bc"))
	ro, err := os.Open("/proc/self/exe") // cannot be written to
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	f.f = ro
	b := f.Append([]byte("d"), []byte("ef"))
	for want, b := range map[string]Blob{"abc": a, "def": b} {
		if got, err := b.Append(nil, 0, b.Len()); err != nil || string(got) != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for name, f := range map[string]*File{"slices": {}, "anonymous": New()} {
		b.Run(name, func(b *testing.B) {
			head, body := make([]byte, 200), make([]byte, 130_000)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for i := range b.N {
				if i%6 == 0 {
					f.Mark()
				}
				f.Append(head, body)
				if i%600 == 599 {
					runtime.GC()
				}
			}
		})
	}
}
