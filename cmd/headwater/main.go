// Command headwater is the origin: it takes the settings together, connects ingest, segmenter and web, and runs them until
// it is told to stop.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal has its default effect: out, at once
	if err := (&Main{}).Run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "headwater:", err)
		os.Exit(1)
	}
}

// Main is the program, for main and for tests.
type Main struct {
	// Ready, if set, is called once, when everything listens and the demo, if that is what runs, is being published, with
	// the addresses really bound.
	Ready func(Addrs)
}

// Addrs are the addresses really bound, host:port; "" is none. HTTP3 is of UDP.
type Addrs struct{ RTMP, RTMPBackup, HTTP, HTTPS, HTTP3, Ops string }

// Run does what args, without the program's name, say. It returns when that is done; serving is done when ctx has ended
// and everything has been drained.
func (m *Main) Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	l, err := load(args, stdout, stderr)
	if err != nil {
		return err
	}
	switch l.Command {
	case "serve", "demo":
		return m.serve(ctx, l, stdout, stderr)
	case "config":
		for _, w := range l.Warnings {
			fmt.Fprintln(stderr, "headwater: warning:", w)
		}
		return printConfig(stdout, l)
	case "edge-config":
		for _, w := range l.Warnings {
			fmt.Fprintln(stderr, "headwater: warning:", w)
		}
		return edgeConfig(l, stdout)
	case "version":
		_, err := fmt.Fprintln(stdout, "headwater", version())
		return err
	}
	return nil
}

// version describes the build.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	v := info.Main.Version
	if v == "" {
		v = "(devel)"
	}
	return v + " " + info.GoVersion
}
