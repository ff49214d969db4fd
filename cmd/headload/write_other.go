//go:build !unix

package main

import (
	"errors"
	"os"
	"time"
)

func (p *publisher) initTry() {}

// tryWrite writes what fits within a moment and says how much that was.
func (p *publisher) tryWrite(b []byte) (int, error) {
	p.conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	n, err := p.conn.Write(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return n, err
}
