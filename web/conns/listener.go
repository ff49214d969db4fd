package conns

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// How long a Listener waits after an error, as net/http does: file descriptors that have run out come back.
const (
	minDelay = 5 * time.Millisecond
	maxDelay = time.Second
)

// A Listener gives out connections that have a place, and turns the others away. It ends only when it is closed: whatever
// else is wrong with accepting passes, or is the business of one connection.
type Listener struct {
	net.Listener
	port  *Port
	log   *slog.Logger
	talks bool
	busy  chan struct{} // holds one for each refusal that is being told
	once  sync.Once
	done  chan struct{} // closed by Close
}

// Listen returns a Listener of a TCP listener's connections. If talks is set they speak HTTP from their first byte, so that
// who is turned away can be told; with TLS that would cost a handshake, and they are just closed. log may be nil.
func (p *Port) Listen(ln net.Listener, talks bool, log *slog.Logger) *Listener {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Listener{Listener: ln, port: p, log: log, talks: talks, busy: make(chan struct{}, maxRefusals), done: make(chan struct{})}
}

// Close closes the listener, not its connections.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	var delay time.Duration
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil, err
			}
			l.port.failed.Add(1)
			if delay == 0 { // once for each time of trouble
				l.log.Error("connections cannot be accepted; trying again", "addr", l.Addr().String(), "err", err)
			}
			delay = min(max(2*delay, minDelay), maxDelay)
			select {
			case <-l.done:
				return nil, net.ErrClosed
			case <-time.After(delay):
			}
			continue
		}
		delay = 0
		tc := nc.(*net.TCPConn)
		if !l.port.Enter() {
			l.refuse(tc)
			continue
		}
		c := &conn{TCPConn: tc, port: l.port}
		l.port.Limit.add(c)
		return c, nil
	}
}

// refuse turns a connection away, and does not wait for it. Only so many are told why at one time.
func (l *Listener) refuse(c *net.TCPConn) {
	if l.talks {
		select {
		case l.busy <- struct{}{}:
			go func() {
				tell(c)
				<-l.busy
			}()
			return
		default:
		}
	}
	_ = c.SetLinger(0) // reset: the kernel keeps nothing of it either
	c.Close()
}
