//go:build e2e

package main

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"headwater/playlist/playlisttest"
)

var (
	pushed720p = rungEncoder{"", "1280x720", 3, "1500k"}
	madeRungs  = []string{"", "480p", "360p"} // of its video, and what is pushed
)

// These tests do not run beside others: what encodes in real time needs the processor.

// pushSource publishes a source of which the origin makes a ladder, and returns the first process that does.
func (r *running) pushSource(t *testing.T) (push *peer, child int) {
	t.Helper()
	push = r.publish(t, "live/cam", join(frames(0), sound("48000"), pushed720p.codecs(0)))
	return push, r.child(t, 0)
}

var startedLine = regexp.MustCompile(`msg="ffmpeg started" stream=live/cam pid=(\d+) rungs="480p 360p audio"`)

// child returns the process that was started as the nth, from 0.
func (r *running) child(t *testing.T, n int) (pid int) {
	t.Helper()
	eventually(t, startPatience, "ffmpeg has been started "+strconv.Itoa(n+1)+" times", func() bool {
		all := startedLine.FindAllStringSubmatch(r.Log.String(), -1)
		if len(all) <= n {
			return false
		}
		pid, _ = strconv.Atoi(all[n][1])
		return true
	})
	return pid
}

// notFed is how many pictures there were that ffmpeg was too slow to be given: none, but on a busy machine.
func (r *running) notFed(t *testing.T) int {
	t.Helper()
	const name = "headwater_ladder_dropped_frames_total"
	return int(r.metrics(t, name)[name])
}

func processLives(pid int) bool { return syscall.Kill(pid, 0) == nil }

// TestE2ELadderMade pushes one rendition. The others are made of it, are in the first multivariant playlist and show the same
// pictures at the same times; when what makes them is killed, the source goes on, and they come back.
func TestE2ELadderMade(t *testing.T) {
	r := startHeadwater(t, "--ladder=1080p,480p,360p,audio")
	push, child := r.pushSource(t)
	r.awaitLive(t, "live/cam")
	before := r.renditions(t, "live/cam")
	for _, id := range []string{"video", "video_480p", "video_360p", "audio", "audio_audio"} {
		if before[id] == "" {
			t.Errorf("the first multivariant playlist lacks %s: %v", id, before)
		}
	}
	if len(before) != 5 {
		t.Errorf("it has %v", before)
	}
	_, multivariant := get(t, r.URL("/live/cam/index.m3u8"))
	playlisttest.Check(t, []byte(multivariant))
	if n := strings.Count(multivariant, `AUDIO="audio"`); n != 3 {
		t.Errorf("%d variants have the audio group, want 3:\n%s", n, multivariant)
	}
	r.awaitSegments(t, "live/cam", 4, madeRungs...)
	if n := r.checkLadderBut(t, "live/cam", 0, r.notFed(t), madeRungs...); n < 3 {
		t.Errorf("the rungs have %d segments in common", n)
	}
	r.checkMadeAudio(t)
	for _, in := range r.inputs(t, "live/cam") {
		if want := map[bool]string{true: "leading", false: "following"}[in.Rendition == ""]; in.State != want || in.Reason != "" {
			t.Errorf("the page is told %+v", in)
		}
	}

	follow := r.follow(t, "live/cam")
	cut := follow.last("video_480p").MSN + uint64(len(follow.last("video_480p").Segments))
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := r.child(t, 1)
	from := follow.last("video").MSN + uint64(len(follow.last("video").Segments))
	eventually(t, startPatience, "the rungs are back", func() bool {
		for _, id := range []string{"video_480p", "video_360p", "audio_audio"} {
			all := follow.last(id).Segments
			if n := len(all); n < 2 || all[n-2].MSN <= from || slices.ContainsFunc(all[n-2:], isGap) {
				return false
			}
		}
		return true
	})
	if after := r.renditions(t, "live/cam"); after["video_480p"] != before["video_480p"] || after["audio_audio"] != before["audio_audio"] {
		t.Errorf("the renditions were %v and are %v", before, after)
	}
	if n := r.checkLadderBut(t, "live/cam", cut, r.notFed(t), madeRungs...); n < 2 {
		t.Errorf("the rungs have %d segments in common", n)
	}
	for _, id := range []string{"video", "audio"} {
		p := follow.last(id)
		if p.DiscSeq > 0 || slices.ContainsFunc(p.Segments, func(s playlisttest.Segment) bool { return s.Gap || s.Discontinuity }) {
			t.Errorf("%s has a hole: %+v", id, p.Segments)
		}
	}
	follow.end()
	for path := range follow.bodies {
		if !strings.Contains(path, "/video/") && !strings.Contains(path, "/audio/") {
			delete(follow.bodies, path) // what was cut short with the process is shorter than its EXTINF
		}
	}
	follow.check(t)

	_, metrics := get(t, "http://"+r.Ops+"/metrics")
	for _, want := range []string{"headwater_ladder_children 1", "headwater_ladder_restarts_total 1", "headwater_ladder_failures_total 1", "headwater_publications 1"} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if m := regexp.MustCompile(`headwater_ladder_cpu_seconds_total (\S+)`).FindStringSubmatch(metrics); m == nil || m[1] == "0" {
		t.Errorf("CPU: %v", m)
	}

	push.interrupt(t)
	eventually(t, peerPatience, "nothing is left of the ladder", func() bool {
		return !processLives(child) && !processLives(second) && len(r.inputs(t, "live/cam")) == 0
	})
	r.checkLog(t, `msg="ffmpeg ended" stream=live/cam err="signal: killed"`, "did not end as it was told to") // a busy machine
}

// checkMadeAudio checks that the audio that was made has the segments of the video, each within a frame of it.
func (r *running) checkMadeAudio(t *testing.T) {
	t.Helper()
	urls := r.renditions(t, "live/cam")
	segments := map[uint64]string{}
	_, body := get(t, urls["video"])
	for _, s := range playlisttest.Parse([]byte(body)).Segments {
		segments[s.MSN] = s.PDT
	}
	_, body = get(t, urls["audio_audio"])
	n := 0
	for _, s := range playlisttest.Parse([]byte(body)).Segments {
		if segments[s.MSN] == "" || s.Gap {
			continue
		}
		n++
		a, err1 := time.Parse(time.RFC3339, s.PDT)
		v, err2 := time.Parse(time.RFC3339, segments[s.MSN])
		if err1 != nil || err2 != nil || math.Abs(a.Sub(v).Seconds()) > 1024.0/48000+0.001 {
			t.Errorf("segment %d begins at %s, the audio that was made at %s", s.MSN, segments[s.MSN], s.PDT)
		}
	}
	if n < 3 {
		t.Errorf("only %d segments of the audio that was made:\n%s", n, body)
	}
}

// TestE2ELadderStops stops the origin while it makes a ladder: no process is left when it has ended.
func TestE2ELadderStops(t *testing.T) {
	r := startHeadwater(t, "--ladder=480p,360p,audio")
	_, child := r.pushSource(t)
	r.awaitSegments(t, "live/cam", 1, madeRungs...)
	began := time.Now()
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > ladderWait+7*time.Second { // three target durations for readers
		t.Errorf("it took %v", d)
	}
	if processLives(child) {
		t.Error("ffmpeg lives")
	}
	if strings.Contains(r.Log.String(), "ffmpeg has not ended in time") {
		t.Error("it was not waited for")
	}
}

// TestE2ELadderRungPushed pushes what is also being made: the push comes before it, and when that has ended, what is made is back.
func TestE2ELadderRungPushed(t *testing.T) {
	r := startHeadwater(t, "--ladder=480p,360p,audio", "--unpublish-grace=60s")
	r.pushSource(t)
	r.awaitSegments(t, "live/cam", 1, madeRungs...)
	own := r.publish(t, "live/cam_360p", join(picture("25"), sound("48000"), h264("50"), aac("2")))
	eventually(t, startPatience, "the rung that is made has given way", func() bool {
		return strings.Contains(r.Log.String(), "another publisher took over") && strings.Contains(r.Log.String(), "rung cannot be opened")
	})
	own.interrupt(t)
	eventually(t, startPatience, "it is back", func() bool {
		i := slices.IndexFunc(r.inputs(t, "live/cam"), func(i ladderInput) bool { return i.Rendition == "360p" && i.State == "following" })
		return i >= 0 && !own.running()
	})
	r.checkLadder(t, "live/cam", "", "480p")
}

// TestE2ELadderSourceReturns loses the source and gets it back, on another clock: the rungs go on with it, under their URLs, with
// the same discontinuity.
func TestE2ELadderSourceReturns(t *testing.T) {
	r := startHeadwater(t, "--ladder=480p,360p,audio")
	push, _ := r.pushSource(t)
	r.awaitSegments(t, "live/cam", 2, madeRungs...)
	before := r.renditions(t, "live/cam")
	push.kill()
	r.publish(t, "live/cam", join(frames(0), sound("48000"), pushed720p.codecs(0)))
	r.child(t, 1)
	all := map[string]map[uint64]playlisttest.Segment{}
	eventually(t, startPatience, "every rendition has two segments of the new push", func() bool {
		for id, url := range before {
			_, body := get(t, url)
			all[id] = map[uint64]playlisttest.Segment{}
			for _, s := range playlisttest.Parse([]byte(body)).Segments {
				if s.DiscSeq == 1 && !s.Gap {
					all[id][s.MSN] = s
				}
			}
			if len(all[id]) < 2 {
				return false
			}
		}
		return true
	})
	for _, rung := range madeRungs[1:] {
		for msn, s := range all[videoOf(rung)] {
			if x, ok := all["video"][msn]; ok && (x.Duration != s.Duration || x.PDT != s.PDT || x.Discontinuity != s.Discontinuity) {
				t.Errorf("segment %d: %s %s %v, of %s %s %s %v", msn, x.Duration, x.PDT, x.Discontinuity, rung, s.Duration, s.PDT, s.Discontinuity)
			}
		}
	}
	r.checkLog(t, "connection was lost without an unpublish", "connection reset by peer",
		"msg=ffmpeg ", "did not end as it was told to") // what was cut off; a busy machine
}
