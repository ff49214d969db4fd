package segmenter

import (
	"crypto/sha256"
	"hash"
	"io"
	"sync"

	"headwater/segmenter/cmaf"
	"headwater/segmenter/media"
	"headwater/segmenter/store"
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
func contentHash(b []byte) string {
	h := sha256.New()
	h.Write(b)
	return hashName(h)
}

func hashName(h hash.Hash) string {
	const digits = "0123456789abcdef"
	var sum [sha256.Size]byte
	var out [24]byte
	for i, c := range h.Sum(sum[:0])[:12] {
		out[2*i], out[2*i+1] = digits[c>>4], digits[c&15]
	}
	return string(out[:])
}

// A Part is a Partial Segment (RFC 8216bis 4.4.4.9) and one CMAF chunk: a sample table, and the chunk's bytes in a store. It
// is immutable. With a part target of 0 a Segment has one Part, which no playlist names.
type Part struct {
	MSN         uint64 // of its Segment
	Index       int    // in its Segment, from 0
	Time        int64  // decode time of its first sample on the run's timeline, in ticks of the track (tfdt)
	Duration    int64  // ticks: the written durations of its samples, summed
	Independent bool   // a sync sample is among its samples, first if that could be arranged (RFC 8216bis 4.4.4.9, INDEPENDENT)
	Arrived     int64  // wall clock at which its last sample arrived, Unix ns
	Samples     []media.SampleInfo

	chunk store.Blob // head, the moof box and the mdat header, and payload, the samples' data in order
	head  int        // bytes of the head
	disk  store.Blob // a copy of chunk that outlives the process; the zero Blob: there is none. Run.mu protects it

	once sync.Once
	hash string
	err  error
}

// Size is the length of the part's chunk in bytes.
func (p *Part) Size() int { return p.chunk.Len() }

// HeadSize is how many bytes of the chunk come before the samples' data.
func (p *Part) HeadSize() int { return p.head }

// AppendPayload appends the samples' data to dst. An error says that the store could not be read.
func (p *Part) AppendPayload(dst []byte) ([]byte, error) {
	return p.chunk.Append(dst, p.head, p.chunk.Len()-p.head)
}

// Hash is the hash of the chunk's bytes, computed when first asked for: its entity tag. An error says that the store could
// not be read.
func (p *Part) Hash() (string, error) {
	p.once.Do(func() {
		h := sha256.New()
		if p.err = p.WriteRange(h, 0, p.Size()); p.err == nil {
			p.hash = hashName(h)
		}
	})
	return p.hash, p.err
}

// WriteRange writes n bytes of the chunk, from offset from on.
func (p *Part) WriteRange(w io.Writer, from, n int) error { return p.chunk.WriteRange(w, from, n) }

// appendHead renders what comes before the payload in the chunk.
func (p *Part) appendHead(dst []byte, trackID uint32) []byte {
	// mfhd.sequence_number rises along a rendition and is a pure function of where the part stands, so that another
	// packager, or this one after a restart, writes the same bytes. A segment holds fewer than 128 parts (maxParts).
	seq := uint32(p.MSN<<7) | uint32(p.Index&(maxParts-1))
	return cmaf.AppendHead(dst, seq, trackID, uint64(p.Time), p.Samples)
}

// A Segment is a Media Segment, complete and immutable: its parts in order, numbered by Media Sequence Number.
type Segment struct {
	MSN           uint64
	DiscSeq       uint64 // its Discontinuity Sequence Number (RFC 8216bis 3)
	Init          *Init
	Start         int64   // presentation time of its first sample on the run's timeline, ticks
	Duration      int64   // ticks; the sum over a continuity run is exact
	Time          int64   // program date and time of Start, Unix ns
	Discontinuity bool    // EXT-X-DISCONTINUITY precedes it
	Independent   bool    // it starts with a sync sample
	Gap           bool    // no media: EXT-X-GAP, and Parts is empty
	Parts         []*Part // nil, too, of one that is Stored

	// Of a stored segment.
	stored  store.Blob // the parts' chunks
	arrived int64      // when the last one did
	iframe  uint32     // see IFrameSize
	count   uint32     // of samples

	once sync.Once
	hash string
	err  error
}

// Size is the segment's length in bytes.
func (s *Segment) Size() int {
	n := s.stored.Len()
	for _, p := range s.Parts {
		n += p.Size()
	}
	return n
}

// Hash is the hash of the segment's parts' hashes, computed when first asked for: its entity tag. The same bytes in the same
// parts have the same one, on every origin. An error says that the store could not be read.
func (s *Segment) Hash() (string, error) {
	s.once.Do(func() {
		if s.Stored() {
			s.hash, s.err = s.hashStored()
			return
		}
		h := sha256.New()
		for _, p := range s.Parts {
			var tag string
			if tag, s.err = p.Hash(); s.err != nil {
				return
			}
			io.WriteString(h, tag)
		}
		s.hash = hashName(h)
	})
	return s.hash, s.err
}

// WriteRange writes n bytes, from offset from on, of the concatenation of the parts' chunks, which the segment is
// (RFC 8216bis 3.2).
func (s *Segment) WriteRange(w io.Writer, from, n int) error {
	if s.Stored() {
		return s.stored.WriteRange(w, from, n)
	}
	var run store.Blob // of chunks that lie one after the other, as they usually all do
	write := func() error {
		k := min(n, run.Len()-from)
		if k <= 0 {
			from -= run.Len()
			return nil
		}
		err := run.WriteRange(w, from, k)
		from, n = 0, n-k
		return err
	}
	for _, p := range s.Parts {
		if n == 0 {
			return nil
		}
		longer, ok := run.Then(p.chunk)
		if !ok {
			if err := write(); err != nil {
				return err
			}
			longer = p.chunk
		}
		run = longer
	}
	if n == 0 {
		return nil
	}
	return write()
}
