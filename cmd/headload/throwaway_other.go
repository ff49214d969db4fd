//go:build !linux

package main

import (
	"io"
	"net"
)

// throwAway takes n bytes from a connection.
func throwAway(c net.Conn, n int64) error {
	_, err := io.CopyN(io.Discard, c, n)
	return err
}
