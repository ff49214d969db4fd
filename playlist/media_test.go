package playlist

import (
	"strings"
	"testing"
	"time"

	"headwater/playlist/playlisttest"
	"headwater/segmenter"
	"headwater/segmenter/media"
)

// TestDurationsDoNotDrift: the sum of the durations listed stays within 10 µs of the media's over a day, though no segment
// of 23.976 frames a second, cut at whole ticks, has a duration of five decimals.
func TestDurationsDoNotDrift(t *testing.T) {
	const ticks = 180180 + 1 // 2.002011… s
	s := &segmenter.Segment{Init: initOf(videoTrack(), 1)}
	var sum int64
	for range 43200 {
		s.Duration = ticks
		sum += segmentUnits(s, 2)
		s.Start += s.Duration
		if off := sum - media.Rescale(s.Start, 90000, unit); off < -1 || off > 1 {
			t.Fatalf("after %d ticks the sum is off by %d units", s.Start, off)
		}
	}
	if naive := 43200 * media.Rescale(ticks, 90000, unit); naive == sum {
		t.Error("durations rounded one by one would do as well")
	}
}

func TestDurationsStayWithinTargets(t *testing.T) {
	for _, c := range []struct {
		what                    string
		start, duration, target int64
		want                    string
	}{
		{"exact", 0, 180000, 2, "2.00000"},
		{"carries the remainder", 1, 180000, 2, "2.00000"},
		{"rounds to the target", 0, 224999, 2, "2.49999"},
		{"must not read as though it rounded to more", 225003, 224999, 2, "2.49999"},
		{"is too long, and says so", 0, 225000, 2, "2.50000"},
		{"is far too long", 0, 900000, 2, "10.00000"},
		{"is one tick", 0, 1, 2, "0.00001"},
		{"after three years", 90000 * 86400 * 1000, 180000, 2, "2.00000"},
	} {
		s := &segmenter.Segment{Init: initOf(videoTrack(), 1), Start: c.start, Duration: c.duration}
		mustEqual(t, c.what, string(appendUnits(nil, segmentUnits(s, int(c.target)))), c.want)
	}

	// A part target of a third of a second, of parts that last exactly that: none may be listed as longer.
	for _, c := range []struct {
		target time.Duration
		want   string
	}{{333_333_334, "0.33333"}, {334 * time.Millisecond, "0.33334"}} {
		run := segmenter.NewRun("r", nil, segmenter.Config{PartTarget: c.target}, 1, epoch)
		l := newLane(run, "video", videoTrack(), 30, 1)
		l.fill(60, nil)
		got := text(l.r.Window(), NoSkip)
		if !strings.Contains(got, `DURATION=`+c.want+`,URI="p30000.m4s"`) {
			t.Errorf("part target %v:\n%s", c.target, got)
		}
		l.cut(false)
		playlisttest.Check(t, []byte(text(l.r.Window(), NoSkip)))
	}
}

func TestNanos(t *testing.T) {
	for _, c := range []struct {
		ns   int64
		want string
	}{{0, "0.0"}, {1_000_000_000, "1.0"}, {334_000_000, "0.334"}, {1_002_000_000, "1.002"}, {333_333_333, "0.333333333"}, {50, "0.00000005"}} {
		mustEqual(t, "seconds", string(appendNanos(nil, c.ns)), c.want)
	}
}

// TestDates: rounded to milliseconds, not cut off, and always with three decimals.
func TestDates(t *testing.T) {
	for _, c := range []struct {
		at   time.Time
		want string
	}{
		{time.Date(2025, 11, 25, 1, 16, 0, 0, time.UTC), "2025-11-25T01:16:00.000Z"},
		{time.Date(2025, 12, 31, 23, 59, 59, 999_500_000, time.UTC), "2026-01-01T00:00:00.000Z"},
		{time.Date(2025, 12, 31, 23, 59, 59, 999_499_999, time.UTC), "2025-12-31T23:59:59.999Z"},
		{time.Date(2024, 2, 29, 12, 0, 0, 40_000_000, time.FixedZone("", 3600)), "2024-02-29T11:00:00.040Z"},
	} {
		hash := someHash
		got := string(appendStart(nil, &places{}, false, initOf2(hash), &hash, c.at.UnixNano()))
		mustEqual(t, "date", got, "#EXT-X-PROGRAM-DATE-TIME:"+c.want+"\n")
	}
}

func initOf2(hash string) *segmenter.Init { return &segmenter.Init{Hash: hash} }

// TestPartsLeave: the parts of a segment go when it ends three target durations before the end of the playlist, oldest
// first (RFC 8216bis 6.2.2).
func TestPartsLeave(t *testing.T) {
	b := lowLatency().segments(5)
	listed := func() []uint64 {
		var out []uint64
		for _, s := range playlisttest.Parse([]byte(text(b.video.r.Window(), NoSkip))).Segments {
			if len(s.Parts) > 0 {
				out = append(out, s.MSN-firstMSN)
			}
		}
		return out
	}
	equal := func(want ...uint64) {
		t.Helper()
		if got := listed(); len(got) != len(want) || got[0] != want[0] {
			t.Errorf("parts of %v are listed, want %v", got, want)
		}
	}
	equal(2, 3, 4)
	b.parts(1) // segment 2 now ends 4.3 s before the end
	equal(2, 3, 4)
	b.parts(5)
	equal(3, 4)
	b.cut(false)
	equal(3, 4, 5)
}

// TestGuessedSize: the guess of a playlist's size is rarely too small, so that it is written without growing, and never
// much too large.
func TestGuessedSize(t *testing.T) {
	for _, c := range mediaCases {
		w := c.w()
		if guess, n := mediaSize(w, c.skip), len(text(w, c.skip)); guess < n || guess > 2*n+headBytes {
			t.Errorf("%s: guessed %d bytes, are %d", c.name, guess, n)
		}
	}
}

// PART-HOLD-BACK is three part targets at least (Apple's players), or what is set.
func TestPartHoldBack(t *testing.T) {
	for set, want := range map[time.Duration]string{0: "1.002", 500 * time.Millisecond: "1.002", 3 * time.Second: "3.0"} {
		b := newBroadcast(segmenter.Config{PartTarget: segmenter.DefaultPartTarget, PartHoldBack: set}).segments(8)
		if body := text(b.video.r.Window(), NoSkip); !strings.Contains(body, ",PART-HOLD-BACK="+want+",") {
			t.Errorf("%v: no %s in\n%s", set, want, body)
		}
	}
}
