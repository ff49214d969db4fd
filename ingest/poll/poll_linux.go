package poll

import (
	"cmp"
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

// sweepEvery is how often read deadlines are looked at: they may be observed so much late.
const sweepEvery = 200 * time.Millisecond

// A Poller watches the connections that it wraps. Close it when the last of them has been closed.
//
// The connections' descriptors are in an epoll instance of its own and not in the runtime's, which would wake a thread for
// each packet. While there is much input the Poller only sleeps and looks; when there is none, it lets
// the runtime wait for the instance, by way of a second one in which the first stands with EPOLLONESHOT, so that it wakes
// for the first packet and for none after.
type Poller struct {
	Interval time.Duration // 0 is DefaultInterval

	start sync.Once // with the first connection
	err   error     // why it could not

	conns  int // epoll instance of the connections
	gateFD int // epoll instance that the runtime waits for
	gate   *os.File
	raw    syscall.RawConn
	done   chan struct{}

	mu   sync.Mutex
	byFD map[int32]*conn // protected by mu
}

func (p *Poller) open() (err error) {
	p.done, p.byFD = make(chan struct{}), map[int32]*conn{}
	if p.conns, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if p.gateFD, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		syscall.Close(p.conns)
		return err
	}
	syscall.SetNonblock(p.gateFD, true) // lets os.NewFile hand it to the runtime
	gate := os.NewFile(uintptr(p.gateFD), "epoll")
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLONESHOT, Fd: int32(p.conns)}
	if err = syscall.EpollCtl(p.gateFD, syscall.EPOLL_CTL_ADD, p.conns, &ev); err == nil {
		p.raw, err = gate.SyscallConn()
	}
	if err != nil {
		syscall.Close(p.conns)
		gate.Close()
		return err
	}
	p.gate = gate
	go p.run()
	go p.sweep()
	return nil
}

// Close stops watching. No connection that was wrapped is open any more.
func (p *Poller) Close() error {
	p.start.Do(func() { p.err = net.ErrClosed })
	if p.gate == nil {
		return nil
	}
	close(p.done)
	return p.gate.Close() // ends run, which closes the other
}

func (p *Poller) run() {
	defer syscall.Close(p.conns)
	var events [256]syscall.EpollEvent
	var l load
	interval := cmp.Or(p.Interval, DefaultInterval)
	for {
		n := p.look(&events)
		switch {
		case n == len(events): // there is more
		case n == 0:
			if !p.wait() {
				return
			}
		case l.heavy(n, time.Now(), interval):
			select {
			case <-p.done:
				return
			default:
				time.Sleep(interval)
			}
		}
	}
}

// A load measures how often there is input.
type load struct {
	since time.Time
	count int
	high  bool
}

// loadSpan is for how many intervals input is counted.
const loadSpan = 16

// heavy notes input of n connections at now, and says whether there is so much that looking at all of it at once, an
// interval later, is worth the wait: lately at least two in an interval.
func (l *load) heavy(n int, now time.Time, interval time.Duration) bool {
	if d := now.Sub(l.since); d > loadSpan*interval {
		l.high = int64(l.count) > 2*int64(d/interval)
		l.since, l.count = now, 0
	}
	l.count += n
	return l.high
}

// look wakes the readers that have input, and returns how many.
func (p *Poller) look(events *[256]syscall.EpollEvent) int {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.conns), uintptr(unsafe.Pointer(events)), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	p.mu.Lock()
	for i := range events[:n] {
		if c := p.byFD[events[i].Fd]; c != nil {
			if events[i].Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
				c.over.Store(true)
			}
			c.wake()
		}
	}
	p.mu.Unlock()
	return int(n)
}

// wait returns when there is input, or false when the Poller has been closed.
func (p *Poller) wait() bool {
	armed := false
	err := p.raw.Read(func(fd uintptr) bool {
		if !armed {
			// Arming reports input that is there already.
			armed = true
			ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLONESHOT, Fd: int32(p.conns)}
			syscall.EpollCtl(int(fd), syscall.EPOLL_CTL_MOD, p.conns, &ev)
		}
		var ev [1]syscall.EpollEvent
		n, _, _ := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, fd, uintptr(unsafe.Pointer(&ev)), 1, 0, 0, 0)
		return int(n) > 0
	})
	return err == nil
}

// sweep wakes the readers whose deadline has passed.
func (p *Poller) sweep() {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-p.done:
			return
		case now := <-t.C:
			p.mu.Lock()
			for _, c := range p.byFD {
				if d := c.deadline.Load(); d != 0 && d <= now.UnixNano() {
					c.wake()
				}
			}
			p.mu.Unlock()
		}
	}
}

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
	w := &conn{p: p, fd: fd, local: c.LocalAddr(), remote: c.RemoteAddr(), ready: make(chan struct{}, 1)}
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
}

func (c *conn) wake() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
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
		if c.drained {
			<-c.ready
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
			return n, nil
		}
	}
}

// writePause is how long a Write waits for room. Only replies are written, which fit.
const writePause = 5 * time.Millisecond

// Write writes all of b.
func (c *conn) Write(b []byte) (int, error) {
	sum := 0
	for len(b) > 0 {
		n, err := c.send(b)
		sum += n
		b = b[n:]
		switch {
		case err == errAgain && passed(&c.writeBy):
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
	delete(c.p.byFD, int32(fd)) // before the number can be another's
	c.p.mu.Unlock()
	err := syscall.Close(fd)
	c.wake()
	return err
}
