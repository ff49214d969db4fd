package store

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Name is what the files are called where the system lists them (/proc/PID/fd).
const Name = "headwater-media"

// anonymous makes a file that is nowhere but in memory (memfd_create(2)).
func anonymous() (*os.File, error) {
	fd, err := unix.MemfdCreate(Name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), Name), nil
}

// punch gives a range's memory back, and keeps the offsets of what follows (fallocate(2)).
func punch(f *os.File, from, n int64) {
	rc, err := f.SyscallConn()
	if err != nil {
		return
	}
	rc.Control(func(fd uintptr) {
		unix.Fallocate(int(fd), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, n)
	})
}

// mapped returns n bytes of the file from offset from on, a page's, for reading (mmap(2)); nil if that cannot be. Those
// beyond the file's end must not be touched before it has grown so far.
func mapped(f *os.File, from, n int64) (view []byte) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil
	}
	rc.Control(func(fd uintptr) {
		if b, err := unix.Mmap(int(fd), from, int(n), unix.PROT_READ, unix.MAP_SHARED); err == nil {
			view = b
		}
	})
	return view
}

// reopen returns another descriptor of the file, with an offset of its own (proc_pid_fd(5)).
func reopen(f *os.File) (*os.File, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var again *os.File
	if e := rc.Control(func(fd uintptr) { again, err = os.Open("/proc/self/fd/" + strconv.Itoa(int(fd))) }); e != nil {
		return nil, e
	}
	return again, err
}

func unmap(view []byte) { unix.Munmap(view) }
