package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScript runs the user stories in testdata/script with the real binary. Beside testscript's commands there are
//
//	get URL FILE    fetch URL into FILE, patiently: until the server is up and answers 200
//	stall ADDR      open a connection and send half a request on it
//	term [-again]   send SIGTERM to what runs in the background; -again: until it has ended
//
// and the variables RTMP, HTTP and OPS, addresses that were free a moment ago, and TAKEN, one that is not.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			taken, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			env.Defer(func() { taken.Close() })
			env.Setenv("TAKEN", taken.Addr().String())
			for _, name := range []string{"RTMP", "HTTP", "OPS"} {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				defer ln.Close()
				env.Setenv(name, ln.Addr().String())
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"get":   getCommand,
			"stall": stallCommand,
			"term":  termCommand,
		},
	})
}

func getCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: get URL FILE")
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		body, err := fetch(args[0])
		if err == nil {
			ts.Check(os.WriteFile(ts.MkAbs(args[1]), body, 0o666))
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("get %s: %v", args[0], err)
		}
		time.Sleep(20 * time.Millisecond) // another process: there is nothing to wait on
	}
}

func fetch(url string) ([]byte, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return io.ReadAll(resp.Body)
}

func stallCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: stall ADDR")
	}
	nc, err := net.Dial("tcp", args[0])
	ts.Check(err)
	ts.Defer(func() { nc.Close() })
	_, err = io.WriteString(nc, "GET / HTTP/1.1\r\nHost:")
	ts.Check(err)
}

func termCommand(ts *testscript.TestScript, neg bool, args []string) {
	again := slices.Equal(args, []string{"-again"})
	if neg || len(args) > 0 && !again {
		ts.Fatalf("usage: term [-again]")
	}
	for _, c := range ts.BackgroundCmds() {
		ts.Check(c.Process.Signal(syscall.SIGTERM)) // testscript's own kill does not know it
		for again && c.Process.Signal(syscall.SIGTERM) == nil {
			time.Sleep(20 * time.Millisecond)
		}
	}
}
