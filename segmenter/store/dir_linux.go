package store

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// bootID is different after each start of the system (random(4)).
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("whether the system has been started anew cannot be told: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// lock locks f for as long as it is open (flock(2)).
func lock(f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	if err := rc.Control(func(fd uintptr) { locked = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB) }); err != nil {
		return err
	}
	if errors.Is(locked, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return locked
}

// punchable says whether the file system that f lies on gives ranges of a file back.
func punchable(f *os.File) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var punched error
	if err := rc.Control(func(fd uintptr) {
		punched = unix.Fallocate(int(fd), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1)
	}); err != nil {
		return err
	}
	return punched
}
