package main

import (
	"context"
	"net"
	"os"
	"testing"
	"time"
)

// TestMain is the echo process when it is asked to be.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "echo" {
		if err := (&echoCmd{}).Run(); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// A counted connection calls enough with its last Read.
type counted struct {
	net.Conn
	left   int
	enough func()
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.left--; c.left == 0 {
		c.enough()
	}
	return n, err
}

func (c *counted) received() time.Time {
	if s, ok := c.Conn.(interface{ received() time.Time }); ok {
		return s.received()
	}
	return time.Now()
}

func TestEcho(t *testing.T) {
	e, err := startEcho(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const echoes = 7
	e.conn = &counted{e.conn, echoes, cancel}
	began := time.Now()
	if err := e.measure(ctx); err != nil {
		t.Fatal(err)
	}
	if e.took.n != echoes || e.took.quantile(0.5) <= 0 || e.took.quantile(0.5) > time.Second {
		t.Errorf("%d echoes: %v", e.took.n, &e.took)
	}
	if d := time.Since(began); d < echoes*echoEvery {
		t.Errorf("they took %v, each begins %v after the one before", d, echoEvery)
	}
	if e.cmd.ProcessState == nil {
		t.Error("the process is not waited for")
	}
}
