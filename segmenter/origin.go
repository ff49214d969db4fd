// Package segmenter is the engine: an Origin owns Streams by name, a Stream's current Run owns its Renditions, and each
// Rendition is a sequence of immutable Windows made of Segments and Parts. Samples go in through a Publication. It reads
// no clock, no network and no file; time comes in with the samples and with Tick.
package segmenter

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// An Origin owns the Streams by name. The zero Origin is ready.
type Origin struct {
	// Config says how the stream of that name is cut; nil gives every stream the defaults with DefaultPartTarget.
	Config func(name string) Config
	// OnPart, if set, is called after each part is published, on the goroutine of the publication.
	OnPart func(r *Rendition, p *Part)

	mu      sync.Mutex // protects the map, not the streams
	streams map[string]*Stream
	view    atomic.Pointer[map[string]*Stream] // a copy of streams for readers, replaced on change
}

// Stream returns the stream of that name, "<app>/<name>", if it is live or was until lately.
func (o *Origin) Stream(name string) (*Stream, bool) {
	m := o.view.Load()
	if m == nil {
		return nil, false
	}
	s, ok := (*m)[name]
	return s, ok
}

// Streams returns all streams, in order of their names.
func (o *Origin) Streams() []*Stream {
	m := o.view.Load()
	if m == nil {
		return nil
	}
	out := make([]*Stream, 0, len(*m))
	for _, s := range *m {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *Stream) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// refresh replaces the readers' copy. o.mu is held.
func (o *Origin) refresh() {
	m := make(map[string]*Stream, len(o.streams))
	for k, v := range o.streams {
		m[k] = v
	}
	o.view.Store(&m)
}

func (o *Origin) config(name string) Config {
	if o.Config != nil {
		return o.Config(name)
	}
	return Config{PartTarget: DefaultPartTarget}
}

// Open begins a publication on the stream of that name. Whoever calls has made sure that there is no other.
func (o *Origin) Open(name string, now time.Time) (*Publication, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.streams[name]
	if s == nil {
		s = &Stream{Name: name, origin: o}
		if o.streams == nil {
			o.streams = map[string]*Stream{}
		}
		o.streams[name] = s
		o.refresh()
	}
	return s.publish(now), nil
}

// Tick does what time brings: the end of a grace, the expiry of what has ended. It is called about once a second.
func (o *Origin) Tick(now time.Time) {
	for _, s := range o.Streams() {
		if !s.Tick(now) {
			continue
		}
		o.mu.Lock()
		if s.idle() {
			delete(o.streams, s.Name)
			o.refresh()
		}
		o.mu.Unlock()
	}
}

// End ends every run at once: the origin is stopping.
func (o *Origin) End() {
	for _, s := range o.Streams() {
		s.end()
	}
}
