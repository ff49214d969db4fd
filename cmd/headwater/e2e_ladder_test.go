//go:build e2e

package main

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

var allRungs = []string{"1080p", "720p", "480p"}

// TestE2ELadderOneProcess lets one ffmpeg push three bitrates, with and without B-frames, named in both ways.
func TestE2ELadderOneProcess(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, path string }{
		{"by suffix", "/live/cam_"},
		{"by query", "/live/cam?rendition="},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := startHeadwater(t)
			args := join(encoding{"-nostdin", "-hide_banner", "-loglevel", "repeat+warning"}, frames(0), sound("48000"))
			for _, e := range rungEncoders {
				args = join(args, e.codecs(0), encoding{"-f", "flv", "rtmp://" + r.RTMP + tt.path + e.rung})
			}
			startPeer(t, nil, "ffmpeg", args...)
			r.awaitSegments(t, "live/cam", 4, allRungs...)
			r.checkInputs(t, allRungs...)
			if n := r.checkLadder(t, "live/cam", allRungs...); n < 3 {
				t.Errorf("the rungs have %d segments in common", n)
			}
			r.checkLog(t)
		})
	}
}

// TestE2ELadderSeparate lets processes of their own push, which join a live source late and count their time from 0.
func TestE2ELadderSeparate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		joinAt []time.Duration // after the first
	}{
		{"1.3 s and 3.7 s late", []time.Duration{0, 1300 * time.Millisecond, 3700 * time.Millisecond}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := startHeadwater(t)
			s := source{time.Now()}
			for i, e := range rungEncoders {
				time.Sleep(time.Until(s.began.Add(tt.joinAt[i])))
				r.publishRung(t, s, e)
			}
			r.awaitSegments(t, "live/cam", 3, allRungs...)
			r.checkInputs(t, allRungs...)
			if n := r.checkLadder(t, "live/cam", allRungs...); n < 2 {
				t.Errorf("the rungs have %d segments in common", n)
			}
			r.checkLog(t)
		})
	}
}

// TestE2ELadderReturn loses one encoder of a ladder without a goodbye and gets it back: its URLs are what they were, the others
// lack nothing, and it is aligned again.
func TestE2ELadderReturn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		lost int // index of the rung
	}{
		{"the leader", 0},
		{"a follower", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := startHeadwater(t)
			s := source{time.Now()}
			var peers []*peer
			for i, e := range rungEncoders {
				time.Sleep(time.Until(s.began.Add(time.Duration(i) * 1100 * time.Millisecond)))
				peers = append(peers, r.publishRung(t, s, e))
			}
			r.awaitSegments(t, "live/cam", 2, allRungs...)
			follow := r.follow(t, "live/cam")
			before := r.renditions(t, "live/cam")
			peers[tt.lost].kill()
			lost := allRungs[tt.lost]
			eventually(t, peerPatience, "the lost rendition has a gap", func() bool {
				all := follow.last("video_" + lost).Segments
				return len(all) > 0 && isGap(all[len(all)-1])
			})
			r.publishRung(t, s, rungEncoders[tt.lost])
			eventually(t, startPatience, "it is back", func() bool {
				all := follow.last("video_" + lost).Segments
				return !slices.ContainsFunc(all[len(all)-2:], isGap)
			})
			r.checkInputs(t, allRungs...)
			if after := r.renditions(t, "live/cam"); !maps.Equal(before, after) {
				t.Errorf("the renditions were %v and are %v", before, after)
			}
			if n := r.checkLadder(t, "live/cam", allRungs...); n < 2 {
				t.Errorf("the rungs have %d segments in common", n)
			}
			for _, rung := range allRungs {
				p := follow.last("video_" + rung)
				if p.DiscSeq > 0 {
					t.Errorf("%s: a discontinuity", rung)
				}
				had := false
				for _, s := range p.Segments {
					if s.Gap && had && rung != lost {
						t.Errorf("%s: segment %d is a gap", rung, s.MSN)
					}
					had = had || !s.Gap
				}
			}
			follow.end()
			for path := range follow.bodies {
				if strings.Contains(path, "/video_"+lost+"/") || strings.Contains(path, "/audio/") {
					delete(follow.bodies, path) // what is cut short with its encoder is shorter than its EXTINF
				}
			}
			follow.check(t)
			r.checkLog(t, "connection was lost without an unpublish", "connection reset by peer") // the kernel ends it either way
		})
	}
}

// checkInputs checks that one publication leads and the others follow it.
func (r *running) checkInputs(t *testing.T, rungs ...string) {
	t.Helper()
	states := map[string]int{}
	in := r.inputs(t, "live/cam")
	for _, i := range in {
		states[i.State]++
	}
	if states["leading"] != 1 || states["following"] != len(rungs)-1 || len(in) != len(rungs) {
		t.Errorf("the page is told %+v", in)
	}
}
