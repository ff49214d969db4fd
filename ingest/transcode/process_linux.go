package transcode

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// processAttributes give the child a process group of its own, and let it not outlive us.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// processTime is the user and system time of a process, ns; 0 when it cannot be told.
func processTime(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	return parseStat(b)
}

// parseStat reads the times of a /proc/PID/stat line (proc_pid_stat(5), fields 14 and 15).
func parseStat(b []byte) (ns int64) {
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:]) // the name before it may hold anything
	if len(f) < 13 {
		return 0
	}
	for _, v := range f[11:13] {
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil {
			return 0
		}
		ns += n * clockTick
	}
	return ns
}
