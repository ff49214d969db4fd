//go:build e2e

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// TestE2EOBS lets OBS Studio publish with the settings of a fresh installation, whose key frames are 8.33 s apart. It has
// no screen here, so it draws on Xvfb.
func TestE2EOBS(t *testing.T) {
	t.Parallel()
	r := startHeadwater(t)
	screen := startPeer(t, nil, "Xvfb", "-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp")
	eventually(t, startPatience, "Xvfb says which display it is", func() bool { return strings.HasSuffix(screen.out.String(), "\n") })

	port := freePorts(t, 1)[0]

	// What OBS's first start and its wizard would write, with the server of Settings > Stream > Custom.
	home := t.TempDir()
	for name, text := range map[string]string{
		"global.ini": "[General]\nFirstRun=true\nLastVersion=486539266\nEnableAutoUpdates=false\n" +
			"[Basic]\nProfile=e2e\nProfileDir=e2e\nSceneCollection=e2e\nSceneCollectionFile=e2e\n" +
			fmt.Sprintf("[OBSWebSocket]\nFirstLoad=false\nServerEnabled=true\nServerPort=%d\nAuthRequired=false\nAlertsEnabled=false\n", port),
		"basic/profiles/e2e/basic.ini": "[General]\nName=e2e\n[Output]\nMode=Simple\n" +
			"[Video]\nBaseCX=640\nBaseCY=360\nOutputCX=640\nOutputCY=360\nFPSCommon=30\n" +
			"[SimpleOutput]\nVBitrate=800\nABitrate=128\nStreamEncoder=x264\nPreset=veryfast\n",
		"basic/profiles/e2e/service.json": fmt.Sprintf(
			`{"type":"rtmp_custom","settings":{"server":"rtmp://%s/live","key":"a","use_auth":false}}`, r.RTMP),
		"basic/scenes/e2e.json": `{"name":"e2e","current_scene":"Scene","current_program_scene":"Scene","scene_order":[{"name":"Scene"}],
			"sources":[{"id":"color_source_v3","name":"Colour","settings":{"color":4291611852,"width":640,"height":360}},
			{"id":"scene","name":"Scene","settings":{"items":[{"name":"Colour","id":1,"visible":true}],"id_counter":1}}]}`,
	} {
		name = filepath.Join(home, "obs-studio", name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startPeer(t, []string{"DISPLAY=:" + strings.TrimSpace(screen.out.String()), "HOME=" + home, "XDG_CONFIG_HOME=" + home,
		"XDG_RUNTIME_DIR=" + home, "LIBGL_ALWAYS_SOFTWARE=1", "QT_QPA_PLATFORM=xcb"},
		"obs", "--multi", "--startstreaming", "--profile", "e2e", "--collection", "e2e",
		"--disable-updater", "--disable-missing-files-check")

	c := &e2eChecking{T: t, running: r}
	c.lost = func() int { return skipped(t, port) }
	c.readBack(12, 30, 48000.0/1024)
	c.adviseOnGOP()
	askOBS(t, port, "StopStream", nil) // the button's
	eventually(t, peerPatience, "OBS has said goodbye", func() bool { return strings.Contains(r.Log.String(), "reason=unpublished") })
	r.checkLog(t, "encoder settings") // key frames every 8.33 s
}

// skipped is how many pictures OBS has not sent: it leaves some out when it does not get rid of what it has. What it renders or encodes
// too late it sends twice.
func skipped(t *testing.T, port int) int {
	t.Helper()
	var stream struct{ OutputSkippedFrames, OutputTotalFrames int }
	var stats struct{ RenderSkippedFrames, OutputSkippedFrames int }
	askOBS(t, port, "GetStreamStatus", &stream)
	askOBS(t, port, "GetStats", &stats)
	if stream.OutputTotalFrames == 0 {
		t.Errorf("OBS has sent no picture: %+v", stream)
	}
	t.Logf("OBS has skipped %d pictures of %d, rendered %d too late, and encoded %d too late",
		stream.OutputSkippedFrames, stream.OutputTotalFrames, stats.RenderSkippedFrames, stats.OutputSkippedFrames)
	return stream.OutputSkippedFrames
}

// askOBS makes a request by the protocol of obs-websocket 5: Hello, Identify, Identified, Request, response.
func askOBS(t *testing.T, port int, request string, response any) {
	t.Helper()
	ws, err := websocket.Dial(fmt.Sprintf("ws://127.0.0.1:%d", port), "obswebsocket.json", "http://127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	ws.SetDeadline(time.Now().Add(peerPatience))
	await := func(op int) (m struct {
		Op int             `json:"op"`
		D  json.RawMessage `json:"d"`
	}) {
		for m.Op = -1; m.Op != op; { // events come in between
			if err := websocket.JSON.Receive(ws, &m); err != nil {
				t.Fatalf("obs-websocket: %v", err)
			}
		}
		return m
	}
	send := func(op int, d map[string]any) {
		if err := websocket.JSON.Send(ws, map[string]any{"op": op, "d": d}); err != nil {
			t.Fatalf("obs-websocket: %v", err)
		}
	}
	await(0)
	send(1, map[string]any{"rpcVersion": 1})
	await(2)
	send(6, map[string]any{"requestType": request, "requestId": "1"})
	m := await(7)
	var d struct {
		RequestStatus struct{ Result bool }
		ResponseData  json.RawMessage
	}
	if err := json.Unmarshal(m.D, &d); err != nil || !d.RequestStatus.Result {
		t.Fatalf("obs-websocket: %s: %v %s", request, err, m.D)
	}
	if response == nil {
		return
	}
	if err := json.Unmarshal(d.ResponseData, response); err != nil {
		t.Fatalf("obs-websocket: %s: %v %s", request, err, m.D)
	}
}
