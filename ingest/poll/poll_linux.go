package poll

import (
	"cmp"
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
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
	Awaited  func() bool   // see Pool

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
	rests uint      // run's
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
				p.rest(interval)
			}
		}
	}
}

// While nobody waits for what comes in, rests are so many times as long, and others run only after every yieldEvery of them: a goroutine
// that the scheduler has not seen for 10 ms is taken for one that does not let others run, and watched every 20 us.
const (
	longRest   = 2
	yieldEvery = 4
)

// rest sleeps in the system and not in the runtime, which would wake a second thread for every end of a sleep. What the
// connections have made runnable runs first, where somebody may wait for it: yielding wakes a second thread too.
func (p *Poller) rest(d time.Duration) {
	awaited := p.Awaited == nil || p.Awaited()
	if !awaited {
		d *= longRest
	}
	if p.rests++; awaited || p.rests%yieldEvery == 0 {
		runtime.Gosched()
	}
	ts := syscall.NsecToTimespec(int64(d))
	syscall.Nanosleep(&ts, nil)
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
