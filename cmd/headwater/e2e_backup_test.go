//go:build e2e

package main

import (
	"fmt"
	"math"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"headwater/playlist/playlisttest"
)

// A pair is the primary and the backup of live/cam, which two encoders made of one source.
type pair struct {
	*running
	source source
	files  []string // of what they made
	pushes []*push  // all that there ever were
	stops  int      // pauses that were asked for
}

// newPair encodes beforehand, as a process that needs the processor may pause when others need it too.
func (r *running) newPair(t *testing.T) *pair {
	t.Helper()
	const seconds = "100"
	b := &pair{running: r}
	args := join(encoding{"-nostdin", "-hide_banner", "-loglevel", "repeat+warning"}, frames(0)[1:], sound("48000")[1:])
	for _, qmin := range []string{"10", "30"} { // without another parameter set
		file := filepath.Join(t.TempDir(), "qmin"+qmin+".flv")
		b.files = append(b.files, file)
		args = join(args, rungEncoders[1].codecs(0), encoding{"-qmin", qmin, "-aac_coder", "fast", "-t", seconds, file})
	}
	encode := startPeer(t, nil, "ffmpeg", args...)
	if code := encode.wait(t, 2*time.Minute); code != 0 {
		t.Fatalf("ffmpeg: exit status %d", code)
	}
	b.source = source{time.Now()}
	return b
}

// publish lets a process of its own publish what one of the encoders made, from where the source is.
func (b *pair) publish(t *testing.T, file, path string) *push {
	t.Helper()
	p := b.publishSource(t, b.source, sourceGOP, path, func(from int) encoding {
		// Sound begins before the picture: key frames are a bit later in the file, and ffmpeg goes back to one. No push counts its
		// time from where another does, or a whole number of GOPs later.
		return encoding{"-ss", fmt.Sprint(float64(from)/sourceRate + 0.05), "-re", "-i", file, "-c", "copy",
			"-output_ts_offset", fmt.Sprint(float64(len(b.pushes)) * 0.7)}
	})
	b.pushes = append(b.pushes, p)
	return p
}

// unasked is how often one of them has paused by itself, as the machine was busy: each time the stream may have gone over and back.
func (b *pair) unasked() int {
	n := -b.stops
	for _, p := range b.pushes {
		n += p.paused()
	}
	return max(n, 0)
}

// TestE2EBackup lets two processes push one source, one as the backup of the other. The first is killed, comes again, and is stopped:
// the stream goes on within a segment each time, on one timeline, and the primary gets its place back without a picture missing.
func TestE2EBackup(t *testing.T) {
	t.Parallel()
	b := startHeadwater(t, "--window-min", "60s").newPair(t)
	primary := b.publish(t, b.files[0], "/live/cam")
	eventually(t, startPatience, "the primary comes first", func() bool { return len(b.inputs(t, "live/cam")) == 1 })
	b.publish(t, b.files[1], "/live/cam?role=backup")

	b.awaitRoles(t, "leading", "", "standby", "")
	follow := b.follow(t, "live/cam")
	another := func(what string) {
		t.Helper()
		had := len(follow.last("video").Segments)
		eventually(t, startPatience, what, func() bool { return len(follow.last("video").Segments) > had })
	}
	another("a segment that begins where both have a key frame")
	primary.kill()
	b.awaitRoles(t, "", "", "leading", "disconnected")
	primary = b.publish(t, b.files[0], "/live/cam")
	b.awaitRoles(t, "leading", "returned", "standby", "")
	another("a segment of the primary")
	b.stops++
	syscall.Kill(-primary.cmd.Process.Pid, syscall.SIGSTOP)
	b.awaitRoles(t, "standby", "", "leading", "silent")
	syscall.Kill(-primary.cmd.Process.Pid, syscall.SIGCONT)
	b.awaitRoles(t, "leading", "returned", "standby", "")
	another("another one")

	for reason, want := range map[string]float64{"disconnected": 1, "silent": 1, "returned": 2, "no key frames": 0} {
		name := `headwater_input_switches_total{reason="` + reason + `",stream="live/cam"}`
		got := b.metrics(t, name)[name]
		if n := b.unasked(); math.Abs(got-want) > float64(n) {
			t.Errorf("%s is %v, want %v, and the encoders have paused %d times", name, got, want, n)
		}
	}
	lack := b.checkOneTimeline(t, "live/cam")
	if n := b.unasked(); lack > 2+n {
		t.Errorf("%d segments lack pictures or are gaps, want 2 at most, and the encoders have paused %d times", lack, n)
	} else if n > 0 {
		t.Logf("the encoders have paused %d times", n)
	}
	follow.end()
	follow.checkSuccession(t) // what is cut short with its encoder is shorter than its EXTINF: each by itself is not right
	b.checkLog(t, "connection was lost without an unpublish", "connection reset by peer", "input switched")
}

// awaitRoles waits until the primary and the backup are in those states, "" is that there is none, for those reasons. There may be
// others if an encoder has paused.
func (b *pair) awaitRoles(t *testing.T, primary, why, backup, whyBackup string) {
	t.Helper()
	eventually(t, startPatience, "primary "+primary+" "+why+", backup "+backup+" "+whyBackup, func() bool {
		got := map[string]ladderInput{}
		for _, i := range b.inputs(t, "live/cam") {
			if i.Alignment != "" { // until then a switch would make a discontinuity
				got[i.Role] = i
			}
		}
		return got["primary"].State == primary && got["backup"].State == backup &&
			(b.unasked() > 0 || got["primary"].Switched.Reason == why && got["backup"].Switched.Reason == whyBackup)
	})
}

// checkOneTimeline checks that all that is listed of a stream's picture is on one timeline, whichever encoder it is from: the number
// in a picture fits its time, and there is no discontinuity. It returns how many segments lack pictures, or are gaps if these are more:
// encoders that were lost have torn them, and a gap follows each.
func (r *running) checkOneTimeline(t *testing.T, name string) (lack int) {
	t.Helper()
	video := r.renditions(t, name)["video"]
	_, body := get(t, video)
	var segments []playlisttest.Segment
	gaps := 0
	for _, s := range playlisttest.Parse([]byte(body)).Segments {
		if s.Discontinuity || s.DiscSeq > 0 {
			t.Errorf("segment %d: a discontinuity", s.MSN)
		}
		if s.Gap {
			gaps++
			continue
		}
		segments = append(segments, s)
	}
	if len(segments) < 8 {
		t.Fatalf("%d segments", len(segments))
	}
	began, short := math.NaN(), 0
	for msn, seen := range readNumbers(t, video, segments) {
		if len(seen) < sourceGOP {
			short++
		}
		for _, f := range seen {
			at := float64(f.number)/sourceRate - f.at
			if math.IsNaN(began) {
				began = at
			}
			if math.Abs(at-began) > 0.005 { // RTMP's milliseconds are rounded by each encoder
				t.Fatalf("segment %d shows picture %d at %.3f s, %.3f s off", msn, f.number, f.at, at-began)
			}
		}
	}
	return max(short, gaps)
}
