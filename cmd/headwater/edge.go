package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"headwater/segmenter"
	"headwater/web"
	"headwater/web/edges"
)

// An edgeCommand is what can be written after edge-config, beside the settings.
type edgeCommand struct {
	Edge      string `arg:"" enum:"nginx,varnish,trafficserver,cloudfront,fastly" help:"nginx, varnish, trafficserver, cloudfront or fastly."`
	Origin    string `env:"-" placeholder:"HOST:PORT" help:"Where the edge fetches, also https://HOST. Without it: http-addr, on this machine if that names no other."`
	Listen    string `env:"-" default:":80" placeholder:"ADDR" help:"Where nginx, varnish and trafficserver serve players."`
	CacheDir  string `env:"-" placeholder:"DIR" help:"Where nginx and trafficserver keep what they have; it has to exist. By default in /var/cache."`
	CacheSize int    `env:"-" default:"1024" placeholder:"MIB" help:"Of the cache, MiB."`
	Dir       string `env:"-" placeholder:"DIR" help:"Write the files into this folder instead of printing them. It has to exist."`
}

// Help is what headwater edge-config --help says beyond its flags.
func (*edgeCommand) Help() string {
	return `The configuration fits the settings that the origin runs with: give this command the same file, variables or flags. It makes the
edge honour Cache-Control, keeps to path, _HLS_msn, _HLS_part and _HLS_skip as the cache key, sends one request for an object to
the origin however many players want it, and waits longer than the origin holds a request.

    headwater edge-config nginx --config headwater.yaml --origin 10.0.0.5:8080 > /etc/nginx/nginx.conf
    headwater edge-config varnish --origin 10.0.0.5:8080 > /etc/varnish/headwater.vcl
    headwater edge-config trafficserver --origin 10.0.0.5:8080 --dir /etc/trafficserver
    headwater edge-config cloudfront --origin https://origin.example.com > headwater.json     # CloudFormation
    headwater edge-config fastly --origin https://origin.example.com > main.vcl

Traffic Server has several files; without --dir they are printed one after the other, each after a line "==> NAME <==". Make the
configuration anew when target-duration, long-gop or http-addr change.`
}

// edgeConfig prints the configuration of an edge, or writes its files.
func edgeConfig(l *Loaded, stdout io.Writer) error {
	c := l.Edge
	cdn := c.Edge == edges.CloudFront || c.Edge == edges.Fastly
	if c.Origin == "" {
		if cdn {
			return fmt.Errorf("say with --origin under which name %s reaches the origin: HOST:PORT or https://HOST", c.Edge)
		}
		if c.Origin = localOrigin(l.Settings.HTTPAddr); c.Origin == "" {
			return errors.New("http_addr leaves the port open: say with --origin where the edge reaches the origin")
		}
	}
	if c.CacheDir == "" {
		c.CacheDir = map[string]string{edges.TrafficServer: "/var/cache/trafficserver"}[c.Edge]
		if c.CacheDir == "" {
			c.CacheDir = "/var/cache/headwater"
		}
	}
	files, err := edges.Render(c.Edge, edges.Config{
		Origin: c.Origin, Listen: c.Listen, CacheDir: c.CacheDir, CacheSize: c.CacheSize,
		Hold: l.Settings.longestHold(), Streams: l.Settings.edgeStreams(),
	})
	if err != nil {
		return err
	}
	for i, f := range files {
		if c.Dir != "" {
			if err := os.WriteFile(filepath.Join(c.Dir, f.Name), []byte(f.Text), 0o644); err != nil {
				return err
			}
			continue
		}
		if len(files) > 1 {
			if i > 0 {
				fmt.Fprintln(stdout)
			}
			fmt.Fprintf(stdout, "==> %s <==\n", f.Name)
		}
		if _, err := io.WriteString(stdout, f.Text); err != nil {
			return err
		}
	}
	return nil
}

// localOrigin is how an edge on the same machine reaches what listens at addr; "" when the port is not known before.
func localOrigin(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" || port == "" {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// longestHold is how long a request may be held, whatever stream it is for: three target durations (RFC 8216bis 6.2.5.2), and for a
// stream that is starting also as long as the server lets its first group of pictures take.
func (s *Settings) longestHold() time.Duration {
	var hold time.Duration
	for _, c := range s.everyStream() {
		hold = max(hold, 3*c.longestTarget())
		if segmenter.LongGOP(c.LongGOP) == segmenter.Stretch {
			hold = max(hold, web.DefaultWarmUp)
		}
	}
	return hold
}

// edgeStreams describes the settings for a configuration's readers.
func (s *Settings) edgeStreams() []edges.Stream {
	var all []edges.Stream
	for i, c := range s.everyStream() {
		e := edges.Stream{Target: c.TargetDuration, Part: c.PartTarget, Stretch: segmenter.LongGOP(c.LongGOP) == segmenter.Stretch}
		if i > 0 {
			e.Pattern = strings.TrimSpace(s.Streams[i-1].Pattern)
		}
		all = append(all, e)
	}
	return all
}
