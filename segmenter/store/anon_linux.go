package store

import (
	"os"

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
