//go:build !linux

package main

import "net"

// stamp returns c: only Linux says when it received something.
func stamp(c net.Conn) net.Conn { return c }
