package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func tool(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, log bytes.Buffer
	code = run(t.Context(), args, &out, &log)
	return code, out.String(), log.String()
}

func TestHelpTeaches(t *testing.T) {
	for _, tt := range []struct{ command, says string }{
		{"", "publish"},
		{"publish", "CPU seconds per stream-second"},
		{"play", "preload hint"},
		{"offload", "the same for any number of players"},
		{"latency", "fetchable"},
		{"bench", "nginx-rtmp"},
	} {
		args := []string{tt.command, "--help"}
		if tt.command == "" {
			args = args[1:]
		}
		code, out, _ := tool(t, args...)
		if code != 0 || !strings.Contains(strings.Join(strings.Fields(out), " "), tt.says) {
			t.Errorf("%v: exit status %d\n%s", args, code, out)
		}
		for line := range strings.Lines(out) {
			if strings.Contains(line, "%!") || strings.Contains(line, "%%") {
				t.Errorf("%v: %s", args, line)
			}
		}
	}
}

func TestMistakesAreOneLine(t *testing.T) {
	for _, args := range [][]string{
		{"publish", "--count", "x"},
		{"publish", "--video-bitrate", "fast"},
		{"publish", "--nonsense"},
		{"fly"},
		{"publish", "--url", "http://127.0.0.1/live/a"},
		{"publish", "--clip", "there-is-no-such-file.flv"},
		{"publish", "--size", "big"},
		{"publish", "--count", "0"},
		{"play", "--players", "0"},
		{"publish", "--url", "rtmp://192.0.2.1/live/a"},
		{"play", "--url", "http://192.0.2.1/live/a/index.m3u8"},
		{"latency", "--rtmp-url", "rtmp://192.0.2.1/live/a"},
		{"latency", "--url", "http://192.0.2.1/live/a/index.m3u8"},
		{"offload", "--url", "http://192.0.2.1/live/a/index.m3u8"},
		{"offload", "--metrics", "http://192.0.2.1/metrics"},
		{"offload", "--players", ""},
		{"offload", "--kinds", "some"},
	} {
		code, out, log := tool(t, args...)
		if code == 0 || strings.Count(log, "\n") != 1 || out != "" {
			t.Errorf("%v: exit status %d, stdout %q, stderr %q", args, code, out, log)
		}
	}
}

func TestGuard(t *testing.T) {
	for url, loopback := range map[string]bool{
		"rtmp://127.0.0.1/live/a": true, "http://127.8.9.1:80/": true, "http://[::1]:80/": true, "http://localhost/": true,
		"http://192.0.2.1/": false, "http://0.0.0.0/": false, "http://[2001:db8::1]/": false, "http://169.254.1.1/": false,
	} {
		err := guard{}.check(t.Context(), url)
		if (err == nil) != loopback {
			t.Errorf("%s: %v", url, err)
		}
		if !loopback {
			if err := (guard{allowRemote: true}).check(t.Context(), url); err != nil {
				t.Errorf("%s, allowed: %v", url, err)
			}
		}
	}
	// A name or redirect that leads elsewhere later is stopped where the connection is made.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := guard{}.dialer().DialContext(ctx, "tcp", "192.0.2.1:80")
	var remote errRemote
	if !errors.As(err, &remote) {
		t.Errorf("dialled: %v", err)
	}
}

func TestParseStat(t *testing.T) {
	u, err := parseStat([]byte("12 (a) b) (c) S 1 12 12 0 -1 4194304 102 0 0 0 150 50 7 3 20 0 1 0 149187 2998272 409"))
	if err != nil || u.cpu != 2100*time.Millisecond {
		t.Errorf("%v, %v", u.cpu, err)
	}
	for _, in := range []string{"", "12 (a) S 1", "12 (a S 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "1 (a) S 1 12 12 0 -1 4194304 102 0 0 0 x 50 7 3 20"} {
		if _, err := parseStat([]byte(in)); err == nil {
			t.Errorf("%q accepted", in)
		}
	}
	if own, err := usageOf(os.Getpid()); err != nil || own.rss < 1<<20 {
		t.Errorf("of this process: %+v, %v", own, err)
	}
}

func TestParseMetric(t *testing.T) {
	const page = "# HELP a x\na{s=\"1 }\",r=\"video\"} 1.5e+06\na{s=\"2\"} 500000 1700000000000\nab{s=\"3\"} 7\na 1\n"
	if n, err := parseMetric(strings.NewReader(page), "a"); err != nil || n != 2_000_001 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := parseMetric(strings.NewReader("a x\n"), "a"); err == nil {
		t.Error("a value that is no number is accepted")
	}
}

func TestMedian(t *testing.T) {
	if m := median([]float64{3, 1, 2}); m != 2 {
		t.Error(m)
	}
	if m := median([]float64{4, 1, 2, 3}); m != 2.5 {
		t.Error(m)
	}
}

// A server that refuses, in each of the ways that servers do.
func TestPublishFailures(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"closes":        func(c net.Conn) { c.Close() },
		"wrong version": func(c net.Conn) { c.Write(bytes.Repeat([]byte{9}, 4000)); readAll(c) },
		"garbage":       func(c net.Conn) { c.Write(bytes.Repeat([]byte{3}, 9000)); readAll(c) },
		"refuses": func(c net.Conn) {
			b := append([]byte{3}, make([]byte, 2*1536)...)
			b = appendChunks(b, 3, 0, 0, 20, 0, appendAMF0(nil, "_error", 1.0, nil, amfObject{{"level", "error"},
				{"code", "NetConnection.Connect.Rejected"}, {"description", "no"}}), 128)
			c.Write(b)
			readAll(c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go serve(c)
				}
			}()
			code, out, log := tool(t, "publish", "--url", "rtmp://"+l.Addr().String()+"/live/a", "--count", "2", "--duration", "200ms", "--ramp", "0s",
				"--video-bitrate", "100k")
			if code != 1 || !strings.Contains(out, "2 failed") {
				t.Errorf("exit status %d\n%s%s", code, out, log)
			}
			if name == "refuses" && !strings.Contains(out, "NetConnection.Connect.Rejected") {
				t.Errorf("the reason is missing:\n%s", out)
			}
		})
	}
}

func readAll(c net.Conn) {
	defer c.Close()
	b := make([]byte, 4096)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

func Example() {
	run(context.Background(), []string{"play", "--url", "http://192.0.2.1/live/a/index.m3u8"}, os.Stdout, os.Stdout)
	fmt.Println("done")
	// Output:
	// headload: 192.0.2.1 is not this machine: give --allow-remote if you may load it
	// done
}
