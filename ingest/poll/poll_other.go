//go:build !linux

package poll

import (
	"net"
	"time"
)

// A Poller does nothing here: connections wait by themselves.
type Poller struct{ Interval time.Duration }

// Wrap returns c.
func (p *Poller) Wrap(c net.Conn) net.Conn { return c }

// Close does nothing.
func (p *Poller) Close() error { return nil }
