//go:build linux || darwin

package main

import "syscall"

// openFiles is how many files, sockets included, the process may have open.
func openFiles() (uint64, bool) {
	var r syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r)
	return r.Cur, err == nil
}
