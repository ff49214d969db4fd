package main

import (
	"encoding/binary"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// partRoom holds a large part.
const partRoom = 2 << 20

// roomy lets a socket receive a whole part before anybody reads, as far as the system allows. It is called before the socket
// connects, which is when the window's scale is settled.
func roomy(c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, partRoom); err != nil { // for the administrator
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, partRoom)
		}
	}); e != nil {
		return e
	}
	return err
}

// A stampedConn knows when the system received what was read from it last, however late this program came to read it.
type stampedConn struct {
	*net.TCPConn
	raw syscall.RawConn
	at  atomic.Int64 // Unix ns
	oob [64]byte     // the reader's
}

// stamp returns a connection in c's place that is stamped, or c itself if it cannot be.
func stamp(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	err = unix.EINVAL
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) })
	if err != nil {
		return c
	}
	return &stampedConn{TCPConn: tcp, raw: raw}
}

func (c *stampedConn) Read(p []byte) (n int, err error) {
	var oobn int
	e := c.raw.Read(func(fd uintptr) bool {
		for {
			n, oobn, _, _, err = unix.Recvmsg(int(fd), p, c.oob[:], 0)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	switch {
	case e != nil:
		return 0, e
	case err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Addr: c.RemoteAddr(), Err: err}
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	c.at.Store(arrival(c.oob[:oobn]))
	return n, nil
}

// arrival takes the time out of the control messages of a socket with SO_TIMESTAMPNS (socket(7)): now, if there is none.
func arrival(oob []byte) int64 {
	ms, _ := unix.ParseSocketControlMessage(oob)
	for _, m := range ms {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return int64(binary.NativeEndian.Uint64(m.Data))*int64(time.Second) + int64(binary.NativeEndian.Uint64(m.Data[8:]))
		}
	}
	return time.Now().UnixNano()
}

// received is when the system received what was read last.
func (c *stampedConn) received() time.Time { return time.Unix(0, c.at.Load()) }
