package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const testFolder = "m1abc-0123456789abcdef01234567"

func openDir(t testing.TB, path string) *Dir {
	t.Helper()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func folder(t testing.TB, d *Dir) *Folder {
	t.Helper()
	f, err := d.Folder(testFolder, true)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDirIsLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	d := openDir(t, path)
	if d.Boot == "" {
		t.Error("no boot ID")
	}
	if _, err := OpenDir(path); !errors.Is(err, ErrLocked) {
		t.Errorf("a second time: %v", err)
	}
	d.Close()
	openDir(t, path)
}

// What is published is for nobody else on the machine.
func TestModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	f := folder(t, openDir(t, path))
	f.File(0)
	f.Rewrite([]byte("x"))
	filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		info, _ := e.Info()
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v", name, info.Mode())
		}
		return nil
	})
}

// Whatever else lies in the directory is not taken for a folder, nor can a name lead out of it.
func TestFolders(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	folder(t, d)
	for _, name := range []string{"x", "m1abc-0123456789abcdef0123456", "M1-0123456789abcdef01234567"} {
		os.Mkdir(filepath.Join(path, foldersName, name), 0o700)
	}
	os.WriteFile(filepath.Join(path, foldersName, "m2-0123456789abcdef01234567"), nil, 0o600)
	if names, err := d.Folders(); err != nil || len(names) != 1 || names[0] != testFolder {
		t.Errorf("%q, %v", names, err)
	}
	for _, name := range []string{"", "..", "../runs", "a/../b-0123456789abcdef01234567"} {
		if _, err := d.Folder(name, true); err == nil {
			t.Errorf("%q is one", name)
		}
	}
}

func TestLog(t *testing.T) {
	f := folder(t, openDir(t, t.TempDir()))
	if _, err := f.ReadLog(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no log: %v", err)
	}
	l, err := f.Rewrite([]byte("header"))
	if err != nil {
		t.Fatal(err)
	}
	read := func(want string) {
		t.Helper()
		if b, err := f.ReadLog(); string(b) != want || err != nil {
			t.Errorf("%q, %v; want %q", b, err, want)
		}
	}
	l.Append([]byte(" one"))
	l.Append([]byte(" two"))
	read("header one two")
	if l.Size() != 14 {
		t.Errorf("size %d", l.Size())
	}
	l.Mark(1, 'E')
	read("hEader one two")
	again, err := f.Log()
	if err != nil || again.Size() != 14 {
		t.Fatal(err, again)
	}
	again.Append([]byte("!"))
	read("hEader one two!")
	if _, err := f.Rewrite([]byte("new")); err != nil {
		t.Fatal(err)
	}
	l.Append([]byte("old")) // of the one that has been replaced
	read("new")
	// One that can no longer be marked is removed.
	l.Close()
	if err := l.Mark(0, 'x'); err != nil {
		t.Error(err)
	}
	if _, err := f.ReadLog(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if err := f.Remove(); err != nil {
		t.Error(err)
	}
	if err := f.Remove(); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestRestore: what was kept is there in the next process, what was not told is not, and it is given back as it goes.
func TestRestore(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	file, err := folder(t, d).File(0)
	if err != nil {
		t.Fatal(err)
	}
	type place struct {
		off int64
		b   []byte
	}
	var kept []place
	for i := range 20 {
		if i%4 == 0 {
			file.Mark()
		}
		head, body := bytes.Repeat([]byte{byte(i)}, 100), bytes.Repeat([]byte{byte(i + 50)}, 10_000)
		b, err := file.Keep(head, body)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, place{b.Offset(), append(head, body...)})
		if i == 7 {
			file.Keep(nil, []byte("nobody is told of this"))
		}
		var w bytes.Buffer
		if err := b.WriteRange(&w, 50, 100); err != nil || !bytes.Equal(w.Bytes(), kept[i].b[50:150]) {
			t.Fatalf("%d: other bytes, %v", i, err)
		}
	}
	if b, err := file.Keep(nil, []byte("nor of this")); err != nil || b.Offset() == 0 {
		t.Fatal(err)
	}
	d.Close()
	file = nil
	runtime.GC() // nothing is given back any more: it is the next process's
	runtime.GC()

	d = openDir(t, path)
	file, err = folder(t, d).File(0)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range kept {
		if i%4 == 0 {
			file.Mark()
		}
		b, err := file.Restore(p.off, len(p.b))
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		var w bytes.Buffer
		if err := b.WriteRange(&w, 0, b.Len()); err != nil || !bytes.Equal(w.Bytes(), p.b) {
			t.Fatalf("%d: other bytes, %v", i, err)
		}
	}
	for _, p := range [][2]int64{{0, 10}, {kept[19].off, 10}, {1 << 40, 10}, {-1, 10}, {kept[19].off + 10_100, 1 << 30}, {kept[19].off + 10_100, -1}} {
		if _, err := file.Restore(p[0], int(p[1])); err == nil {
			t.Errorf("%d bytes at %d are there", p[1], p[0])
		}
	}
	if err := file.Trim(); err != nil {
		t.Fatal(err)
	}
	info, _ := file.f.Stat()
	if end := kept[19].off + 10_100; info.Size() != end {
		t.Errorf("the file has %d bytes, want %d", info.Size(), end)
	}
	b, err := file.Keep([]byte("a"), []byte("b"))
	if err != nil || b.Offset() != info.Size() {
		t.Errorf("what is kept then is at %d: %v", b.Offset(), err)
	}
	// But for the range of the last, everything is given back.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) { // the collector's goroutine
		runtime.GC()
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(path, foldersName, testFolder, "0.media"), &st); err != nil {
			t.Fatal(err)
		}
		if st.Blocks*512 < 60_000 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes of the disk are taken", st.Blocks*512)
		}
	}
	runtime.KeepAlive(file)
}

// A disk that cannot be read is an error and not the end of the process, as it would be if the file were mapped.
func TestUnreadable(t *testing.T) {
	path := t.TempDir()
	file, err := folder(t, openDir(t, path)).File(0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := file.Keep(nil, make([]byte, 100_000))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(path, foldersName, testFolder, "0.media"), 50_000); err != nil {
		t.Fatal(err)
	}
	if err := b.WriteRange(&bytes.Buffer{}, 0, b.Len()); err == nil {
		t.Error("it can be read")
	}
}

// BenchmarkKeep is what a part of 3 Mb/s costs, in memory and in a directory.
func BenchmarkKeep(b *testing.B) {
	head, body := make([]byte, 200), make([]byte, 125_000)
	disk, err := folder(b, openDir(b, b.TempDir())).File(0)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		f    *File
	}{{"memory", New()}, {"directory", disk}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			n := 0
			for b.Loop() {
				if n%50 == 0 {
					c.f.Mark()
				}
				n++
				if c.f.disk == nil {
					c.f.Append(head, body)
				} else if _, err := c.f.Keep(head, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
