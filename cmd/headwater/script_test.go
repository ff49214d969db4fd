package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScript runs the user stories in testdata/script with the real binary. Beside testscript's commands there are
//
//	get URL FILE    fetch URL into FILE, patiently: until the server is up and answers 200; https trusts cert.pem
//	pair            write cert.pem and key.pem
//	stall ADDR      open a connection and send half a request on it
//	term [-again]   send SIGTERM to what runs in the background; -again: until it has ended
//
// and the variables RTMP, HTTP, HTTPS and OPS, addresses that were free a moment ago, and TAKEN, one that is not.
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
			env.Setenv("XDG_STATE_HOME", env.WorkDir+"/state")
			names := []string{"RTMP", "HTTP", "HTTPS", "OPS"}
			ports, err := choosePorts(len(names))
			if err != nil {
				return err
			}
			for i, name := range names {
				env.Setenv(name, addr(ports[i]))
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"get":   getCommand,
			"pair":  pairCommand,
			"stall": stallCommand,
			"term":  termCommand,
		},
	})
}

func getCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: get URL FILE")
	}
	client := &http.Client{}
	if strings.HasPrefix(args[0], "https:") {
		config, err := trusting(ts.MkAbs("cert.pem"))
		ts.Check(err)
		tr := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
		defer tr.CloseIdleConnections()
		client.Transport = tr
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		body, err := fetch(client, args[0])
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

func pairCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: pair")
	}
	_, _, err := writePair(ts.MkAbs("."))
	ts.Check(err)
}

func fetch(c *http.Client, url string) ([]byte, error) {
	resp, err := c.Get(url)
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
