package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type deliveryCmd struct {
	Only        []string      `placeholder:"CASE,..." help:"Of playlist, unchanged, segment, blocked. All, when there is none."`
	Duration    time.Duration `default:"15s" help:"Of one run of one case against one server."`
	Runs        int           `default:"5" help:"Of each case against each server, alternating; the report has the medians."`
	Connections int           `default:"16" help:"Connections that ask for one thing after the other."`
	Blocked     []int         `default:"5000,10000" help:"Requests that wait at one time, each on its own connection."`
	Headwater   string        `placeholder:"PATH" help:"The headwater program; without it, it is built from the module of the working directory."`
	Nginx       string        `default:"nginx" help:"The nginx program."`
	Dir         string        `default:"/dev/shm" help:"Where the files that nginx serves lie: a tmpfs."`

	MaxPlaylist  float64       `placeholder:"1.3" help:"Exit with 1 when a playlist costs more than this times nginx's CPU."`
	MaxUnchanged float64       `placeholder:"1.2" help:"The same for the answer that nothing has changed (304)."`
	MaxSegment   float64       `placeholder:"1.0" help:"The same for a GiB of segments."`
	MaxBlocked   float64       `placeholder:"1.15" help:"Exit with 1 when a blocked request costs more than this times the bare handler's CPU or memory."`
	MaxSpread    time.Duration `placeholder:"350ms" help:"Exit with 1 when the last blocked request is answered so long after the first."`
	JSON         bool          `name:"json" help:"Report as JSON."`
	clipFlags
}

// Help is what headload delivery --help says beyond its flags.
func (*deliveryCmd) Help() string {
	return `Starts headwater with one stream, nginx with the same bytes as static files (2 workers, sendfile), and a bare handler on
Go's net/http that has them in memory; asks them in turn over HTTP/1.1 keep-alive on loopback, and compares the CPU that
each needs:
  playlist   a low-latency media playlist, plain
  unchanged  a segment with If-None-Match: 304
  segment    a segment of 2 s; by the GiB
  blocked    many requests for the part that comes next, once a second, against the bare handler, where they wait on a channel

  headload delivery                                                      the level: 5 runs of 15 s
  headload delivery --duration 1s --runs 1 --blocked 100 --only blocked  a short check that it works

The ratios are only meaningful when nothing else runs. 10,000 connections need as many descriptors (ulimit -n).`
}

// The servers that are compared.
const (
	serverHeadwater = "headwater"
	serverNginx     = "nginx"
	serverBare      = "bare"
)

// A deliveryReport compares servers.
type deliveryReport struct {
	PlaylistBytes int              `json:"playlist_bytes,omitempty"`
	SegmentBytes  int              `json:"segment_bytes,omitempty"`
	Costs         []*deliveryCost  `json:"costs"`
	Blocked       []*blockedReport `json:"blocked"`
}

// A deliveryCost is what one case costs each server: medians.
type deliveryCost struct {
	Case  string             `json:"case"`
	Unit  string             `json:"unit"`
	CPU   map[string]float64 `json:"cpu"`  // by server; microseconds a request, or seconds a GiB
	Rate  map[string]float64 `json:"rate"` // requests a second
	Ratio float64            `json:"headwater_to_nginx"`
	Bare  float64            `json:"bare_to_nginx"`

	cpu, rate map[string][]float64
}

// Run compares and reports.
func (c *deliveryCmd) Run(ctx context.Context, con *console) error {
	r, err := c.measure(ctx, con)
	if err != nil {
		return err
	}
	if err := con.report(r, c.JSON); err != nil {
		return err
	}
	most := map[string]float64{"playlist": c.MaxPlaylist, "unchanged": c.MaxUnchanged, "segment": c.MaxSegment}
	for _, cost := range r.Costs {
		if m := most[cost.Case]; m > 0 && cost.Ratio > m {
			return errFailed
		}
	}
	for _, b := range r.Blocked {
		if c.MaxBlocked > 0 && max(b.CPURatio, b.MemoryRatio) > c.MaxBlocked || c.MaxSpread > 0 && b.Spread[serverHeadwater] > c.MaxSpread.Seconds() {
			return errFailed
		}
	}
	return nil
}

func (c *deliveryCmd) wants(what string) bool {
	return len(c.Only) == 0 || slices.Contains(c.Only, what)
}

func (c *deliveryCmd) measure(ctx context.Context, con *console) (*deliveryReport, error) {
	if c.Runs < 1 || c.Duration <= 0 || c.Connections < 1 {
		return nil, errors.New("runs, duration and connections must be positive")
	}
	for _, o := range c.Only {
		if o != "blocked" && !slices.ContainsFunc(closedCases, func(k closedCase) bool { return k.name == o }) {
			return nil, fmt.Errorf("there is no case %q", o)
		}
	}
	dir, err := os.MkdirTemp(c.Dir, "headload-delivery")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers run as another user when the master is root
		return nil, err
	}
	program := c.Headwater
	if program == "" {
		program = filepath.Join(dir, "headwater")
		build := exec.CommandContext(ctx, "go", "build", "-o", program, "headwater/cmd/headwater")
		build.Stdout, build.Stderr = con.log, con.log
		if err := build.Run(); err != nil {
			return nil, fmt.Errorf("building headwater: %w (or give --headwater)", err)
		}
	}
	o, err := c.startOrigin(ctx, con, program)
	if err != nil {
		return nil, err
	}
	defer o.close()
	www := filepath.Join(dir, "www")
	if err := os.Mkdir(www, 0o755); err != nil {
		return nil, err
	}
	r := &deliveryReport{}
	if c.wants("blocked") {
		if err := c.blocked(ctx, con, o, www, r); err != nil {
			return nil, err
		}
	}
	if err := c.closed(ctx, con, o, www, r); err != nil {
		return nil, err
	}
	return r, nil
}

// An origin is headwater with one stream, which is live until it is closed.
type origin struct {
	srv  *server
	addr string
	path string // of the video's media playlist
	idle int64  // what it had of its own before it was asked for much, bytes
	stop context.CancelFunc
	pool *pool
	keep *keepAlive
}

func (o *origin) close() {
	o.stop()
	o.pool.wg.Wait()
	if o.keep != nil {
		o.keep.conn.Close()
	}
	o.srv.stop()
}

// windowTime is how long it takes until a playlist is as long as it gets.
const windowTime = 20 * time.Second

func (c *deliveryCmd) startOrigin(ctx context.Context, con *console, program string) (_ *origin, err error) {
	var addrs [2]string
	for i := range addrs {
		if addrs[i], err = freeAddr(); err != nil {
			return nil, err
		}
	}
	s, err := c.stream()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, "serve", "--rtmp-addr", addrs[0], "--http-addr", addrs[1], "--ops-addr", "", "--log-level", "error", "--data-dir=",
		"--part-target", blockedTick.String())
	cmd.Stdout, cmd.Stderr = con.log, con.log
	srv, err := startServer(ctx, cmd, addrs[0], addrs[1])
	if err != nil {
		return nil, fmt.Errorf("headwater: %w", err)
	}
	run, stop := context.WithCancel(ctx)
	o := &origin{srv: srv, addr: addrs[1], stop: stop, pool: newPool(run, 1)}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	t, err := parseTarget("rtmp://" + addrs[0] + "/live/delivery")
	if err != nil {
		return nil, err
	}
	pub, err := dialPublisher(run, guard{}.dialer(), t, s.prologue)
	if err != nil {
		return nil, err
	}
	o.pool.pacers[0].join <- &paced{pub: pub, name: t.name, cursor: cursor{s: s, out: pub}, end: func(*paced, error) {}} // without it requests fail
	fmt.Fprintf(con.log, "publishing for %v\n", windowTime)
	sleep(ctx, windowTime)
	if o.keep, err = dialKeepAlive(ctx, guard{}.dialer(), o.addr); err != nil {
		return nil, err
	}
	b, _, err := o.get("/live/delivery/index.m3u8")
	if err != nil {
		return nil, err
	}
	v, _, err := parseMultivariant(b)
	if err != nil {
		return nil, err
	}
	if o.path, err = o.resolve("/live/delivery/index.m3u8", v.uri); err != nil {
		return nil, err
	}
	u, err := usageOf(srv.pid())
	o.idle = u.own
	return o, err
}

// get fetches something from the origin.
func (o *origin) get(path string) ([]byte, string, error) {
	var body bytes.Buffer
	a, err := o.keep.ask(request(o.addr, path), &body)
	if err == nil && a.status != 200 {
		err = statusError{a.status}
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	return body.Bytes(), header(a.head, "ETag"), nil
}

func (o *origin) resolve(base, ref string) (string, error) {
	u, err := url.Parse("http://" + o.addr + base)
	if err != nil {
		return "", err
	}
	u, err = resolve(u, ref)
	if err != nil {
		return "", err
	}
	return u.RequestURI(), nil
}

const deliveryNginx = `daemon off;
worker_processes 2;
error_log stderr error;
pid %[1]s/nginx.pid;
events { worker_connections 4096; }
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	keepalive_requests 1000000000;
	types { application/vnd.apple.mpegurl m3u8; video/mp4 m4s; }
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server {
		listen %[2]s;
		root %[1]s/www;
		location / { add_header Cache-Control "public, max-age=1"; }
	}
}
`

func (c *deliveryCmd) startNginx(ctx context.Context, con *console, www string) (*server, string, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, "", err
	}
	dir := filepath.Dir(www)
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, deliveryNginx, dir, addr), 0o644); err != nil {
		return nil, "", err
	}
	cmd := exec.Command(c.Nginx, "-p", dir, "-c", conf, "-e", "stderr")
	cmd.Stderr = con.log
	srv, err := startServer(ctx, cmd, addr)
	if err != nil {
		return nil, "", fmt.Errorf("nginx: %w", err)
	}
	return srv, addr, nil
}

func startBare(ctx context.Context, con *console, www string) (*server, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, "", err
	}
	cmd := exec.Command(self, "bare", "--addr", addr, "--dir", www)
	cmd.Stdout, cmd.Stderr = con.log, con.log
	srv, err := startServer(ctx, cmd, addr)
	return srv, addr, err
}

func (r *deliveryReport) String() string {
	var b strings.Builder
	if r.PlaylistBytes > 0 {
		fmt.Fprintf(&b, "a playlist of %d bytes\n", r.PlaylistBytes)
	}
	if r.SegmentBytes > 0 {
		fmt.Fprintf(&b, "a segment of %d bytes\n", r.SegmentBytes)
	}
	for _, c := range r.Costs {
		fmt.Fprintf(&b, "%-10s nginx %.2f %s, headwater %.2f: %.2f x; bare net/http handler %.2f: %.2f x\n",
			c.Case, c.CPU[serverNginx], c.Unit, c.CPU[serverHeadwater], c.Ratio, c.CPU[serverBare], c.Bare)
	}
	for _, k := range r.Blocked {
		b.WriteString(k.String())
	}
	return b.String()
}
