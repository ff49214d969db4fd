package main

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// nowhere stands for a buffer; nothing is ever written to it.
var nowhere [1 << 20]byte

// throwAway takes n bytes from a connection. TCP drops them without copying them (tcp(7), MSG_TRUNC).
func throwAway(c net.Conn, n int64) error {
	t, ok := c.(syscall.Conn)
	if !ok {
		_, err := io.CopyN(io.Discard, c, n)
		return err
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return err
	}
	for n > 0 {
		var got int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			got, _, failed = unix.Recvfrom(int(fd), nowhere[:min(int64(len(nowhere)), n)], unix.MSG_TRUNC)
			return failed != unix.EAGAIN
		})
		switch {
		case err != nil:
			return err
		case failed == unix.EINTR:
			continue
		case failed != nil:
			return failed
		case got == 0:
			return io.ErrUnexpectedEOF
		}
		n -= int64(got)
	}
	return nil
}
