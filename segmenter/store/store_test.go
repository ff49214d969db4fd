package store

import (
	"bytes"
	"io"
	"math"
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
	limit := time.Now().Add(30 * time.Second)
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

// All views together take no more than an eighth of all addresses: where they do, this does not compile.
const _ = math.MaxUint/8 - uint64(maxViews*reserve)

// What has been written to somebody is mapped, and unmapped when it cannot be reached any more. What a view does not reach,
// and what there is no view for, is read.
func TestViews(t *testing.T) {
	f := New()
	if f.f == nil {
		t.Skip("no anonymous files here")
	}
	before := views.Load()
	f.Append(nil, make([]byte, 100)) // so that no page begins with the next one
	f.Mark()
	big := make([]byte, reserve/16*5)
	for i := range big {
		big[i] = byte(i * 7 >> 3)
	}
	var blobs []Blob
	for range 4 {
		blobs = append(blobs, f.Append(nil, big))
	}
	check := func(b Blob) {
		t.Helper()
		var w bytes.Buffer
		if err := b.WriteRange(&w, 1000, b.Len()-1000); err != nil || !bytes.Equal(w.Bytes(), big[1000:]) {
			t.Errorf("other bytes, %v", err)
		}
	}
	check(blobs[0])
	if n := views.Load() - before; n != 1 {
		t.Fatalf("%d views, want 1", n)
	}
	check(blobs[2])
	if _, mapped := blobs[2].ext.bytes(blobs[2].off, 1); !mapped {
		t.Error("what was appended after the view had been made is not in it")
	}
	check(blobs[3])
	if _, mapped := blobs[3].ext.bytes(blobs[3].off, len(big)); mapped {
		t.Error("a view is larger than its reserve")
	}

	views.Add(maxViews)
	f.Mark()
	b := f.Append(nil, big)
	check(b)
	views.Add(-maxViews)
	if b.ext.view.bytes != nil {
		t.Error("there are more views than there may be")
	}

	blobs = nil
	limit := time.Now().Add(30 * time.Second)
	for views.Load() > before && time.Now().Before(limit) {
		runtime.GC()
		runtime.Gosched()
	}
	if n := views.Load() - before; n != 0 {
		t.Errorf("%d views of what nobody can reach", n)
	}
	runtime.KeepAlive(f)
}

func TestThen(t *testing.T) {
	kinds(t, func(t *testing.T, f *File) {
		f.Mark()
		a, b, c := f.Append([]byte("a"), []byte("bc")), f.Append(nil, []byte("de")), f.Append([]byte("f"), nil)
		f.Mark()
		d := f.Append([]byte("g"), nil)
		if ab, ok := (Blob{}).Then(a); !ok || ab.Len() != 3 {
			t.Error("nothing follows an empty blob")
		}
		for _, c := range []struct {
			name        string
			first, then Blob
			want        string
			ok          bool
		}{
			{"side by side", a, b, "abcde", f.f != nil},
			{"one between", a, c, "abc", false},
			{"in the other order", b, a, "de", false},
			{"another range, given back by itself", c, d, "f", false},
		} {
			got, ok := c.first.Then(c.then)
			text, err := got.Append(nil, 0, got.Len())
			if want := c.want; ok != c.ok || err != nil || (ok || f.f != nil) && string(text) != want {
				t.Errorf("%s: %q, %v, %v", c.name, text, ok, err)
			}
		}
	})
}

func BenchmarkWriteRange(b *testing.B) {
	for name, f := range map[string]*File{"slices": {}, "anonymous": New()} {
		b.Run(name, func(b *testing.B) {
			f.Mark()
			blob := f.Append(nil, make([]byte, 750<<10))
			b.SetBytes(int64(blob.Len()))
			b.ReportAllocs()
			for b.Loop() {
				if err := blob.WriteRange(io.Discard, 0, blob.Len()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
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
