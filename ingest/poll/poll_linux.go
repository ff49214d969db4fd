package poll

import (
	"cmp"
	"errors"
	"io"
	"iter"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// sweepEvery is how often read deadlines are looked at: they may be observed so much late.
const sweepEvery = 200 * time.Millisecond

// turnSize is how many bytes a connection that is served in line may take before the others have their turn.
const turnSize = 256 << 10

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
	todo []*conn         // served in line, to be looked at without an event; protected by mu

	batch []*conn   // served in line, with input; run's
	swept time.Time // when deadlines were looked at; run's
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
	p.swept = time.Now()
	go p.run()
	return nil
}

// Len is how many connections are being watched.
func (p *Poller) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.byFD)
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
		again := false
		for i, c := range p.batch {
			p.batch[i] = nil
			again = p.serve(c) || again
		}
		p.batch = p.batch[:0]
		now := time.Now()
		if now.Sub(p.swept) >= sweepEvery {
			p.sweep(now)
		}
		switch {
		case n == len(events) || again: // there is more
		case n == 0:
			if !p.wait() {
				return
			}
		case l.heavy(n, now, interval):
			select {
			case <-p.done:
				return
			default:
				rest(interval)
			}
		}
	}
}

// rest sleeps in the system and not in the runtime, which would wake a second thread for every end of a sleep. What the
// connections have made runnable runs first.
func rest(d time.Duration) {
	runtime.Gosched()
	ts := syscall.NsecToTimespec(int64(d))
	syscall.Nanosleep(&ts, nil)
}

// serve lets a connection that is served in line go on, and says whether it wants to again at once.
func (p *Poller) serve(c *conn) (again bool) {
	c.polled, c.turn = true, turnSize
	_, more := c.next()
	switch {
	case more && c.wants == input:
		return false
	case more && c.wants == turn:
		p.mu.Lock()
		p.todo = append(p.todo, c)
		p.mu.Unlock()
		return true
	}
	p.mu.Lock()
	c.inLine = false
	p.mu.Unlock()
	c.back <- more
	return false
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
// interval later, is worth the wait: lately more than one in an interval.
func (l *load) heavy(n int, now time.Time, interval time.Duration) bool {
	if d := now.Sub(l.since); d > loadSpan*interval {
		l.high = int64(l.count) > int64(d/interval)
		l.since, l.count = now, 0
	}
	l.count += n
	return l.high
}

// look puts the connections that are served in line and have input into p.batch, wakes the readers of the others, and returns
// how many have some.
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
			if c.inLine {
				p.batch = append(p.batch, c)
			} else {
				c.wake()
			}
		}
	}
	for i, c := range p.todo {
		p.todo[i] = nil
		if c.inLine {
			if !slices.Contains(p.batch, c) {
				p.batch = append(p.batch, c)
			}
		} else {
			c.wake()
		}
	}
	p.todo = p.todo[:0]
	p.mu.Unlock()
	return int(n)
}

// wait returns when there is input, when something is to be done, or false when the Poller has been closed.
func (p *Poller) wait() bool {
	p.mu.Lock()
	if len(p.todo) > 0 {
		p.mu.Unlock()
		return true
	}
	p.gate.SetReadDeadline(p.swept.Add(sweepEvery)) // kick moves it
	p.mu.Unlock()
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
	return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
}

// rouse lets whoever serves c look at it although there is no input. p.mu is held.
func (p *Poller) rouse(c *conn) {
	if !c.inLine {
		c.wake()
		return
	}
	p.todo = append(p.todo, c)
	p.gate.SetReadDeadline(time.Unix(1, 0)) // wait returns
}

// sweep rouses the connections whose deadline has passed.
func (p *Poller) sweep(now time.Time) {
	p.swept = now
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.byFD {
		if d := c.deadline.Load(); d != 0 && d <= now.UnixNano() {
			p.rouse(c)
		}
	}
}

// Run calls f, which reads nc and returns when it is done with it, and returns when f does. While f has said so with InLine,
// the Poller's goroutine runs it whenever there is input, and for the rest of the time a goroutine of its own: f is a
// coroutine that goes from one to the other.
func Run(nc net.Conn, f func()) {
	c, ok := nc.(*conn)
	if !ok {
		f()
		return
	}
	next, stop := iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		f()
	})
	defer stop()
	c.next, c.back = next, make(chan bool)
	for {
		c.polled = false
		if _, more := next(); !more {
			return
		}
		switch {
		case c.wants != input:
		case !c.wantsInLine:
			<-c.ready
		case c.p.adopt(c):
			if more := <-c.back; !more {
				return
			}
		}
	}
}

// adopt takes c to be served in line, and says false if there was input meanwhile.
func (p *Poller) adopt(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-c.ready:
		return false
	default:
		c.inLine = true
		return true
	}
}

// InLine says whether what follows may be run by the Poller's goroutine, between reads of other connections: it must not
// block, and a Write that would fails. The function that Run has been given calls it. Without Run or without a Poller it
// does nothing.
func InLine(nc net.Conn, on bool) {
	c, ok := nc.(*conn)
	if !ok || c.yield == nil {
		return
	}
	if c.wantsInLine = on; !on && c.polled {
		c.wants = owner
		c.yield(struct{}{})
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

// A wish is what a coroutine waits for.
type wish int

const (
	input wish = iota
	turn       // the others to have theirs
	owner      // its own goroutine
)

// pause waits for input, or for whatever else there is reason to look at.
func (c *conn) pause() {
	if c.yield == nil {
		<-c.ready
		return
	}
	c.wants = input
	c.yield(struct{}{})
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
