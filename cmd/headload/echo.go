package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"time"
)

// echoCmd is the other end of an echo, in a process of its own: it reads from the connection that is its descriptor 3 and
// writes what it has read. What runs it is measureEcho.
type echoCmd struct{}

// Run ends with the connection.
func (*echoCmd) Run() error {
	f := os.NewFile(3, "connection")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(c, struct{ io.Reader }{c})
	return err
}

const (
	echoEvery = 97 * time.Millisecond // not in step with frames
	echoAfter = 5 * time.Second       // none is waited for longer
)

// An echo is what a machine's own share in a latency is: the time from a write to another process until its answer was
// received, when that process does nothing but answer.
type echo struct {
	conn net.Conn
	cmd  *exec.Cmd
	took durations // read it when measure has returned
}

// startEcho starts the process.
func startEcho(ctx context.Context) (*echo, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return nil, err
	}
	far, err := ln.Accept()
	if err != nil {
		near.Close()
		return nil, err
	}
	defer far.Close()
	file, err := far.(*net.TCPConn).File()
	if err != nil {
		near.Close()
		return nil, err
	}
	defer file.Close()
	e := &echo{conn: stamp(near), cmd: exec.CommandContext(ctx, self, "echo")}
	e.cmd.ExtraFiles = []*os.File{file}
	if err := e.cmd.Start(); err != nil {
		near.Close()
		return nil, err
	}
	return e, nil
}

// measure asks now and then until ctx ends, and ends the process.
func (e *echo) measure(ctx context.Context) (err error) {
	defer func() {
		e.conn.Close()
		if werr := e.cmd.Wait(); err == nil && ctx.Err() == nil {
			err = werr
		}
	}()
	b := []byte{1}
	for sleep(ctx, echoEvery); ctx.Err() == nil; sleep(ctx, echoEvery) {
		asked := time.Now()
		e.conn.SetDeadline(asked.Add(echoAfter))
		if _, err := e.conn.Write(b); err != nil {
			return err
		}
		if _, err := io.ReadFull(e.conn, b); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return errors.New("the echo process does not answer")
			}
			return err
		}
		got := time.Now()
		if c, ok := e.conn.(interface{ received() time.Time }); ok {
			got = c.received()
		}
		e.took.add(got.Sub(asked))
	}
	return nil
}
