//go:build unix

package main

import "syscall"

// initTry prepares tryWrite: one write call, which never waits for room in the socket, so that a server that does not
// read holds up nobody but its own publisher.
func (p *publisher) initTry() {
	p.try = func(fd uintptr) bool {
		for {
			p.wrote, p.werr = syscall.Write(int(fd), p.out)
			if p.werr != syscall.EINTR {
				return true
			}
		}
	}
}

// tryWrite writes what fits now and says how much that was.
func (p *publisher) tryWrite(b []byte) (int, error) {
	p.out = b
	if err := p.raw.Write(p.try); err != nil {
		return 0, err
	}
	if p.werr == syscall.EAGAIN {
		return 0, nil
	}
	return max(p.wrote, 0), p.werr
}
