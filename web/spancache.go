package web

import (
	"slices"
	"sync"

	"headwater/playlist"
)

// maxSpans bounds the playlists of spans that are kept, and maxSpanBytes their size.
const (
	maxSpans     = 256
	maxSpanBytes = 64 << 20
)

// A spanKey is a playlist of a span, at one time if it grows. It holds on to nothing of the run.
type spanKey struct {
	stream, run, rendition string
	of                     playlist.Range
	form                   spanForm
	skip                   bool
	encoding               playlist.Encoding
}

// spanForm is the form of a span's Media Playlist.
type spanForm uint8

const (
	spanMedia spanForm = iota
	spanIFrames
	spanTS
)

// A spanCache keeps the playlists that were asked for last. Each is made once, however many ask for it.
type spanCache struct {
	mu    sync.Mutex // protects what follows
	list  []*spanEntry
	bytes int
}

type spanEntry struct {
	key  spanKey
	once sync.Once
	p    *playlist.Rendered
	size int // protected by the cache's mu
}

// get returns the playlist of that key, which make makes.
func (c *spanCache) get(key spanKey, make func() *playlist.Rendered) *playlist.Rendered {
	c.mu.Lock()
	i := slices.IndexFunc(c.list, func(e *spanEntry) bool { return e.key == key })
	var e *spanEntry
	if i >= 0 {
		e = c.list[i]
		c.list = append(slices.Delete(c.list, i, i+1), e)
	} else {
		e = &spanEntry{key: key}
		c.list = append(c.list, e)
	}
	c.mu.Unlock()
	made := false
	e.once.Do(func() { e.p, made = make(), true })
	if !made {
		return e.p
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch i := slices.Index(c.list, e); {
	case i < 0:
	case e.p == nil:
		c.list = slices.Delete(c.list, i, i+1)
	default:
		e.size = len(e.p.Body)
		c.bytes += e.size
	}
	for len(c.list) > 1 && (len(c.list) > maxSpans || c.bytes > maxSpanBytes) {
		c.bytes -= c.list[0].size
		c.list = slices.Delete(c.list, 0, 1)
	}
	return e.p
}
