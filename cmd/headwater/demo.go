package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"headwater/cmd/headwater/demo"
	"headwater/segmenter"
)

const (
	demoApp    = "live"
	demoStream = "demo"
	demoName   = demoApp + "/" + demoStream
	demoRetry  = 5 * time.Second
)

// keepLocal makes addresses that nobody has chosen reachable from this machine only.
func keepLocal(l *Loaded) {
	s := &l.Settings
	for flag, addr := range map[string]*string{"rtmp-addr": &s.RTMPAddr, "http-addr": &s.HTTPAddr} {
		if l.From[flag] == fromDefault {
			*addr = "127.0.0.1" + *addr
		}
	}
	if s.HTTPSAddr == "" && s.tls() {
		s.HTTPSAddr = "127.0.0.1" + defaultHTTPSAddr
	}
}

// demoKey returns the key to publish the demo with, "" if none is needed.
func demoKey(s *Settings) (string, error) {
	if k := s.PublishKeysByName[demoName]; k != "" {
		return k, nil
	}
	if len(s.PublishKeys) > 0 {
		return s.PublishKeys[0], nil
	}
	if len(s.PublishKeysByName) > 0 {
		return "", errors.New("publish_keys_by_name: there are keys, but none opens " + demoName + ", which the demo publishes")
	}
	return "", nil
}

// publishDemo publishes the clip through the origin's own RTMP address until ctx ends. ready is called once, with what
// to tell the user, when the clip is being published. An error means that it never was. Somebody else who takes over the name is left in peace for as long as they publish.
func publishDemo(ctx context.Context, o *segmenter.Origin, s *Settings, addrs Addrs, log *slog.Logger, ready func(text string)) error {
	clip, err := demo.Load()
	if err != nil {
		return fmt.Errorf("demo clip: %w", err)
	}
	key, err := demoKey(s)
	if err != nil {
		return err
	}
	stream := demoStream
	if key != "" {
		stream += "?key=" + strings.ReplaceAll(url.QueryEscape(key), "+", "%20")
	}
	began := false
	started := func() {
		if !began {
			began = true
			ready(demoText(addrs, key != ""))
		}
	}
	for {
		err := publishOnce(ctx, addrs.RTMP, stream, clip, started)
		if ctx.Err() != nil {
			return nil
		}
		if !began {
			return fmt.Errorf("demo: %w", err)
		}
		log.Warn("demo clip interrupted", "err", err)
		for publishing := true; publishing; {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(demoRetry):
			}
			st, ok := o.Stream(demoName)
			publishing = ok && st.Status().Publishing
		}
	}
}

func publishOnce(ctx context.Context, addr, stream string, clip *demo.Clip, started func()) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return demo.Publish(ctx, nc, demoApp, stream, clip, started)
}

// demoText tells where everything is.
func demoText(a Addrs, key bool) string {
	http, rtmp := display(a.HTTP), display(a.RTMP)
	name := "NAME"
	if key {
		name = "NAME?key=KEY"
	}
	text := "\n" +
		"  Headwater is live: a test clip goes round and round as " + demoName + ".\n\n" +
		"    Watch      http://" + http + "/" + demoName + "/\n" +
		"    Playlist   http://" + http + "/" + demoName + "/index.m3u8\n" +
		"    Publish    rtmp://" + rtmp + "/live/" + name + "\n" +
		"               (OBS: Server rtmp://" + rtmp + "/live, Stream Key " + name + ", Keyframe Interval 2 s)\n\n"
	if isLoopback(a.HTTP) {
		text += "  Only this machine can reach it. For others too: headwater demo --http-addr :8080 --rtmp-addr :1935\n"
	}
	return text + "  Ctrl-C stops it.\n\n"
}

// display is how a person on this machine writes a bound address.
func display(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

func isLoopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
