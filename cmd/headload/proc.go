package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A usage is what a process and its descendants have used.
type usage struct {
	cpu time.Duration // user and system, of the living and of the children they have waited for
	rss int64         // bytes resident now, those of anonymous files included
	own int64         // the same without anything shared: heap, stacks, program
}

// clockTick is the unit of the times in /proc/PID/stat: USER_HZ, which is 100 wherever Go runs on Linux.
const clockTick = 10 * time.Millisecond

// usageOf adds up the process with that id and its descendants, from /proc.
func usageOf(pid int) (usage, error) {
	u, err := usageOfOne(pid)
	if err != nil {
		return usage{}, fmt.Errorf("server process %d: %w", pid, err)
	}
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, t := range tasks {
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, t.Name()))
		for _, f := range strings.Fields(string(children)) {
			id, _ := strconv.Atoi(f)
			if c, err := usageOf(id); err == nil { // it may have ended meanwhile
				u.cpu += c.cpu
				u.rss += c.rss
				u.own += c.own
			}
		}
	}
	return u, nil
}

func usageOfOne(pid int) (usage, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	u, err := parseStat(b)
	if err != nil {
		return usage{}, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return usage{}, err
	}
	u.rss = kilobytes(status, "VmRSS")
	u.own = u.rss - kilobytes(status, "RssShmem")
	if files := anonymousFiles(pid); files > 0 {
		u.rss += files - min(files, kilobytes(status, "RssShmem")) // what is mapped of them has been counted
	}
	return u, nil
}

// kilobytes returns a size in /proc/PID/status, in bytes.
func kilobytes(status []byte, name string) int64 {
	_, after, ok := bytes.Cut(status, []byte("\n"+name+":"))
	if f := bytes.Fields(after); ok && len(f) > 0 {
		kb, _ := strconv.ParseInt(string(f[0]), 10, 64)
		return kb << 10
	}
	return 0
}

// anonymousFiles is how many bytes of memory the process's memfd_create(2) files take, mapped (RssShmem) or not.
func anonymousFiles(pid int) (sum int64) {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	fds, _ := os.ReadDir(dir)
	for _, e := range fds {
		var st syscall.Stat_t
		if to, _ := os.Readlink(dir + e.Name()); strings.HasPrefix(to, "/memfd:") && syscall.Stat(dir+e.Name(), &st) == nil {
			sum += st.Blocks * 512
		}
	}
	return sum
}

// parseStat reads the times of a /proc/PID/stat line (proc_pid_stat(5): fields 14 to 17).
func parseStat(b []byte) (usage, error) {
	i := bytes.LastIndexByte(b, ')') // the name before it may hold anything
	f := bytes.Fields(b[i+1:])
	if i < 0 || len(f) < 15 {
		return usage{}, fmt.Errorf("stat line cannot be read")
	}
	var u usage
	for _, v := range f[11:15] {
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil {
			return usage{}, err
		}
		u.cpu += time.Duration(n) * clockTick
	}
	return u, nil
}

// A server is a process that was started to be measured.
type server struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// startServer starts a server and waits until it takes connections on all of addrs.
func startServer(ctx context.Context, cmd *exec.Cmd, addrs ...string) (*server, error) {
	for _, a := range addrs {
		if c, err := net.DialTimeout("tcp", a, time.Second); err == nil {
			c.Close()
			return nil, fmt.Errorf("something listens on %s already", a)
		}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, done: make(chan struct{})}
	go func() {
		cmd.Wait()
		close(s.done)
	}()
	limit := time.Now().Add(30 * time.Second)
	for _, a := range addrs {
		for {
			c, err := net.DialTimeout("tcp", a, time.Second)
			if err == nil {
				c.Close()
				break
			}
			select {
			case <-s.done:
				return nil, fmt.Errorf("%s ended at its start: %v", cmd.Args[0], cmd.ProcessState)
			case <-ctx.Done():
				s.stop()
				return nil, ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
			if time.Now().After(limit) {
				s.stop()
				return nil, fmt.Errorf("%s does not listen on %s after 30 s", cmd.Args[0], a)
			}
		}
	}
	return s, nil
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// stop ends the server, by SIGTERM and after 10 s by force.
func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(10 * time.Second):
		s.cmd.Process.Kill()
		<-s.done
	}
}
