package store

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"sync/atomic"
)

// A Dir is a directory in which Folders outlive the process that wrote them. One process at a time has it.
//
// Nothing is synchronised with the disk: what has been written is there when the process is killed, and not when the power
// fails. Boot tells the two apart.
type Dir struct {
	// Boot is which start of the system this is. What was written in another one may lack its end.
	Boot string

	path   string
	lock   *os.File
	closed atomic.Bool // the files are somebody else's
}

// A Folder is what is kept of one thing: a log, and files of media.
type Folder struct {
	dir  *Dir
	path string
}

// A Log takes records at its end.
type Log struct {
	f    *os.File
	path string
	size int64
}

// ErrLocked says that another process has the directory.
var ErrLocked = errors.New("another process is using it")

const (
	foldersName = "runs"
	lockName    = "lock"
	logName     = "journal"
	dirMode     = 0o700 // what is published is not for every user of the machine
	fileMode    = 0o600
	maxLog      = 1 << 30 // bytes
)

// folderName is what folders are called: whatever else lies beside them is not touched.
var folderName = regexp.MustCompile(`^[0-9a-z]{1,16}(-[0-9a-z]{1,16})?-[0-9a-f]{24}$`)

// OpenDir makes path the Dir of this process. The error wraps ErrLocked when it is another's, and errors.ErrUnsupported
// when the platform or the file system cannot do what is needed.
func OpenDir(path string) (*Dir, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(path, foldersName), dirMode); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := punchable(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: the file system cannot free parts of a file: %w", path, err)
	}
	return &Dir{path: path, lock: f, Boot: boot}, nil
}

// Close lets another process have the directory. What is there stays as it is.
func (d *Dir) Close() error {
	d.closed.Store(true)
	return d.lock.Close()
}

// Folders returns the names of those that there are.
func (d *Dir) Folders() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(d.path, foldersName))
	var names []string
	for _, e := range entries {
		if e.IsDir() && folderName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// Folder returns the one of that name, and makes it if create says so.
func (d *Dir) Folder(name string, create bool) (*Folder, error) {
	if !folderName.MatchString(name) {
		return nil, fmt.Errorf("store: %q names no folder", name)
	}
	f := &Folder{d, filepath.Join(d.path, foldersName, name)}
	if create {
		if err := os.Mkdir(f.path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return f, nil
}

// Remove removes the folder. Blobs in its files can still be read. The log goes first: without one there is nothing.
func (f *Folder) Remove() error {
	err := os.Remove(filepath.Join(f.path, logName))
	return errors.Join(ignoreMissing(err), os.RemoveAll(f.path))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// File returns the media file of that number, new or as it is, with nothing in it that is known of: see Restore.
func (f *Folder) File(n int) (*File, error) {
	file, err := os.OpenFile(filepath.Join(f.path, fmt.Sprintf("%d.media", n)), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	return &File{f: file, disk: &disk{dir: f.dir}}, nil
}

// A disk is what a File shares with its ranges.
type disk struct {
	dir  *Dir
	kept atomic.Bool
}

// Retain says that nothing of a folder's file is given back from now on.
func (f *File) Retain() { f.disk.kept.Store(true) }

// Sync puts what has been written to a folder's file on the disk.
func (f *File) Sync() error { return f.f.Sync() }

// Index returns the file beside the media file of that number, new or as it is.
func (f *Folder) Index(n int) (*Log, error) {
	path := filepath.Join(f.path, fmt.Sprintf("%d.index", n))
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	return sized(file, path)
}

// Sync puts the names of the folder's files on the disk.
func (f *Folder) Sync() error {
	for _, path := range []string{f.path, filepath.Dir(f.path)} {
		dir, err := os.Open(path)
		if err != nil {
			return err
		}
		err = dir.Sync()
		dir.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// ReadLog returns what is in the log.
func (f *Folder) ReadLog() ([]byte, error) {
	path := filepath.Join(f.path, logName)
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		return nil, fmt.Errorf("%s: %d bytes are no log", path, info.Size())
	}
	return os.ReadFile(path)
}

// Rewrite begins the log anew with b. Until it returns, and if it fails, the one before it stands.
func (f *Folder) Rewrite(b []byte) (*Log, error) {
	path := filepath.Join(f.path, logName)
	file, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return nil, err
	}
	_, err = file.WriteAt(b, 0)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		file.Close()
		os.Remove(path + ".new")
		return nil, err
	}
	return &Log{f: file, path: path, size: int64(len(b))}, nil
}

// Log opens the log as it is.
func (f *Folder) Log() (*Log, error) {
	path := filepath.Join(f.path, logName)
	file, err := os.OpenFile(path, os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	return sized(file, path)
}

func sized(file *os.File, path string) (*Log, error) {
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &Log{f: file, path: path, size: info.Size()}, nil
}

// Size is how long the log is.
func (l *Log) Size() int64 { return l.size }

// Append writes b at the end. After an error there may be a beginning of it.
func (l *Log) Append(b []byte) error {
	n, err := l.f.WriteAt(b, l.size)
	l.size += int64(n)
	return err
}

// Write writes b at an offset, where nothing is that is needed, and ends the log there.
func (l *Log) Write(at int64, b []byte) error {
	_, err := l.f.WriteAt(b, at)
	l.size = at + int64(len(b))
	return err
}

// Read returns n bytes from an offset on.
func (l *Log) Read(at int64, n int) ([]byte, error) {
	if at < 0 || n < 0 || n > maxLog || at+int64(n) > l.size {
		return nil, errRange
	}
	b := make([]byte, n)
	_, err := l.f.ReadAt(b, at)
	return b, err
}

// Free gives the first n bytes back: nobody will read them. The others stay where they are.
func (l *Log) Free(n int64) {
	if n > 0 {
		punch(l.f, 0, n)
	}
}

// Sync puts what has been written on the disk.
func (l *Log) Sync() error { return l.f.Sync() }

// Mark sets one byte in what has been written: no room is needed for that on most file systems. Where it cannot be done
// the log is removed instead.
func (l *Log) Mark(at int64, b byte) error {
	_, err := l.f.WriteAt([]byte{b}, at)
	if err == nil {
		return nil
	}
	if gone := ignoreMissing(os.Remove(l.path)); gone != nil {
		return errors.Join(err, gone)
	}
	return nil
}

// Close closes the log.
func (l *Log) Close() error { return l.f.Close() }

// Keep stores a copy of head and body, one after the other, or fails.
func (f *File) Keep(head, body []byte) (Blob, error) {
	if f.cur == nil {
		f.Mark()
	}
	if err := write(f.f, f.end, head, body); err != nil {
		return Blob{}, err
	}
	b := Blob{ext: f.cur, off: f.end, n: len(head) + len(body)}
	f.end += int64(b.n)
	return b, nil
}

// Offset is where in its file b begins.
func (b Blob) Offset() int64 { return b.off }

// Restore returns the Blob that Keep returned in an earlier process, of n bytes at off. Blobs are restored in the order in
// which they were kept, with Mark between them.
func (f *File) Restore(off int64, n int) (Blob, error) {
	if off < f.end || n < 0 || off > math.MaxInt64-int64(n) {
		return Blob{}, errRange
	}
	if off+int64(n) > f.size {
		info, err := f.f.Stat()
		if err != nil {
			return Blob{}, err
		}
		if f.size = info.Size(); off+int64(n) > f.size {
			return Blob{}, errRange
		}
	}
	if f.cur == nil {
		f.Mark()
	}
	f.end = off + int64(n)
	return Blob{ext: f.cur, off: off, n: n}, nil
}

// Trim cuts off what follows the last Blob that has been restored.
func (f *File) Trim() error { return f.f.Truncate(f.end) }
