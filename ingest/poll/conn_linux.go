package poll

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Wrap returns a connection in c's place, which it takes over, or c itself if it is not a TCP connection.
func (p *Poller) Wrap(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	if p.start.Do(func() { p.err = p.open() }); p.err != nil {
		return c
	}
	f, err := tcp.File() // a descriptor of our own: the runtime does not watch it
	if err != nil {
		return c
	}
	defer f.Close()
	n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return c
	}
	fd := int(n)
	syscall.SetNonblock(fd, true)
	w := &conn{p: p, fd: fd, local: c.LocalAddr(), remote: c.RemoteAddr(), ready: make(chan struct{}, 1), turn: turnSize}
	p.mu.Lock()
	p.byFD[int32(fd)] = w
	p.mu.Unlock()
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | epollET, Fd: int32(fd)}
	if err := syscall.EpollCtl(p.conns, syscall.EPOLL_CTL_ADD, fd, &ev); err != nil {
		w.Close()
		return c
	}
	c.Close()
	return w
}

// epollET is syscall.EPOLLET as the unsigned number that it is.
const epollET = 1 << 31

// A conn is a TCP connection that a Poller watches. The calls on its descriptor never block, so they are made without
// telling the scheduler.
type conn struct {
	p             *Poller
	local, remote net.Addr
	ready         chan struct{} // holds one wake-up
	deadline      atomic.Int64  // of reading, Unix ns; 0 is none
	writeBy       atomic.Int64  // of writing
	over          atomic.Bool   // the peer has said all it will: there is no other event, read to the end

	mu sync.RWMutex // held for reading while fd is used
	fd int          // -1: closed; protected by mu

	drained bool // the last read took all there was: the next input comes with a wake-up. The reader's.

	// Of a connection under Run. Who runs the coroutine owns them; it is handed over under p.mu and by way of back.
	next        func() (struct{}, bool)
	yield       func(struct{}) bool
	wants       wish // why the coroutine has yielded
	wantsInLine bool
	polled      bool      // the Poller runs it
	turn        int       // bytes that it may still read before others have their turn
	back        chan bool // the Poller has no more to do with it; false: it has ended
	inLine      bool      // protected by p.mu
}

// call makes a system call of the form of read(2) on the descriptor.
func (c *conn) call(trap uintptr, b []byte) (int, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.fd < 0 {
		return 0, net.ErrClosed
	}
	for {
		n, _, errno := syscall.RawSyscall(trap, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, errAgain
		default:
			return 0, errno
		}
	}
}

var errAgain = errors.New("not now")

func (c *conn) fail(op string, err error) error {
	if err == net.ErrClosed {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

func passed(d *atomic.Int64) bool {
	t := d.Load()
	return t != 0 && t <= time.Now().UnixNano()
}

// Read reads once. It is called from one goroutine at a time.
func (c *conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		if c.polled && !c.drained && c.turn <= 0 {
			c.wants = turn
			c.yield(struct{}{})
		}
		if c.drained {
			c.pause()
			c.drained = false
			if passed(&c.deadline) {
				return 0, c.fail("read", os.ErrDeadlineExceeded)
			}
		}
		n, err := c.call(syscall.SYS_READ, b)
		switch {
		case err == errAgain:
			c.drained = true
			if passed(&c.deadline) {
				return 0, c.fail("read", os.ErrDeadlineExceeded)
			}
		case err != nil:
			return 0, c.fail("read", err)
		case n == 0:
			return 0, io.EOF
		default:
			// With edge-triggered readiness, a read that did not fill its buffer has taken everything: whatever comes next
			// makes another event (epoll(7)).
			c.drained = n < len(b) && !c.over.Load()
			c.turn -= n
			return n, nil
		}
	}
}

// writePause is how long a Write waits for room, when it may. Only replies are written, which fit.
const writePause = 5 * time.Millisecond

// Write writes all of b.
func (c *conn) Write(b []byte) (int, error) {
	sum := 0
	for len(b) > 0 {
		n, err := c.send(b)
		sum += n
		b = b[n:]
		switch {
		case err == errAgain && (c.polled || passed(&c.writeBy)):
			return sum, c.fail("write", os.ErrDeadlineExceeded)
		case err == errAgain:
			time.Sleep(writePause)
		case err != nil:
			return sum, c.fail("write", err)
		}
	}
	return sum, nil
}

// send is write(2) without SIGPIPE.
func (c *conn) send(b []byte) (int, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.fd < 0 {
		return 0, net.ErrClosed
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), syscall.MSG_NOSIGNAL, 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case syscall.EAGAIN, syscall.EINTR:
		return 0, errAgain
	}
	return 0, errno
}

func setDeadline(d *atomic.Int64, t time.Time) {
	if t.IsZero() {
		d.Store(0)
		return
	}
	d.Store(t.UnixNano())
}

// SetReadDeadline sets when Read gives up, which it does within sweepEvery.
func (c *conn) SetReadDeadline(t time.Time) error { setDeadline(&c.deadline, t); return nil }

// SetWriteDeadline sets when Write gives up.
func (c *conn) SetWriteDeadline(t time.Time) error { setDeadline(&c.writeBy, t); return nil }

// SetDeadline sets both.
func (c *conn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// CloseWrite sends the end of the stream.
func (c *conn) CloseWrite() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.fd < 0 {
		return net.ErrClosed
	}
	return syscall.Shutdown(c.fd, syscall.SHUT_WR)
}

// Close closes the connection and wakes its reader.
func (c *conn) Close() error {
	c.mu.Lock()
	fd := c.fd
	c.fd = -1
	c.mu.Unlock()
	if fd < 0 {
		return net.ErrClosed
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	delete(c.p.byFD, int32(fd)) // before the number can be another's
	err := syscall.Close(fd)
	c.p.rouse(c)
	return err
}
