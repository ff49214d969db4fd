package conns

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// pair returns the two ends of a connection, the first of which has its place in l.
func pair(t testing.TB, l *Limit) (*conn, net.Conn) {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := (&Port{Limit: l}).Listen(tcp, false, nil)
	t.Cleanup(func() { ln.Close() })
	far, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near.(*conn), far
}

// A deadline passes at its time, or, if it was far away, with the sweep after that; never before, and not when it has been taken
// back or moved.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	near := func(d time.Duration) func(c *conn) {
		return func(c *conn) { c.SetDeadline(time.Now().Add(d)) }
	}
	for name, x := range map[string]struct {
		set  func(c *conn)
		want time.Duration // 0: it does not pass
	}{
		"soon":         {near(100 * time.Millisecond), 100 * time.Millisecond},
		"far":          {near(1200 * time.Millisecond), 1200 * time.Millisecond},
		"past":         {near(-time.Hour), time.Millisecond},
		"none":         {near(100 * time.Hour), 0},
		"taken back":   {func(c *conn) { near(1200 * time.Millisecond)(c); c.SetDeadline(time.Time{}) }, 0},
		"soon, far":    {func(c *conn) { near(100 * time.Millisecond)(c); near(1200 * time.Millisecond)(c) }, 1200 * time.Millisecond},
		"far, soon":    {func(c *conn) { near(1200 * time.Millisecond)(c); near(100 * time.Millisecond)(c) }, 100 * time.Millisecond},
		"past, never":  {func(c *conn) { near(-time.Hour)(c); c.SetDeadline(time.Time{}) }, 0},
		"far, further": {func(c *conn) { near(1200 * time.Millisecond)(c); near(time.Hour)(c) }, 0},
		"read and then": {func(c *conn) {
			c.SetWriteDeadline(time.Now().Add(-time.Hour))
			c.SetReadDeadline(time.Now().Add(1200 * time.Millisecond))
		}, 1200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, far := pair(t, &Limit{Max: 10})
			began := time.Now()
			x.set(c)
			if x.want == 0 { // the other end speaks when it would have passed
				time.AfterFunc(1200*time.Millisecond+2*deadlineEvery, func() { far.Write([]byte{1}) })
			}
			n, err := c.Read(make([]byte, 1))
			took := time.Since(began)
			switch {
			case x.want == 0:
				if n != 1 || err != nil {
					t.Errorf("after %v: %v", took, err)
				}
			case !errors.Is(err, os.ErrDeadlineExceeded) || took < x.want-time.Millisecond:
				t.Errorf("after %v: %v", took, err)
			case took > x.want+2*deadlineEvery+patience:
				t.Errorf("late: %v", took)
			}
		})
	}
}

// A deadline that has passed is over when another one is set, and whoever does not read is given up.
func TestDeadlineAgain(t *testing.T) {
	t.Parallel()
	c, far := pair(t, &Limit{Max: 10})
	c.SetReadDeadline(time.Now().Add(1100 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(time.Hour))
	far.Write([]byte{1})
	if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Fatal(err)
	}
	c.SetWriteDeadline(time.Now().Add(1100 * time.Millisecond))
	b := make([]byte, 1<<20)
	for began := time.Now(); ; {
		if _, err := c.Write(b); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) < time.Second {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
			break
		}
	}
}

// The sweep rests while there is no connection, and comes again for the next one.
func TestSweepRests(t *testing.T) {
	t.Parallel()
	l := &Limit{Max: 10}
	for range 2 {
		c, _ := pair(t, l)
		if l.sweptAt.Load() == 0 {
			t.Fatal("nobody looks")
		}
		c.Close()
		eventually(t, "nobody looks any more", func() bool { return l.sweptAt.Load() == 0 })
	}
}

// BenchmarkDeadlines sets the deadlines of one request, as net/http does, and takes them back.
func BenchmarkDeadlines(b *testing.B) {
	c, _ := pair(b, &Limit{Max: 10})
	for name, c := range map[string]net.Conn{"swept": c, "timers": c.TCPConn} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				now := time.Now()
				c.SetReadDeadline(now.Add(2 * time.Minute))
				c.SetReadDeadline(time.Time{})
				c.SetReadDeadline(now.Add(10 * time.Second))
				c.SetReadDeadline(time.Time{})
				c.SetWriteDeadline(now.Add(15 * time.Second))
			}
		})
	}
}
