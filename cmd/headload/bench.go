package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

type benchCmd struct {
	Count      int           `default:"50" help:"Publishers."`
	Duration   time.Duration `default:"60s" help:"Of one run, after the ramp."`
	Runs       int           `default:"3" help:"Of each server, alternating; the report has the medians."`
	Headwater  string        `placeholder:"PATH" help:"The headwater program; without it, it is built from the module of the working directory."`
	Nginx      string        `default:"nginx" help:"The nginx program."`
	RTMPModule string        `name:"rtmp-module" default:"/usr/lib/nginx/modules/ngx_rtmp_module.so" help:"nginx's RTMP module (Debian: libnginx-mod-rtmp)."`
	Dir        string        `default:"/dev/shm" help:"Where nginx writes HLS: a tmpfs, so that the disk is not measured."`
	MaxRatio   float64       `placeholder:"0.6" help:"Exit with 1 when headwater needs more than this times nginx's CPU."`
	MaxMemory  float64       `placeholder:"1.3" help:"Exit with 1 when headwater's memory is more than this times the media it must keep."`
	JSON       bool          `name:"json" help:"Report as JSON."`
	clipFlags
}

// Help is what headload bench --help says beyond its flags.
func (*benchCmd) Help() string {
	return `Publishes to headwater (low latency on, nobody watching) and to nginx-rtmp (writing HLS to a tmpfs: fragments of 2 s,
playlists of 16 s), in turn, on free loopback ports and in temporary folders, and compares CPU seconds per stream-second.

  headload bench                                       the level: 50 publishers of 3.1 Mb/s at 30 fps, 3 runs of 60 s
  headload bench --count 10 --duration 10s --runs 1    a short check that it works

headwater's memory is compared with what it says that it holds (headwater_rendition_retained_bytes), which is steady after
about 40 s. The ratio is only meaningful when nothing else runs.`
}

// A benchReport compares two servers.
type benchReport struct {
	Runs      []benchRun `json:"runs"`
	Nginx     float64    `json:"nginx_cpu_s_per_stream_s"` // medians
	Headwater float64    `json:"headwater_cpu_s_per_stream_s"`
	Ratio     float64    `json:"ratio"`
	RSS       float64    `json:"headwater_rss_per_stream"`
	Retained  float64    `json:"headwater_retained_per_stream"`
	Memory    float64    `json:"headwater_rss_above_idle_to_retained"`
}

type benchRun struct {
	Server   string         `json:"server"`
	Retained int64          `json:"retained_bytes,omitempty"`
	Report   *publishReport `json:"report"`
}

// Run compares and reports.
func (c *benchCmd) Run(ctx context.Context, con *console) error {
	r, err := c.bench(ctx, con)
	if err != nil {
		return err
	}
	if err := con.report(r, c.JSON); err != nil {
		return err
	}
	for _, run := range r.Runs {
		if run.Report.Failed > 0 {
			return errFailed
		}
	}
	if c.MaxRatio > 0 && r.Ratio > c.MaxRatio || c.MaxMemory > 0 && r.Memory > c.MaxMemory {
		return errFailed
	}
	return nil
}

func (c *benchCmd) bench(ctx context.Context, con *console) (*benchReport, error) {
	if c.Runs < 1 {
		return nil, fmt.Errorf("runs must be positive")
	}
	s, err := c.stream()
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "headload")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	program := c.Headwater
	if program == "" {
		program = filepath.Join(tmp, "headwater")
		build := exec.CommandContext(ctx, "go", "build", "-o", program, "headwater/cmd/headwater")
		build.Stdout, build.Stderr = con.log, con.log
		if err := build.Run(); err != nil {
			return nil, fmt.Errorf("building headwater: %w (or give --headwater)", err)
		}
	}

	r := &benchReport{}
	for range c.Runs {
		for _, one := range []func() (benchRun, error){
			func() (benchRun, error) { return c.nginx(ctx, con, s) },
			func() (benchRun, error) { return c.headwater(ctx, con, s, program) },
		} {
			run, err := one()
			if err != nil {
				return nil, err
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			r.Runs = append(r.Runs, run)
			fmt.Fprintf(con.log, "%-10s %.5f CPU-s per stream-second, %.2f MB per stream, %d failed, late writes %v\n", run.Server,
				run.Report.Server.CPU, run.Report.Server.RSSPerStream/1e6, run.Report.Failed, run.Report.Late)
		}
	}
	of := func(server string, f func(benchRun) float64) float64 {
		var v []float64
		for _, run := range r.Runs {
			if run.Server == server {
				v = append(v, f(run))
			}
		}
		return median(v)
	}
	cpu := func(b benchRun) float64 { return b.Report.Server.CPU }
	r.Nginx, r.Headwater = of("nginx", cpu), of("headwater", cpu)
	if r.Nginx > 0 {
		r.Ratio = r.Headwater / r.Nginx
	}
	r.RSS = of("headwater", func(b benchRun) float64 { return b.Report.Server.RSSPerStream })
	r.Retained = of("headwater", func(b benchRun) float64 { return float64(b.Retained) / float64(c.Count) })
	if r.Retained > 0 {
		r.Memory = r.RSS / r.Retained
	}
	return r, nil
}

func median(v []float64) float64 {
	slices.SortFunc(v, cmp.Compare)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func (c *benchCmd) load(s *stream, addr string) load {
	return load{dialer: guard{}.dialer(), url: "rtmp://" + addr + "/live/load%d", stream: s, count: c.Count, ramp: c.GOP, settle: 5 * time.Second}
}

const nginxConfig = `daemon off;
worker_processes 1;
load_module %[1]s;
error_log stderr error;
pid %[2]s/nginx.pid;
events { worker_connections 4096; }
rtmp {
	access_log off;
	server {
		listen %[3]s;
		application live {
			live on;
			hls on;
			hls_path %[2]s/hls;
			hls_fragment 2s;
			hls_playlist_length 16s;
		}
	}
}
`

func (c *benchCmd) nginx(ctx context.Context, con *console, s *stream) (benchRun, error) {
	dir, err := os.MkdirTemp(c.Dir, "headload-nginx")
	if err != nil {
		return benchRun{}, err
	}
	defer os.RemoveAll(dir)
	// The worker runs as another user when the master is root.
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "hls"), 0o777), os.Chmod(filepath.Join(dir, "hls"), 0o777)); err != nil {
		return benchRun{}, err
	}
	addr, err := freeAddr()
	if err != nil {
		return benchRun{}, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConfig, c.RTMPModule, dir, addr), 0o644); err != nil {
		return benchRun{}, err
	}
	cmd := exec.Command(c.Nginx, "-p", dir, "-c", conf, "-e", "stderr")
	cmd.Stderr = con.log
	srv, err := startServer(ctx, cmd, addr)
	if err != nil {
		return benchRun{}, fmt.Errorf("nginx: %w", err)
	}
	defer srv.stop()
	l := c.load(s, addr)
	l.pid = srv.pid()
	var playlists []string
	l.atEnd = func() { playlists, _ = filepath.Glob(filepath.Join(dir, "hls", "*.m3u8")) }
	r, err := l.run(ctx, c.Duration)
	if err == nil && len(playlists) < c.Count-r.Failed && c.Duration > 3*c.GOP && ctx.Err() == nil {
		err = fmt.Errorf("nginx wrote %d playlists for %d publishers", len(playlists), c.Count)
	}
	return benchRun{Server: "nginx", Report: r}, err
}

func (c *benchCmd) headwater(ctx context.Context, con *console, s *stream, program string) (benchRun, error) {
	var addrs [3]string
	for i := range addrs {
		var err error
		if addrs[i], err = freeAddr(); err != nil {
			return benchRun{}, err
		}
	}
	cmd := exec.Command(program, "serve", "--rtmp-addr", addrs[0], "--http-addr", addrs[1], "--ops-addr", addrs[2], "--log-level", "error", "--data-dir=")
	cmd.Stdout, cmd.Stderr = con.log, con.log
	srv, err := startServer(ctx, cmd, addrs[0], addrs[2])
	if err != nil {
		return benchRun{}, fmt.Errorf("headwater: %w", err)
	}
	defer srv.stop()
	l := c.load(s, addrs[0])
	l.pid = srv.pid()
	run := benchRun{Server: "headwater"}
	var scrape error
	l.atEnd = func() {
		run.Retained, scrape = sumMetric(ctx, "http://"+addrs[2]+"/metrics", "headwater_rendition_retained_bytes")
	}
	run.Report, err = l.run(ctx, c.Duration)
	return run, errors.Join(err, scrape)
}

// The ports that freeAddr chooses from: whoever connects from this machine is given a higher one, by Linux's defaults, and
// would take it between being chosen and being listened on.
const firstPort, lastPort = 10_000, 32_767

// freeAddr returns a loopback address that nothing listens on now.
func freeAddr() (addr string, err error) {
	for range 100 {
		addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort+1)))
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", err
}

// sumMetric adds up a metric over its labels, from a Prometheus text page.
func sumMetric(ctx context.Context, url, name string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, statusError{resp.StatusCode}
	}
	return parseMetric(resp.Body, name)
}

func parseMetric(r io.Reader, name string) (int64, error) {
	sum := 0.0
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		rest, ok := strings.CutPrefix(sc.Text(), name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		f := strings.Fields(rest[strings.LastIndexByte(rest, '}')+1:])
		if len(f) == 0 {
			continue
		}
		v, err := strconv.ParseFloat(f[0], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", name, err)
		}
		sum += v
	}
	return int64(sum), sc.Err()
}

func (r *benchReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "nginx-rtmp        %.5f CPU-s per stream-second\n", r.Nginx)
	fmt.Fprintf(&b, "headwater         %.5f CPU-s per stream-second\n", r.Headwater)
	fmt.Fprintf(&b, "ratio             %.2f\n", r.Ratio)
	fmt.Fprintf(&b, "headwater memory  %.2f MB per stream above idle, of %.2f MB of media retained: %.2f\n", r.RSS/1e6, r.Retained/1e6, r.Memory)
	for _, run := range r.Runs {
		writeCounts(&b, run.Server+" failure", run.Report.Failures)
	}
	return b.String()
}
