package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The files that nginx and the bare handler serve.
const (
	playlistFile = "index.m3u8"
	segmentFile  = "s.m4s"
)

// A closedCase is something that is answered at once, so that a connection asks for it in a closed loop: again when it has been answered.
type closedCase struct {
	name, unit string
	file       string
	status     int
}

var closedCases = []closedCase{
	{"playlist", "us/request", playlistFile, 200},
	{"unchanged", "us/request", segmentFile, 304},
	{"segment", "s/GiB", segmentFile, 200},
}

// closed measures what is answered at once, each case in turn and in each run the newest that there is: what is live goes.
func (c *deliveryCmd) closed(ctx context.Context, con *console, o *origin, www string, r *deliveryReport) error {
	nginx, nginxAddr, err := c.startNginx(ctx, con, www)
	if err != nil {
		return err
	}
	defer nginx.stop()
	for _, one := range closedCases {
		if !c.wants(one.name) {
			continue
		}
		cost := &deliveryCost{Case: one.name, Unit: one.unit, cpu: map[string][]float64{}, rate: map[string][]float64{}}
		for range c.Runs {
			path, tag, err := o.take(one.file, www, r)
			if err != nil {
				return err
			}
			bare, bareAddr, err := startBare(ctx, con, www)
			if err != nil {
				return err
			}
			for _, to := range []*contender{
				{name: serverHeadwater, pid: o.srv.pid(), addr: o.addr, path: path, tag: tag}, // first: it is what may go
				{name: serverNginx, pid: nginx.pid(), addr: nginxAddr, path: "/" + one.file},
				{name: serverBare, pid: bare.pid(), addr: bareAddr, path: "/" + one.file, tag: bareTag[0]},
			} {
				if err = c.compete(ctx, con, to, &one, cost); err != nil {
					err = fmt.Errorf("%s, %s: %w", one.name, to.name, err)
					break
				}
			}
			bare.stop()
			if err != nil {
				return err
			}
		}
		cost.finish()
		r.Costs = append(r.Costs, cost)
	}
	return nil
}

// take puts the origin's playlist, or the newest whole segment in it, where the others serve it from, and returns its path on the
// origin and its entity tag.
func (o *origin) take(file, www string, r *deliveryReport) (path, tag string, err error) {
	path = o.path
	body, tag, err := o.get(path)
	if err != nil {
		return "", "", err
	}
	if file == playlistFile {
		r.PlaylistBytes = len(body)
	} else {
		pl, err := parseMedia(body)
		if err != nil {
			return "", "", err
		}
		last := len(pl.segments) - 1
		for last >= 0 && pl.segments[last].uri == "" {
			last--
		}
		if last < 0 {
			return "", "", errors.New("the playlist lists no segment")
		}
		if path, err = o.resolve(o.path, pl.segments[last].uri); err != nil {
			return "", "", err
		}
		if body, tag, err = o.get(path); err != nil {
			return "", "", err
		}
		r.SegmentBytes = len(body)
	}
	return path, tag, os.WriteFile(filepath.Join(www, file), body, 0o644)
}

// A contender is one of the servers, asked for one case.
type contender struct {
	name, addr string
	pid        int
	path, tag  string // tag "" is not known
}

// compete measures a server once.
func (c *deliveryCmd) compete(ctx context.Context, con *console, to *contender, one *closedCase, cost *deliveryCost) error {
	var headers []string
	if one.status == 304 {
		if to.tag == "" {
			k, err := dialKeepAlive(ctx, guard{}.dialer(), to.addr)
			if err != nil {
				return err
			}
			defer k.conn.Close()
			a, err := k.ask(request(to.addr, to.path), nil)
			if err != nil {
				return err
			}
			to.tag = header(a.head, "ETag")
		}
		headers = []string{"If-None-Match: " + to.tag}
	}
	n, size, cpu, err := c.drive(ctx, to, request(to.addr, to.path, headers...), one.status)
	if err != nil {
		return err
	}
	v := cpu.Seconds() * 1e6 / float64(n)
	if one.unit == "s/GiB" {
		v = cpu.Seconds() / (float64(n) * float64(size) / (1 << 30))
	}
	rate := float64(n) / c.Duration.Seconds()
	cost.cpu[to.name] = append(cost.cpu[to.name], v)
	cost.rate[to.name] = append(cost.rate[to.name], rate)
	fmt.Fprintf(con.log, "%-10s %-10s %8.2f %s, %.0f requests/s\n", one.name, to.name, v, one.unit, rate)
	return nil
}

func (d *deliveryCost) finish() {
	d.CPU, d.Rate = map[string]float64{}, map[string]float64{}
	for k, v := range d.cpu {
		d.CPU[k], d.Rate[k] = median(v), median(d.rate[k])
	}
	if n := d.CPU[serverNginx]; n > 0 {
		d.Ratio, d.Bare = d.CPU[serverHeadwater]/n, d.CPU[serverBare]/n
	}
}

// drive asks one server on all connections for as long as a run lasts, and returns how many answers there were, how long the
// last one was, and what they cost the server.
func (c *deliveryCmd) drive(ctx context.Context, to *contender, request []byte, status int) (n int64, size int, cpu time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	var conns []*keepAlive
	defer func() {
		for _, k := range conns {
			k.conn.Close()
		}
	}()
	for range c.Connections {
		k, err := dialKeepAlive(ctx, guard{}.dialer(), to.addr)
		if err != nil {
			return 0, 0, 0, err
		}
		conns = append(conns, k)
	}
	before, err := usageOf(to.pid)
	if err != nil {
		return 0, 0, 0, err
	}
	var (
		mu sync.Mutex // protects the results
		wg sync.WaitGroup
	)
	for _, k := range conns {
		wg.Go(func() {
			var mine int64
			var a answer
			var failed error
			for ctx.Err() == nil && failed == nil {
				if a, failed = k.ask(request, nil); failed == nil && a.status != status {
					failed = statusError{a.status}
				}
				mine++
			}
			mu.Lock()
			defer mu.Unlock()
			n, size = n+mine, a.size
			if err == nil {
				err = failed
			}
		})
	}
	wg.Wait()
	after, uerr := usageOf(to.pid)
	return n, size, after.cpu - before.cpu, errors.Join(err, uerr)
}
