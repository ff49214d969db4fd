package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yapingcat/gomedia/go-codec"
	"github.com/yapingcat/gomedia/go-rtmp"
)

// receiver is an RTMP server by somebody else, gomedia's; it is for friends only, which is what this tool is.
type receiver struct {
	addr string
	wg   sync.WaitGroup
	open sync.WaitGroup // connections that are being served
	mu   sync.Mutex     // protects the rest
	got  map[string]map[codec.CodecID][]receivedFrame
}

type receivedFrame struct {
	dts  uint32
	size int
}

func receive(t *testing.T) *receiver {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{addr: l.Addr().String(), got: map[string]map[codec.CodecID][]receivedFrame{}}
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.open.Go(func() { r.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.wg.Wait()
		r.open.Wait()
	})
	return r
}

func (r *receiver) serve(c net.Conn) {
	defer c.Close()
	h := rtmp.NewRtmpServerHandle()
	h.SetOutput(func(b []byte) error {
		_, err := c.Write(b)
		return err
	})
	h.OnPublish(func(app, name string) rtmp.StatusCode { return rtmp.NETSTREAM_PUBLISH_START })
	h.OnFrame(func(id codec.CodecID, pts, dts uint32, frame []byte) {
		r.mu.Lock()
		defer r.mu.Unlock()
		name := h.GetApp() + "/" + h.GetStreamName()
		if r.got[name] == nil {
			r.got[name] = map[codec.CodecID][]receivedFrame{}
		}
		r.got[name][id] = append(r.got[name][id], receivedFrame{dts, len(frame)})
	})
	b := make([]byte, 64<<10)
	for {
		n, err := c.Read(b)
		if err != nil || h.Input(b[:n]) != nil {
			return
		}
	}
}

// What the tool sends is what another implementation of RTMP receives: names, frames, time stamps, over the loop's seam.
func TestPublishToGomedia(t *testing.T) {
	for _, extra := range [][]string{nil, {"--coalesce", "--chunk-size", "60000"}} {
		r := receive(t)
		code, out, log := tool(t, append([]string{"publish", "--url", "rtmp://" + r.addr + "/live/load%d", "--count", "3", "--duration", "3s",
			"--ramp", "100ms", "--gop", "320ms", "--fps", "25", "--video-bitrate", "400k", "--size", "320x192", "--json"}, extra...)...)
		var report publishReport
		if code != 0 {
			t.Fatalf("exit status %d\n%s%s", code, out, log)
		}
		if err := json.Unmarshal([]byte(strings.ReplaceAll(out, "\n", "")), &struct {
			*publishReport
			Late any `json:"late_writes"`
		}{publishReport: &report}); err != nil {
			t.Fatal(err)
		}
		if report.Publishers != 3 || report.Failed != 0 || report.Bytes < 3*400_000/8 {
			t.Errorf("report %+v", report)
		}
		r.open.Wait() // until they have read all that was sent
		r.mu.Lock()
		most := int(report.Seconds*25) + 5 // of pictures: they are paced
		for _, name := range []string{"live/load0", "live/load1", "live/load2"} {
			tracks := r.got[name]
			video, audio := tracks[codec.CODECID_VIDEO_H264], tracks[codec.CODECID_AUDIO_AAC]
			if len(video) < 20 || len(video) > most || len(audio) < 40 {
				t.Errorf("%s: %d pictures, %d audio frames", name, len(video), len(audio))
				continue
			}
			for i, f := range video[1:] {
				if d := f.dts - video[i].dts; d != 40 {
					t.Errorf("%s: picture %d is %d ms after the one before", name, i+1, d)
				}
			}
			for i, f := range audio[1:] {
				if d := f.dts - audio[i].dts; d != 21 && d != 22 {
					t.Errorf("%s: audio frame %d is %d ms after the one before", name, i+1, d)
				}
			}
		}
		r.mu.Unlock()
	}
}

// nginx with its RTMP module takes the streams and cuts them into segments that ffprobe finds whole.
func TestPublishToNginx(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of real time")
	}
	nginx := needPeer(t, "nginx")
	const module = "/usr/lib/nginx/modules/ngx_rtmp_module.so"
	if _, err := os.Stat(module); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	cmd := benchCmd{Count: 5, Duration: 5 * time.Second, Nginx: nginx, RTMPModule: module, Dir: t.TempDir(),
		clipFlags: clipFlags{VideoBitrate: 500_000, AudioBitrate: 64_000, FPS: rate{30, 1}, GOP: time.Second, Size: "640x360", Seed: 1, ChunkSize: 4096}}
	// The worker may run as another user, who has to reach the folder.
	for dir := cmd.Dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s, err := cmd.stream()
	if err != nil {
		t.Fatal(err)
	}
	run, err := cmd.nginx(t.Context(), &console{io.Discard, testLog{t}}, s)
	if err != nil {
		t.Fatal(err)
	}
	if r := run.Report; r.Failed > 0 || r.Server.StreamSeconds < 5 || r.Server.RSSEnd < 1<<20 {
		t.Errorf("%v", r)
	}
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s", b)
	return len(b), nil
}

// The tool against the real origin: push, play with parts and with segments, measure.
func TestHeadwater(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of real time")
	}
	program := filepath.Join(t.TempDir(), "headwater")
	if out, err := exec.Command("go", "build", "-o", program, "headwater/cmd/headwater").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var addrs [3]string
	for i := range addrs {
		addrs[i], _ = freeAddr()
	}
	cmd := exec.Command(program, "serve", "--rtmp-addr", addrs[0], "--http-addr", addrs[1], "--ops-addr", addrs[2], "--log-level", "error", "--data-dir=")
	cmd.Stderr = testLog{t}
	srv, err := startServer(t.Context(), cmd, addrs[:]...)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.stop()

	ctx, cancel := context.WithCancel(t.Context())
	published := make(chan *publishReport, 1)
	c := clipFlags{VideoBitrate: 500_000, AudioBitrate: 64_000, FPS: rate{30, 1}, GOP: 2 * time.Second, Size: "640x360", Seed: 1, ChunkSize: 4096}
	s, err := c.stream()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		l := load{dialer: guard{}.dialer(), url: "rtmp://" + addrs[0] + "/live/load%d", stream: s, count: 3, pid: srv.pid()}
		r, err := l.run(ctx, time.Minute)
		if err != nil {
			t.Error(err)
		}
		published <- r
	}()
	playURL := "http://" + addrs[1] + "/live/load%d/index.m3u8"
	var wg sync.WaitGroup
	for _, kind := range []struct {
		flag  string
		count func(*playReport) int64
		least int64
	}{
		{"--low-latency", func(r *playReport) int64 { return r.Parts }, 6 * 2 * 15},
		{"--no-low-latency", func(r *playReport) int64 { return r.Segments }, 6 * 2 * 2},
	} {
		wg.Go(func() {
			code, out, log := tool(t, "play", "--url", playURL, "--streams", "3", "--players", "6", "--duration", "12s", "--json", kind.flag)
			var r playReport
			if err := json.Unmarshal([]byte(out), &struct {
				*playReport
				Latency, Reload any
			}{playReport: &r}); err != nil {
				t.Errorf("%v: %s", err, log)
				return
			}
			if code != 0 || r.Renditions != 12 || kind.count(&r) < kind.least {
				t.Errorf("%s: exit status %d\n%s%s", kind.flag, code, out, log)
			}
		})
	}
	wg.Wait()
	code, out, log := tool(t, "latency", "--rtmp-url", "rtmp://"+addrs[0]+"/live/latency", "--url", "http://"+addrs[1]+"/live/latency/index.m3u8",
		"--duration", "6s", "--video-bitrate", "500k", "--size", "640x360")
	t.Logf("%s", out)
	if code != 0 || !strings.Contains(out, "fetchable") {
		t.Errorf("latency: exit status %d\n%s%s", code, out, log)
	}
	cancel()
	if r := <-published; r == nil || r.Failed > 0 || r.Bytes == 0 {
		t.Errorf("%v", r)
	}
	if n, err := sumMetric(t.Context(), "http://"+addrs[2]+"/metrics", "headwater_rendition_retained_bytes"); err != nil || n < 500_000 {
		t.Errorf("headwater says that it retains %d bytes, %v", n, err)
	}
}
