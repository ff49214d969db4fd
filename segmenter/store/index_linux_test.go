package store

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// blocks is how much of the disk a file takes, bytes.
func blocks(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestIndex(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	f := folder(t, d)
	l, err := f.Index(3)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("12345678"), 100_000)
	if err := l.Write(0, body); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(int64(len(body)), []byte("end")); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(int64(len(body)), []byte("END")); err != nil || l.Size() != int64(len(body))+3 {
		t.Fatalf("%v, %d bytes", err, l.Size())
	}
	l.Free(700_000)
	name := filepath.Join(path, foldersName, testFolder, "3.index")
	if n := blocks(t, name); n > 200_000 {
		t.Errorf("%d bytes of the disk are taken", n)
	}
	for _, s := range []interface{ Sync() error }{l, f} {
		if err := s.Sync(); err != nil {
			t.Error(err)
		}
	}
	l.Close()
	if l, err = f.Index(3); err != nil {
		t.Fatal(err)
	}
	if b, err := l.Read(int64(len(body))-8, 11); err != nil || string(b) != "12345678END" {
		t.Errorf("%q, %v", b, err)
	}
	for _, r := range [][2]int{{-1, 2}, {0, -1}, {len(body), 4}, {1 << 40, 1}} {
		if _, err := l.Read(int64(r[0]), r[1]); err == nil {
			t.Errorf("%d bytes at %d are there", r[1], r[0])
		}
	}
}

// TestRetain: of what is retained nothing is given back when nobody can reach it.
func TestRetain(t *testing.T) {
	path := t.TempDir()
	f := folder(t, openDir(t, path))
	file, err := f.File(0)
	if err != nil {
		t.Fatal(err)
	}
	other, err := f.File(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []*File{file, other} {
		for range 4 {
			x.Mark()
			if _, err := x.Keep(nil, make([]byte, 100_000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := x.Sync(); err != nil {
			t.Fatal(err)
		}
		x.Mark()
	}
	file.Retain()
	name := func(n string) string { return filepath.Join(path, foldersName, testFolder, n) }
	for deadline := time.Now().Add(30 * time.Second); blocks(t, name("1.media")) > 50_000; time.Sleep(10 * time.Millisecond) { // the collector's goroutine
		runtime.GC()
		if time.Now().After(deadline) {
			t.Fatal("nothing is given back")
		}
	}
	if n := blocks(t, name("0.media")); n < 400_000 {
		t.Errorf("%d bytes are left", n)
	}
	if info, err := os.Stat(name("0.media")); err != nil || info.Size() != 400_000 {
		t.Error(info, err)
	}
	runtime.KeepAlive(file)
	runtime.KeepAlive(other)
}

func TestSlice(t *testing.T) {
	file, err := folder(t, openDir(t, t.TempDir())).File(0)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := file.Keep([]byte("01234"), []byte("56789"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []Blob{disk, New().Append([]byte("01234"), []byte("56789")), Bytes([]byte("0123456789"))} {
		s := b.Slice(3, 4).Slice(1, 3)
		if got, err := s.Append(nil, 0, s.Len()); err != nil || string(got) != "456" {
			t.Errorf("%q, %v", got, err)
		}
		if b.Slice(10, 0).Len() != 0 {
			t.Error("an empty one is not")
		}
		for _, r := range [][2]int{{-1, 1}, {0, 11}, {9, 2}, {0, -1}} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%d bytes at %d are there", r[1], r[0])
					}
				}()
				b.Slice(r[0], r[1])
			}()
		}
	}
}
