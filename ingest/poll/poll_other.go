//go:build !linux

package poll

import (
	"net"
	"time"
)

// A Poller does nothing here: connections wait by themselves.
type Poller struct {
	Interval time.Duration
	Awaited  func() bool
}

// Wrap returns c.
func (p *Poller) Wrap(c net.Conn) net.Conn { return c }

// Run calls f.
func Run(_ net.Conn, f func()) { f() }

// InLine does nothing.
func InLine(net.Conn, bool) {}

// Len is 0.
func (p *Poller) Len() int { return 0 }

// Close does nothing.
func (p *Poller) Close() error { return nil }
