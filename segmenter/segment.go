package segmenter

import (
	"crypto/sha256"
	"io"
	"sync"

	"headwater/segmenter/cmaf"
	"headwater/segmenter/media"
)

// An Init is a Media Initialization Section (RFC 8216bis 4.4.4.5): the CMAF header of one track configuration. It is
// immutable, and its bytes depend on the configuration alone.
type Init struct {
	Track media.Track
	Bytes []byte
	Hash  string // of Bytes: the name under which it is served, and its entity tag
}

func newInit(t media.Track) *Init {
	b := cmaf.AppendInit(nil, &t)
	return &Init{Track: t, Bytes: b, Hash: contentHash(b)}
}

// contentHash names content: 96 bits of SHA-256 in lower-case hex, safe in a path and in an entity tag.
func contentHash(bs ...[]byte) string {
	h := sha256.New()
	for _, b := range bs {
		h.Write(b)
	}
	const digits = "0123456789abcdef"
	var sum [sha256.Size]byte
	var out [24]byte
	for i, c := range h.Sum(sum[:0])[:12] {
		out[2*i], out[2*i+1] = digits[c>>4], digits[c&15]
	}
	return string(out[:])
}

// A Part is a Partial Segment (RFC 8216bis 4.4.4.9) and one CMAF chunk: a sample table and the samples' bytes. It is
// immutable. With a part target of 0 a Segment has one Part, which no playlist names.
type Part struct {
	MSN         uint64 // of its Segment
	Index       int    // in its Segment, from 0
	Time        int64  // decode time of its first sample on the run's timeline, in ticks of the track (tfdt)
	Duration    int64  // ticks: the written durations of its samples, summed
	Independent bool   // a sync sample is among its samples, first if that could be arranged (RFC 8216bis 4.4.4.9, INDEPENDENT)
	Arrived     int64  // wall clock at which its last sample arrived, Unix ns
	Samples     []media.SampleInfo
	Payload     []byte // the samples' data, in order

	trackID uint32
	size    int // of the chunk: head and payload

	once sync.Once
	head []byte // the moof box and the mdat header, made when first asked for
	hash string
}

// Size is the length of the part's chunk in bytes. It costs nothing and renders nothing.
func (p *Part) Size() int { return p.size }

// Chunk returns the part as a CMAF chunk in two pieces, to be sent one after the other: the moof box with the mdat
// header, and the payload. Both are shared by everybody who asks; nobody may modify them.
func (p *Part) Chunk() (head, payload []byte) {
	p.once.Do(func() {
		// mfhd.sequence_number rises along a rendition and is a pure function of where the part stands, so that another
		// packager, or this one after a restart, writes the same bytes. A segment holds fewer than 128 parts (maxParts).
		seq := uint32(p.MSN<<7) | uint32(p.Index&(maxParts-1))
		p.head = cmaf.AppendHead(make([]byte, 0, p.size-len(p.Payload)), seq, p.trackID, uint64(p.Time), p.Samples)
		p.hash = contentHash(p.head, p.Payload)
	})
	return p.head, p.Payload
}

// Hash is the hash of the chunk's bytes, computed when first asked for: its entity tag.
func (p *Part) Hash() string {
	p.Chunk()
	return p.hash
}

// WriteTo writes the whole chunk.
func (p *Part) WriteTo(w io.Writer) (int64, error) {
	head, payload := p.Chunk()
	n, err := w.Write(head)
	if err != nil {
		return int64(n), err
	}
	m, err := w.Write(payload)
	return int64(n + m), err
}

// A Segment is a Media Segment, complete and immutable: its parts in order, numbered by Media Sequence Number.
type Segment struct {
	MSN           uint64
	Discontinuity bool   // EXT-X-DISCONTINUITY precedes it
	DiscSeq       uint64 // its Discontinuity Sequence Number (RFC 8216bis 3)
	Init          *Init
	Start         int64 // presentation time of its first sample on the run's timeline, ticks
	Duration      int64 // ticks; the sum over a continuity run is exact
	Time          int64 // program date and time of Start, Unix ns
	Independent   bool  // it starts with a sync sample
	Gap           bool  // no media: EXT-X-GAP, and Parts is empty
	Parts         []*Part

	once sync.Once
	hash string
}

// Size is the segment's length in bytes.
func (s *Segment) Size() int {
	n := 0
	for _, p := range s.Parts {
		n += p.size
	}
	return n
}

// Hash is the hash of the segment's bytes, computed when first asked for: its entity tag.
func (s *Segment) Hash() string {
	s.once.Do(func() {
		bs := make([][]byte, 0, 2*len(s.Parts))
		for _, p := range s.Parts {
			head, payload := p.Chunk()
			bs = append(bs, head, payload)
		}
		s.hash = contentHash(bs...)
	})
	return s.hash
}

// WriteTo writes the whole segment: the concatenation of its parts' chunks (RFC 8216bis 3.2).
func (s *Segment) WriteTo(w io.Writer) (int64, error) {
	var sum int64
	for _, p := range s.Parts {
		n, err := p.WriteTo(w)
		sum += n
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}
