//go:build e2e

package main

import (
	"net/url"
	"path"
	"strconv"
	"testing"
	"time"

	"headwater/playlist/playlisttest"
)

// A liveEdge is how far a rendition has come: segment and part.
type liveEdge struct{ msn, part int }

func (e liveEdge) before(f liveEdge) bool { return e.msn < f.msn || e.msn == f.msn && e.part < f.part }

// lastPart is the edge of a media playlist.
func lastPart(body string) liveEdge {
	m := playlisttest.Parse([]byte(body))
	s := m.Segments[len(m.Segments)-1]
	if m.Open != nil && len(m.Open.Parts) > 0 {
		s = *m.Open
	}
	return liveEdge{int(s.MSN), len(s.Parts) - 1}
}

// TestE2ELadderRead lets GStreamer play each rendition of a ladder, and ffmpeg all of them at once, and compares what playlists report
// of the other renditions with those (RFC 8216bis 4.4.5.4).
func TestE2ELadderRead(t *testing.T) {
	t.Parallel()
	const seconds = 6
	r := startHeadwater(t)
	args := join(encoding{"-nostdin", "-hide_banner", "-loglevel", "repeat+warning"}, frames(0), sound("48000"))
	for _, e := range rungEncoders {
		args = join(args, e.codecs(0), encoding{"-f", "flv", "rtmp://" + r.RTMP + "/live/cam_" + e.rung})
	}
	startPeer(t, nil, "ffmpeg", args...)
	r.awaitSegments(t, "live/cam", 4, allRungs...)
	lists := r.renditions(t, "live/cam")
	if len(lists) != 4 {
		t.Fatalf("renditions: %v", lists)
	}

	var readers []*peer
	for _, rung := range allRungs {
		readers = append(readers, startPeer(t, []string{"GST_PLUGIN_FEATURE_RANK=hlsdemux2:MAX,hlsdemux:NONE"}, "gst-launch-1.0", "-m", "-v",
			"playbin3", "uri="+lists["video_"+rung], "video-sink=fakesink name=picture silent=false sync=true"))
	}
	all := startPeer(t, nil, "ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "repeat+warning", "-i", r.URL("/live/cam/index.m3u8"),
		"-map", "0", "-t", strconv.Itoa(seconds), "-f", "null", "-")

	for range 20 {
		was := map[string]liveEdge{}
		for id, u := range lists {
			_, body := get(t, u)
			was[id] = lastPart(body)
		}
		said, when := map[string]map[string]liveEdge{}, map[string]liveEdge{}
		for id, u := range lists {
			_, body := get(t, u)
			playlisttest.CheckReports(t, []byte(body), len(lists)-1)
			said[id], when[id] = reports(t, body), lastPart(body)
		}
		for id, u := range lists {
			_, body := get(t, u)
			now := lastPart(body)
			for by, of := range said {
				e, ok := of[id]
				if !ok && by != id {
					t.Errorf("%s reports nothing of %s", by, id)
				}
				// A playlist tells what was so when its own last part came, which was not longer ago than a part or two take, and
				// there are six in a segment.
				old := liveEdge{was[id].msn, was[id].part - 2}
				if old.part < 0 {
					old = liveEdge{was[id].msn - 1, old.part + 6}
				}
				if ok && e.before(old) { // it may have been longer ago on a busy machine, but not when there is another part
					e = reportedAfter(t, lists[by], when[by])[id]
					_, body := get(t, u)
					now = lastPart(body)
				}
				if ok && (e.before(old) || now.before(e)) {
					t.Errorf("%s reports %v of %s, which went from %v to %v", by, e, id, was[id], now)
				}
			}
		}
		time.Sleep(200 * time.Millisecond)
	}

	for i, p := range readers {
		eventually(t, (seconds+20)*time.Second, "GStreamer has played "+allRungs[i], func() bool {
			if !p.running() {
				t.Fatalf("the pipeline has ended:\n%s", tail(p.out.String(), 2000))
			}
			times := presented(p.out.String(), "picture")
			return len(times) > 0 && times[len(times)-1]-times[0] >= seconds*time.Second
		})
		p.kill()
		checkMessages(t, allRungs[i], p)
	}
	if code := all.wait(t, peerPatience); code != 0 {
		t.Errorf("ffmpeg: exit status %d", code)
	}
	checkLines(t, "ffmpeg", all.err.String(), ffmpegHabits...)
	r.checkLog(t)
}

// reportedAfter are the reports of a media playlist as soon as it has come further.
func reportedAfter(t *testing.T, list string, had liveEdge) map[string]liveEdge {
	t.Helper()
	var body string
	eventually(t, peerPatience, list+" goes on", func() bool {
		_, body = get(t, list)
		return had.before(lastPart(body))
	})
	return reports(t, body)
}

// reports are the EXT-X-RENDITION-REPORTs of a media playlist by rendition.
func reports(t *testing.T, body string) map[string]liveEdge {
	t.Helper()
	out := map[string]liveEdge{}
	for _, r := range playlisttest.Parse([]byte(body)).Reports {
		u, err := url.Parse(r["URI"])
		if err != nil {
			t.Fatal(err)
		}
		var e liveEdge
		e.msn, _ = strconv.Atoi(r["LAST-MSN"])
		e.part, _ = strconv.Atoi(r["LAST-PART"])
		out[path.Base(path.Dir(u.Path))] = e
	}
	return out
}
