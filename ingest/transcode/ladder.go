// Package transcode makes lower renditions of one publication by a supervised ffmpeg child: H.264 and AAC go in as FLV on
// its standard input, and each rung of the ladder comes back as FLV on a pipe of its own, with the source's timestamps. It
// encodes nothing itself, never scales up, and never holds up the source: what the child cannot keep up with is dropped.
package transcode

import (
	"cmp"
	"log/slog"
	"slices"
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
	past     Stats                    // of those that have ended; likewise
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
	Name    string // what tells it from the others: "720p"
	Audio   bool   // it is audio only, in AAC; otherwise video only, in H.264
	Lines   int    // of video; columns of upright video. A rung that has no fewer than its source is not made.
	BitRate int    // bits a second, at most
}

// presets are the rungs there are. The bit rates are those of Apple's authoring rules for H.264 at 30 frames a second, rounded.
var presets = []Rung{
	{Name: "1080p", Lines: 1080, BitRate: 5_000_000},
	{Name: "720p", Lines: 720, BitRate: 2_800_000},
	{Name: "480p", Lines: 480, BitRate: 1_200_000},
	{Name: "360p", Lines: 360, BitRate: 700_000},
	{Name: "audio", Audio: true, BitRate: 96_000},
}

// Preset returns the rung of that name, if it is one of PresetNames.
func Preset(name string) (r Rung, ok bool) {
	i := slices.IndexFunc(presets, func(r Rung) bool { return r.Name == name })
	if i < 0 {
		return r, false
	}
	return presets[i], true
}

// PresetNames returns the names that Preset knows.
func PresetNames() []string {
	var names []string
	for _, r := range presets {
		names = append(names, r.Name)
	}
	return names
}

// Wrap returns a Writer that passes everything on to w, and makes the ladder's rungs of it on the side. What w returns is
// returned unchanged. If w is an Expecter, it is told which rungs will come. Nothing is started before the source has been
// described and a rung of it is to be made.
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

// An Expecter wants to know which rungs are made of what it is given.
type Expecter interface {
	// Expect is called after SetTracks, with the names of all of them.
	Expect(rungs []string)
}

// forget is called when t has ended, before Wait returns.
func (l *Ladder) forget(t *Transcoder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.live, t)
	l.past.Add(t.Stats())
}

// Wait returns true when every Transcoder that was closed has ended its child, and every rung's Writer is closed. That takes
// hardly longer than a child gets to finish, three seconds; after limit it returns false. No new one may be wrapped meanwhile.
func (l *Ladder) Wait(limit time.Duration) bool {
	done := make(chan struct{})
	go func() {
		l.children.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

// Stats returns the sum over all publications, those that have ended included. Lag is that of the slowest.
func (l *Ladder) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := l.past
	for t := range l.live {
		sum.Add(t.Stats())
	}
	return sum
}
