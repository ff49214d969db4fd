//go:build linux

package poll

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"headwater/ingest/ingesttest"
)

// A function under Run reads the same whoever runs it, and may change its mind at any time.
func TestRun(t *testing.T) {
	var p Poller
	defer p.Close()
	var wg sync.WaitGroup
	for i := range 20 {
		c, peer := pair(t, &p)
		want := bytes.Repeat([]byte{byte(i), 1, 2, 3, 4, 5, 6}, 100_000)
		wg.Go(func() {
			defer peer.Close()
			for b := want; len(b) > 0; {
				n := min(len(b), 1+len(b)%17001)
				if _, err := peer.Write(b[:n]); err != nil {
					t.Error(err)
					return
				}
				b = b[n:]
			}
		})
		wg.Go(func() {
			var got []byte
			var err error
			Run(c, func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(30 * time.Second))
				buf := make([]byte, 10_000)
				for turn := 0; err == nil; turn++ {
					InLine(c, turn%5 < 4)
					var n int
					n, err = c.Read(buf)
					got = append(got, buf[:n]...)
				}
			})
			if err != io.EOF || !bytes.Equal(got, want) {
				t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
			}
		})
	}
	wg.Wait()
	if n := p.Len(); n != 0 {
		t.Errorf("%d connections are still watched", n)
	}
}

// inLine serves c in line with f, once that waits for input.
func inLine(c net.Conn, f func()) (ended chan struct{}) {
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		Run(c, func() {
			InLine(c, true)
			f()
		})
	}()
	return ended
}

// Closing a connection from outside ends its Read at once also where no input would wake the Poller.
func TestCloseInLine(t *testing.T) {
	var p Poller
	defer p.Close()
	for range 50 {
		ingesttest.Within(t, "noticing it", sweepEvery/2, func() time.Duration {
			c, peer := pair(t, &p)
			defer peer.Close()
			var err error
			reading := make(chan struct{})
			ended := inLine(c, func() {
				b := make([]byte, 10)
				c.Read(b) // the next one is the Poller's
				close(reading)
				_, err = c.Read(b)
			})
			peer.Write([]byte("x"))
			<-reading
			start := time.Now()
			c.Close()
			<-ended
			if !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
			return time.Since(start)
		})
	}
}

func TestDeadlineInLine(t *testing.T) {
	var p Poller
	defer p.Close()
	c, peer := pair(t, &p)
	defer peer.Close()
	var read, write error
	<-inLine(c, func() {
		defer c.Close()
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, read = c.Read(make([]byte, 10))
		_, write = c.Write(make([]byte, 64<<20)) // would block the others
	})
	if !errors.Is(read, os.ErrDeadlineExceeded) || !errors.Is(write, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v, write: %v", read, write)
	}
}

// A peer that sends as fast as it can leaves the others their turns.
func TestTurns(t *testing.T) {
	var p Poller
	defer p.Close()
	c, peer := pair(t, &p)
	var flood atomic.Int64
	ended := inLine(c, func() {
		defer c.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			flood.Add(int64(n))
		}
	})
	stop := make(chan struct{})
	go func() {
		defer peer.Close()
		b := make([]byte, 1<<20)
		for {
			select {
			case <-stop:
				return
			default:
				peer.Write(b)
			}
		}
	}()
	other, its := pair(t, &p)
	defer its.Close()
	got := make(chan byte)
	served := inLine(other, func() {
		defer other.Close()
		b := make([]byte, 1)
		for {
			if _, err := other.Read(b); err != nil {
				return
			}
			got <- b[0]
		}
	})
	for i := range 100 {
		its.Write([]byte{byte(i)})
		select {
		case b := <-got:
			if b != byte(i) {
				t.Fatalf("%d, want %d", b, i)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("byte %d has no turn after %d bytes of the other", i, flood.Load())
		}
	}
	its.Close()
	<-served
	close(stop)
	<-ended
}

// Connections are spread over as many Pollers as they are worth.
func TestPool(t *testing.T) {
	var g Pool
	var cs []net.Conn
	for range connsPerPoller + 10 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		out, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		in, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		cs = append(cs, g.Wrap(in))
	}
	if n, want := len(g.pollers), min(2, runtime.GOMAXPROCS(0)); n != want {
		t.Errorf("%d pollers, want %d", n, want)
	}
	for _, p := range g.pollers {
		if n := p.Len(); runtime.GOOS == "linux" && n == 0 {
			t.Error("a poller without connections")
		}
	}
	for _, c := range cs {
		c.Close()
	}
	g.Close()
}
