// Package segmenter is the engine: an Origin owns Streams by name, a Stream's current Run owns its Renditions, and each
// Rendition is a sequence of immutable Windows made of Segments and Parts. Samples go in through a Publication. It reads
// no clock and no network; time comes in with the samples and with Tick. With Recover it keeps what it has in a directory too.
package segmenter

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"headwater/segmenter/store"
)

// An Origin owns the Streams by name. The zero Origin is ready.
type Origin struct {
	// Config says how the stream of that name is cut; nil gives every stream the defaults with DefaultPartTarget.
	Config func(name string) Config
	// OnPart, if set, is called after each part is published, on the goroutine of the publication.
	OnPart func(r *Rendition, p *Part)

	// MaxBytes bounds what all streams keep in memory, about; 0 is DefaultMaxBytes. A publication that would need more is
	// refused, or ended.
	MaxBytes int64
	// MaxStreams bounds the streams, those in their grace included; 0 is DefaultMaxStreams.
	MaxStreams int
	// MaxRecorded bounds the bytes of recordings, the oldest go first; 0: no limit. See Config.Record.
	MaxRecorded int64

	// Mark is what the names of this origin's runs end in: up to 16 digits and small letters. Another origin that is fed by the same encoders at
	// the same time has another one, so that none has a URL of the other's, with other bytes. "" is for the only one.
	Mark string

	mu      sync.Mutex   // serialises Open and the removal of streams
	streams sync.Map     // name to *Stream
	count   int          // protected by mu
	seen    []seenLadder // of streams that are gone, the one that was live last at the end; protected by mu
	kept    atomic.Int64 // bytes, about
	dropped atomic.Int64 // bytes that are kept no longer, since the beginning
	retired atomic.Int64 // the latest time that has named a run which is kept no longer, Unix ms

	collected int64 // value of dropped when memory was last given back; Tick's

	dir     *store.Dir // where runs outlive the process; nil: nowhere. Set by Recover
	keeping keeping

	recorded catalogue
}

const maxMark = 16 // bytes

// Defaults of an Origin.
const (
	DefaultMaxBytes   = 16 << 30
	DefaultMaxStreams = 10_000
)

var (
	errFull       = errors.New("the origin has no memory left for another stream (see Origin.MaxBytes)")
	errRenditions = fmt.Errorf("the stream has %d renditions, and room for no more", MaxRenditions)
	errStreams    = errors.New("the origin has no room for another stream (see Origin.MaxStreams)")
)

func (o *Origin) full() bool { return o.kept.Load() > cmp.Or(o.MaxBytes, DefaultMaxBytes) }

// Stream returns the stream of that name, "<app>/<name>", if it is live or was until lately.
func (o *Origin) Stream(name string) (*Stream, bool) {
	s, ok := o.streams.Load(name)
	if !ok {
		return nil, false
	}
	return s.(*Stream), true
}

// Streams returns all streams, in order of their names.
func (o *Origin) Streams() []*Stream {
	var out []*Stream
	o.streams.Range(func(_, s any) bool {
		out = append(out, s.(*Stream))
		return true
	})
	slices.SortFunc(out, func(a, b *Stream) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (o *Origin) config(name string) Config {
	if o.Config != nil {
		return o.Config(name)
	}
	return Config{PartTarget: DefaultPartTarget}
}

// Open begins a publication on the stream of that name, of the given rung: "720p" for one of several, "" for the only one or the
// source. Whoever calls has made sure that there is no other of that rung. An error says that a limit has been reached.
func (o *Origin) Open(name, rung string, now time.Time) (*Publication, error) {
	return o.open(name, place{rung: rung}, now)
}

// OpenBackup is Open for the backup of a rung, beside which Open has opened a primary, or has not.
func (o *Origin) OpenBackup(name, rung string, now time.Time) (*Publication, error) {
	return o.open(name, place{rung, true}, now)
}

func (o *Origin) open(name string, at place, now time.Time) (*Publication, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.full() {
		return nil, errFull
	}
	s, ok := o.Stream(name)
	if !ok {
		if o.count >= cmp.Or(o.MaxStreams, DefaultMaxStreams) {
			return nil, errStreams
		}
		s = &Stream{Name: name, origin: o, expected: o.lastLadder(name)}
		o.streams.Store(name, s)
		o.count++
	}
	return s.publish(at, now)
}

// What has been dropped goes back to the system when a sixteenth of what is kept has come together, and so much at least.
const minCollect = 16 << 20

// Tick does what time brings: the end of a grace, the expiry of what has ended. It is called about once a second, from one
// goroutine.
func (o *Origin) Tick(now time.Time) {
	// Bytes in a store are given back when the garbage collector finds that no reader can have them, and it does not see
	// how much depends on the little that it has to look at.
	if d := o.dropped.Load(); d-o.collected > max(minCollect, o.kept.Load()/16) {
		o.collected = d
		runtime.GC()
	}
	if o.dir != nil {
		o.retain(now)
	}
	for _, s := range o.Streams() {
		if o.dir != nil {
			s.tend(now)
		}
		if !s.Tick(now) {
			continue
		}
		o.mu.Lock()
		if s.idle() {
			o.streams.Delete(s.Name)
			o.count--
			o.remember(s.Name, s.inLadder)
		}
		o.mu.Unlock()
	}
}

// End ends every run at once: the origin is stopping. What is recorded is being put on the disk then; see Close.
func (o *Origin) End() {
	for _, s := range o.Streams() {
		s.end()
	}
}
