//go:build unix

package transcode

import (
	"os"
	"syscall"
)

// killGroup kills the child and whatever it has started.
func killGroup(p *os.Process) { syscall.Kill(-p.Pid, syscall.SIGKILL) }
