package playlist

import (
	"sync"

	"headwater/segmenter"
)

// What a playlist of hours says of its older segments does not change: it is written once for all Windows, in blocks of so many
// segments, divided where their numbers are multiples of that. Short playlists have none.
const (
	blockSegments = 64
	minBlocks     = 128 // segments in a playlist from which on it is made of blocks
)

// blocks are a rendition's, if anybody has asked for a full playlist. Those of segments that are not listed any more are let go of
// whenever a playlist is made, a delta update too.
type blocks struct {
	mu    sync.Mutex // protects what follows; held while one is written: whoever comes meanwhile wants the same
	first uint64     // number of the first segment of the first, a multiple of blockSegments
	all   []block
}

// A block is what a playlist says of its segments where the initialization section of the first of them is in force already.
type block struct {
	text []byte // nil: not written yet
	to   string // hash of the initialization section in force at its end
}

// blocksOf returns the blocks of w's rendition, nil for a playlist that is made without.
func blocksOf(w *segmenter.Window) *blocks {
	b := w.Rendition.Memo(func() any { return new(blocks) }).(*blocks)
	b.release(w)
	if len(w.Segments) < minBlocks {
		return nil
	}
	return b
}

// release lets go of the blocks before those that w lists.
func (b *blocks) release(w *segmenter.Window) {
	if len(w.Segments) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	listed := listedFrom(w)
	if len(b.all) == 0 || listed <= b.first {
		return
	}
	gone := min((listed-b.first)/blockSegments, uint64(len(b.all)))
	b.all = append([]block(nil), b.all[gone:]...) // not a slice of what holds the others
	b.first += gone * blockSegments
}

// listedFrom is where the block of the first segment of w begins.
func listedFrom(w *segmenter.Window) uint64 { return w.Segments[0].MSN / blockSegments * blockSegments }

// append appends the block that begins with segment i of w, of those that are before segment end, and returns how many segments
// that is. It appends nothing if none begins there or inForce is not what the block takes for granted.
func (b *blocks) append(dst []byte, w *segmenter.Window, at *places, i, end int, inForce *string) ([]byte, int) {
	if b == nil || w.Segments[i].MSN%blockSegments != 0 || i+blockSegments > end || w.Segments[i].Init.Hash != *inForce {
		return dst, 0
	}
	x := b.get(w, at, i)
	*inForce = x.to
	return append(dst, x.text...), blockSegments
}

func (b *blocks) get(w *segmenter.Window, at *places, i int) block {
	b.mu.Lock()
	defer b.mu.Unlock()
	msn := w.Segments[i].MSN
	if len(b.all) == 0 || msn < b.first {
		b.first, b.all = listedFrom(w), nil // a reader of an old Window, or the first
	}
	n := int((msn - b.first) / blockSegments)
	for len(b.all) <= n {
		b.all = append(b.all, block{})
	}
	x := &b.all[n]
	if x.text == nil {
		x.to = w.Segments[i].Init.Hash
		var text []byte
		for _, s := range w.Segments[i : i+blockSegments] {
			text = appendEntry(text, at, s, w.TargetDuration, &x.to, false)
		}
		x.text = append([]byte(nil), text...) // no larger than it has to be
	}
	return *x
}
