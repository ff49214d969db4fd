//go:build unix && !linux

package transcode

import "syscall"

func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func processTime(int) int64 { return 0 }
