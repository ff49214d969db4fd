// Command headload loads a live media origin and measures it: many RTMP publishers in real time at little cost to
// itself, many low-latency HLS players, the origin's own delay, and a comparison with a neighbour on the same machine.
// It ends by itself, and it refuses targets off this machine unless told otherwise.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

type cli struct {
	Publish  publishCmd  `cmd:"" help:"Push many RTMP streams in real time."`
	Play     playCmd     `cmd:"" help:"Play many streams as low-latency HLS players do, and check what comes."`
	Offload  offloadCmd  `cmd:"" help:"Play through an edge, with few players and with many, and count what that costs the origin."`
	Latency  latencyCmd  `cmd:"" help:"Push one stream and measure how soon its parts can be fetched."`
	Bench    benchCmd    `cmd:"" help:"Compare headwater with nginx-rtmp on this machine."`
	Delivery deliveryCmd `cmd:"" help:"Compare what requests cost headwater, nginx with static files, and a bare handler."`
	Bare     bareCmd     `cmd:"" hidden:""`
	Echo     echoCmd     `cmd:"" hidden:""`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// A console is where a command prints: its report to out, what happens on the way to log.
type console struct {
	out, log io.Writer
}

// errFailed ends the tool with status 1 without a further line: the report has said why.
var errFailed = errors.New("failed")

type exitCode int

// run is main without the process: it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	defer func() {
		if c, ok := recover().(exitCode); ok {
			code = int(c)
		}
	}()
	var c cli
	parser, err := kong.New(&c, kong.Name("headload"), kong.UsageOnError(), kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 120}),
		kong.Description("Loads a live media origin and measures it. Ends by itself; exits with 1 when something failed."),
		kong.Exit(func(code int) { panic(exitCode(code)) }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(&console{stdout, stderr}))
	if err != nil {
		fmt.Fprintln(stderr, "headload:", err)
		return 2
	}
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "headload: %v (headload --help tells more)\n", err)
		return 2
	}
	switch err := k.Run(); {
	case errors.Is(err, errFailed):
		return 1
	case err != nil:
		fmt.Fprintln(stderr, "headload:", err)
		return 1
	}
	return 0
}

// report prints r as text or as JSON.
func (c *console) report(r fmt.Stringer, asJSON bool) error {
	if !asJSON {
		_, err := fmt.Fprint(c.out, r)
		return err
	}
	e := json.NewEncoder(c.out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// guard holds load on this machine: every connection that it makes goes to a loopback address unless allowRemote.
type guard struct{ allowRemote bool }

func (g guard) dialer() *net.Dialer {
	d := &net.Dialer{Timeout: setupTimeout}
	if !g.allowRemote {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return err
			}
			if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
				return errRemote{address}
			}
			return nil
		}
	}
	return d
}

// check looks at a target before anything is started.
func (g guard) check(ctx context.Context, raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return err
	}
	if u.Hostname() == "" {
		return fmt.Errorf("%q names no host", raw)
	}
	if g.allowRemote {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, u.Hostname())
	if err != nil {
		return err
	}
	for _, ip := range ips {
		if !ip.IP.IsLoopback() {
			return errRemote{u.Host}
		}
	}
	return nil
}

type errRemote struct{ addr string }

func (e errRemote) Error() string {
	return fmt.Sprintf("%s is not this machine: give --allow-remote if you may load it", e.addr)
}

// sleep waits for d or until ctx ends.
//
// It makes no timer that is already due: in a synctest bubble under the race detector, two goroutines that receive from due
// timers at once break the detector's stack for the bubble's timers, and the process with it (Go 1.26.8).
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
