//go:build !unix

package transcode

import (
	"os"
	"syscall"
)

func processAttributes() *syscall.SysProcAttr { return nil }

func killGroup(p *os.Process) { p.Kill() }

func processTime(int) int64 { return 0 }
