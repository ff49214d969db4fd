// Package transcode makes lower renditions of one publication by a supervised ffmpeg child: H.264 and AAC go in as FLV on
// its standard input, and each rung of the ladder comes back as FLV on a pipe of its own, with the source's timestamps. It
// encodes nothing itself, never scales up, and never holds up the source: what the child cannot keep up with is dropped.
package transcode

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"headwater/ingest"
)

// A Ladder makes the same rungs of every publication that is wrapped in it. Its fields must not change once it is in use.
type Ladder struct {
	FFmpeg string // the program, a path or a name; "" is "ffmpeg". See Look.
	Rungs  []Rung

	// Open opens the publication of a rung of the publication with that name. It is called when the child delivers the
	// rung's first key frame, and again, after a while, when it failed or when the Writer returned an error. The Writer's
	// methods must not wait for long: a rung that is not read holds up the others. It is closed with nil when the source
	// was, with an error when the child is lost or has to begin anew.
	Open func(name string, rung Rung) (ingest.Writer, error)

	Log *slog.Logger // nil discards

	times timing // zero fields are the defaults

	mu       sync.Mutex
	live     map[*Transcoder]struct{} // protected by mu
	children sync.WaitGroup           // one for each supervisor
}

// timing is what tests make shorter.
type timing struct {
	stall          time.Duration // without output while being fed, until the child is killed
	check          time.Duration // between looks at that
	tail           time.Duration // for the child to finish after the end of its input
	backoff, limit time.Duration // between a child's end and the next's start: the first and the longest
	healthy        time.Duration // after which a child's end counts as the first again
}

func (t timing) defaults() timing {
	return timing{
		stall:   cmp.Or(t.stall, 10*time.Second),
		check:   cmp.Or(t.check, time.Second),
		tail:    cmp.Or(t.tail, 3*time.Second),
		backoff: cmp.Or(t.backoff, 500*time.Millisecond),
		limit:   cmp.Or(t.limit, 30*time.Second),
		healthy: cmp.Or(t.healthy, 60*time.Second),
	}
}

// A Rung is one rendition to be made.
type Rung struct {
	Name  string // what tells it from the others: "720p"
	Audio bool   // it is audio only, in AAC; otherwise video only, in H.264

	// Width and Height, in pixels, are a box that the picture is fitted into; 0 leaves that side open. A rung that would
	// not be smaller than its source is not made.
	Width, Height int
	BitRate       int // bits a second
	FrameRate     int // frames a second at most; 0 is the source's. Frames are left out, those that stay keep their times.
}

// presets are the rungs that have a name. The bit rates are those of Apple's authoring rules for H.264 at 30 frames a
// second, rounded.
var presets = []Rung{
	{Name: "1080p", Height: 1080, BitRate: 5_000_000},
	{Name: "720p", Height: 720, BitRate: 2_800_000},
	{Name: "480p", Height: 480, BitRate: 1_200_000},
	{Name: "360p", Height: 360, BitRate: 700_000},
	{Name: "audio", Audio: true, BitRate: 96_000},
}

// Preset returns the rung of that name: 1080p, 720p, 480p, 360p or audio.
func Preset(name string) (Rung, error) {
	var known []string
	for _, r := range presets {
		if r.Name == name {
			return r, nil
		}
		known = append(known, r.Name)
	}
	return Rung{}, fmt.Errorf("no rung has the name %q: want one of %s", name, strings.Join(known, ", "))
}

// Limits of a rung.
const (
	maxRungs     = 16
	maxSide      = 8192
	minVideoRate = 50_000
	maxVideoRate = 100_000_000
	minAudioRate = 16_000
	maxAudioRate = 512_000
	maxFrameRate = 300 // ITU-T H.264, A.3.4.2
)

// Check says what is wrong with the ladder's rungs.
func (l *Ladder) Check() error {
	if len(l.Rungs) > maxRungs {
		return fmt.Errorf("ladder: %d rungs are more than %d", len(l.Rungs), maxRungs)
	}
	seen := map[string]bool{}
	for _, r := range l.Rungs {
		low, high := minVideoRate, maxVideoRate
		if r.Audio {
			low, high = minAudioRate, maxAudioRate
		}
		switch {
		case r.Name == "":
			return fmt.Errorf("ladder: a rung has no name")
		case seen[r.Name]:
			return fmt.Errorf("ladder: two rungs have the name %q", r.Name)
		case r.BitRate < low || r.BitRate > high:
			return fmt.Errorf("ladder: rung %s: a bit rate of %d is not between %d and %d bits a second", r.Name, r.BitRate, low, high)
		case r.Audio:
		case r.Width == 0 && r.Height == 0:
			return fmt.Errorf("ladder: rung %s: it has neither a width nor a height", r.Name)
		case r.Width < 0 || r.Height < 0 || r.Width > maxSide || r.Height > maxSide || r.Width == 1 || r.Height == 1:
			return fmt.Errorf("ladder: rung %s: %dx%d is not between 2x2 and %dx%d", r.Name, r.Width, r.Height, maxSide, maxSide)
		case r.FrameRate < 0 || r.FrameRate > maxFrameRate:
			return fmt.Errorf("ladder: rung %s: a frame rate of %d is not between 1 and %d", r.Name, r.FrameRate, maxFrameRate)
		}
		seen[r.Name] = true
	}
	return nil
}

// Wrap returns a Writer that passes everything on to w, and makes the ladder's rungs of it on the side. What w returns is
// returned unchanged. Nothing is started before the source has been described and a rung of it is to be made.
func (l *Ladder) Wrap(name string, w ingest.Writer) *Transcoder {
	t := newTranscoder(l, name, w)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.live == nil {
		l.live = map[*Transcoder]struct{}{}
	}
	l.live[t] = struct{}{}
	return t
}

// forget takes t out of Stats.
func (l *Ladder) forget(t *Transcoder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, t)
}

// Wait returns when every Transcoder that was closed has ended its child, and every rung's Writer is closed. That takes
// no longer than a child gets to finish, three seconds, and no new one may be wrapped meanwhile.
func (l *Ladder) Wait() { l.children.Wait() }

// Stats returns those of the publications that live now, by name.
func (l *Ladder) Stats() []Stats {
	l.mu.Lock()
	all := make([]*Transcoder, 0, len(l.live))
	for t := range l.live {
		all = append(all, t)
	}
	l.mu.Unlock()
	stats := make([]Stats, 0, len(all))
	for _, t := range all {
		stats = append(stats, t.Stats())
	}
	slices.SortFunc(stats, func(a, b Stats) int { return cmp.Compare(a.Name, b.Name) })
	return stats
}
