//go:build linux

package poll

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// pair returns a connection that p watches, and its peer.
func pair(t testing.TB, p *Poller) (net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return p.Wrap(c), peer
}

// Whatever many peers send, in whatever pieces, arrives whole, and so does the end.
func TestEverythingArrives(t *testing.T) {
	var p Poller
	defer p.Close()
	var wg sync.WaitGroup
	for i := range 20 {
		c, peer := pair(t, &p)
		want := bytes.Repeat([]byte{byte(i), 1, 2, 3, 4, 5, 6}, 30000)
		wg.Go(func() {
			defer peer.Close() // with data still on the way: data and end come in one event
			for b := want; len(b) > 0; {
				n := min(len(b), 1+len(b)%7001)
				if _, err := peer.Write(b[:n]); err != nil {
					t.Error(err)
					return
				}
				b = b[n:]
			}
		})
		wg.Go(func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
			}
		})
	}
	wg.Wait()
	if n := p.Len(); n != 0 {
		t.Errorf("%d connections are still watched", n)
	}
}

func TestDeadlines(t *testing.T) {
	var p Poller
	defer p.Close()
	c, peer := pair(t, &p)
	defer peer.Close()
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	var ne net.Error
	if _, err := c.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("read: %v", err)
	}
	c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := c.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write to a peer that does not read: %v", err)
	}
}

// Closing, from another goroutine, ends a Read that waits; the descriptor's number may be another's afterwards.
func TestClose(t *testing.T) {
	var p Poller
	defer p.Close()
	for range 50 {
		c, peer := pair(t, &p)
		done := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 10))
			done <- err
		}()
		go c.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if n, _ := peer.Read(make([]byte, 1)); n != 0 {
			t.Error("the peer does not see the end")
		}
		peer.Close()
	}
}

// What does not come over TCP is left alone, and a Poller without connections costs nothing.
func TestOther(t *testing.T) {
	var p Poller
	a, b := net.Pipe()
	defer b.Close()
	if p.Wrap(a) != a {
		t.Error("a pipe was wrapped")
	}
	if p.gate != nil {
		t.Error("opened for nothing")
	}
	p.Close()
}
