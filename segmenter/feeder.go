package segmenter

import "headwater/segmenter/store"

// A feeder stores the chunks of a rendition. One goroutine at a time has it: whoever takes a rendition from another one that may
// still be writing begins with a feeder of its own.
type feeder struct {
	file   *store.File
	marked uint64 // the segment that the file's latest range is of
	head   []byte // room for rendering a chunk's head
}

func newFeeder() *feeder { return &feeder{file: store.New()} }

// store puts p's chunk into the file.
func (f *feeder) store(p *Part, track uint32, payload []byte) {
	if p.MSN != f.marked {
		f.file.Mark() // segments are given back whole
		f.marked = p.MSN
	}
	f.head = p.appendHead(f.head[:0], track)
	p.head, p.chunk = len(f.head), f.file.Append(f.head, payload)
}
