// Package journal is the form in which a run's timeline is kept in a file: a header, and records of what has happened to it, one
// after the other. It encodes and decodes, and reads and writes nothing. What a killed process leaves is a file that ends
// anywhere: its whole records are what had been told.
//
// A file begins with a header of HeaderSize bytes, in which one byte, at StateAt, can be changed later. A record is the length of
// its body (4 bytes), the CRC-32C of its kind and body (4 bytes), its kind (1 byte) and its body; numbers are big-endian. What
// comes often has a body of varints, what comes seldom one of JSON, to which fields can be added.
package journal

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io"

	"headwater/segmenter/media"
)

// The header.
const (
	HeaderSize = 16
	StateAt    = 8
	// States of a file: all that has happened is in it; something that has happened is missing; the run has ended, and all of it
	// is on the disk.
	Current  byte = 'c'
	Failed   byte = 'f'
	Recorded byte = 'r'

	magic = "hwrun\x00\x00\x01" // the last byte is the version
)

// Limits on what is read.
const (
	MaxRecord  = 8 << 20 // bytes of a body: an initialization section in JSON is the largest
	MaxSamples = 1 << 16 // of a part
)

const frameSize = 9

// Kinds of records.
const (
	kindRun byte = iota + 1
	kindRendition
	kindInit
	kindBoundary
	kindBegin
	kindPart
	kindCut
	kindState
	kindBegun
	kindEnded
	kindStored
	kindRecording
)

// A Run comes first: what is true of the whole run when the file is begun.
type Run struct {
	Stream   string // its name
	ID       string
	Boot     string // which start of the system the file was written in
	FirstMSN uint64
	Epoch    int64 // Unix ns

	TargetDuration, PartTarget, WindowMin int64 // as configured, ns
	WindowSegments                        int
	Target                                int64 // duration, s
	Slack                                 int64 // ns

	Heard         int64 // when what leads was last heard of, Unix ns
	Last, Discs   uint64
	Decided, Edge int64
	Moved         int64 // what has been added to Epoch, ns
	Due           bool

	Event    bool  `json:",omitempty"`
	Record   int64 `json:",omitempty"` // ns
	HoldBack int64 `json:",omitempty"` // ns
}

// A Rendition is one of the run's, by number in order of their records, from 0.
type Rendition struct {
	ID    string
	Kind  media.Kind
	Rung  string `json:",omitempty"`
	Lower bool   `json:",omitempty"`
}

// An Init is an initialization section. Its number is Number less one, or if that is 0 one more than the one before it has; the
// first's is 0.
type Init struct {
	Track  media.Track
	Bytes  []byte
	Number int `json:",omitempty"`
}

// A Boundary is where a segment begins in all renditions.
type Boundary struct {
	MSN, DiscSeq uint64
	Time         int64 // ns on the timeline
	Moved        int64 // what is added to the run's Epoch from there on, ns
	Disc         bool
}

// A Begin opens a segment in one rendition.
type Begin struct {
	Rendition, Init      int
	MSN, DiscSeq         uint64
	Time, NextPart, Wall int64
	Disc                 bool
}

// A Part is added to the open segment.
type Part struct {
	Rendition      int
	At             int64 // where its chunk is in the rendition's file
	Size, Head     int   // of the chunk, and of what comes before the samples in it
	Time, Duration int64
	Arrived        int64
	Independent    bool
	Samples        []media.SampleInfo
}

// A Cut completes the open segment, at End.
type Cut struct {
	Rendition int
	End       int64
}

// A Begun ends what a file is begun with: what follows has happened since.
type Begun struct{}

// A State is, for one rendition of those that a file is begun with, what does not follow from its segments.
type State struct {
	Rendition       int
	First           int    // how many segments are no longer listed
	Until           Deltas `json:",omitempty"` // and until where on the timeline they are kept
	Listed, Longest int64
	NextPart, Tail  int64

	Parts, Segments, Gaps, Samples, Bytes, Dropped, Adjusted, Peak, MediaBytes uint64
	MediaTicks                                                                 int64

	IFramePeak, IFrameBytes uint64 `json:",omitempty"`
	IFrameTicks             int64  `json:",omitempty"`
}

// A Stored comes before the segments of a rendition of those that a file is begun with. It says that earlier ones, with numbers
// from From to To less one, are in the rendition's index: a file of the Segments from number Base on, each where its number says.
type Stored struct {
	Rendition      int
	Base, From, To uint64
}

// A Recording says what is in the file, which is Recorded.
type Recording struct {
	Began, Ended int64 // program dates and times of what is there, Unix ns
	Bytes        int64 // of media
	Keep         int64 // for how long from Ended on, ns
}

// An Ended says that no segment will follow.
type Ended struct{}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendHeader appends the header of a file that is Current.
func AppendHeader(dst []byte) []byte {
	dst = append(dst, magic...)
	return append(dst, Current, 0, 0, 0, 0, 0, 0, 0)
}

// Append appends a record: a pointer to one of this package's types. It does not fail for those.
func Append(dst []byte, record any) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, frameSize)...)
	kind := kindEnded
	switch r := record.(type) {
	case *Run:
		kind, dst = kindRun, appendJSON(dst, r)
	case *Rendition:
		kind, dst = kindRendition, appendJSON(dst, r)
	case *Init:
		kind, dst = kindInit, appendJSON(dst, r)
	case *State:
		kind, dst = kindState, appendJSON(dst, r)
	case *Boundary:
		kind = kindBoundary
		dst = binary.AppendUvarint(dst, r.MSN)
		dst = binary.AppendUvarint(dst, r.DiscSeq)
		dst = binary.AppendVarint(dst, r.Time)
		dst = binary.AppendVarint(dst, r.Moved)
		dst = appendBool(dst, r.Disc)
	case *Begin:
		kind = kindBegin
		dst = binary.AppendUvarint(dst, uint64(r.Rendition))
		dst = binary.AppendUvarint(dst, uint64(r.Init))
		dst = binary.AppendUvarint(dst, r.MSN)
		dst = binary.AppendUvarint(dst, r.DiscSeq)
		dst = binary.AppendVarint(dst, r.Time)
		dst = binary.AppendVarint(dst, r.NextPart)
		dst = binary.AppendVarint(dst, r.Wall)
		dst = appendBool(dst, r.Disc)
	case *Part:
		kind, dst = kindPart, r.append(dst)
	case *Cut:
		kind = kindCut
		dst = binary.AppendUvarint(dst, uint64(r.Rendition))
		dst = binary.AppendVarint(dst, r.End)
	case *Begun:
		kind = kindBegun
	case *Ended:
	case *Stored:
		kind = kindStored
		dst = binary.AppendUvarint(dst, uint64(r.Rendition))
		dst = binary.AppendUvarint(dst, r.Base)
		dst = binary.AppendUvarint(dst, r.From)
		dst = binary.AppendUvarint(dst, r.To)
	case *Recording:
		kind, dst = kindRecording, appendJSON(dst, r)
	default:
		panic("journal: not a record")
	}
	frame := dst[at:]
	frame[8] = kind
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-frameSize))
	binary.BigEndian.PutUint32(frame[4:], crc32.Checksum(frame[8:], castagnoli))
	return dst
}

func appendJSON(dst []byte, r any) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic("journal: " + err.Error()) // these types have no values that JSON lacks
	}
	return append(dst, b...)
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

func (p *Part) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(p.Rendition))
	dst = binary.AppendUvarint(dst, uint64(p.At))
	dst = binary.AppendUvarint(dst, uint64(p.Size))
	dst = binary.AppendUvarint(dst, uint64(p.Head))
	dst = binary.AppendVarint(dst, p.Time)
	dst = binary.AppendVarint(dst, p.Duration)
	dst = binary.AppendVarint(dst, p.Arrived)
	dst = appendBool(dst, p.Independent)
	dst = binary.AppendUvarint(dst, uint64(len(p.Samples)))
	for i := range p.Samples {
		s := &p.Samples[i]
		sync := uint64(0)
		if s.Sync {
			sync = 1
		}
		dst = binary.AppendUvarint(dst, uint64(s.Duration)<<1|sync)
		dst = binary.AppendUvarint(dst, uint64(s.Size))
		dst = binary.AppendVarint(dst, int64(s.CTO))
	}
	return dst
}

// ErrTorn says that the file ends within a record: the process that wrote it has been killed.
var ErrTorn = errors.New("journal: ends within a record")

// A Decoder reads a file.
type Decoder struct {
	b  []byte
	at int
}

// NewDecoder returns a Decoder of the file b, if that is one, and its state.
func NewDecoder(b []byte) (*Decoder, byte, error) {
	if len(b) < HeaderSize || string(b[:len(magic)]) != magic {
		return nil, 0, media.Formatf("journal", "not one, or of another version")
	}
	return &Decoder{b: b, at: HeaderSize}, b[StateAt], nil
}

// Offset is where the records that have been read end.
func (d *Decoder) Offset() int { return d.at }

// Next returns the next record, a pointer to one of this package's types. The error is io.EOF at the end, ErrTorn where the file
// ends within a record, or a *media.FormatError for bytes that were not written like this.
func (d *Decoder) Next() (any, error) {
	b := d.b[d.at:]
	if len(b) == 0 {
		return nil, io.EOF
	}
	if len(b) < frameSize {
		return nil, ErrTorn
	}
	n := binary.BigEndian.Uint32(b)
	if n > MaxRecord {
		return nil, media.Formatf("journal", "a record of %d bytes", n)
	}
	if len(b) < frameSize+int(n) {
		return nil, ErrTorn
	}
	if crc32.Checksum(b[8:frameSize+n], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return nil, media.Formatf("journal", "a wrong checksum at %d", d.at)
	}
	r, err := decode(b[8], b[frameSize:frameSize+n])
	if err != nil {
		return nil, err
	}
	d.at += frameSize + int(n)
	return r, nil
}

func decode(kind byte, b []byte) (any, error) {
	v := &varints{b: b}
	var r any
	switch kind {
	case kindRun:
		return fromJSON(b, &Run{})
	case kindRendition:
		return fromJSON(b, &Rendition{})
	case kindInit:
		return fromJSON(b, &Init{})
	case kindState:
		return fromJSON(b, &State{})
	case kindBoundary:
		r = &Boundary{MSN: v.unsigned(), DiscSeq: v.unsigned(), Time: v.signed(), Moved: v.signed(), Disc: v.bool()}
	case kindBegin:
		r = &Begin{Rendition: v.small(), Init: v.small(), MSN: v.unsigned(), DiscSeq: v.unsigned(),
			Time: v.signed(), NextPart: v.signed(), Wall: v.signed(), Disc: v.bool()}
	case kindPart:
		r = v.part()
	case kindCut:
		r = &Cut{Rendition: v.small(), End: v.signed()}
	case kindBegun:
		r = &Begun{}
	case kindEnded:
		r = &Ended{}
	case kindStored:
		r = &Stored{Rendition: v.small(), Base: v.unsigned(), From: v.unsigned(), To: v.unsigned()}
	case kindRecording:
		return fromJSON(b, &Recording{})
	default:
		return nil, media.Formatf("journal", "a record of kind %d", kind)
	}
	if v.bad || len(v.b) > 0 {
		return nil, media.Formatf("journal", "a record of kind %d that is too short or too long", kind)
	}
	return r, nil
}

func fromJSON[T any](b []byte, r *T) (any, error) {
	if err := json.Unmarshal(b, r); err != nil {
		return nil, media.Formatf("journal", "%v", err)
	}
	return r, nil
}

// varints reads a body of varints. Once bad it reads zeros.
type varints struct {
	b   []byte
	bad bool
}

func (v *varints) unsigned() uint64 {
	x, n := binary.Uvarint(v.b)
	if n <= 0 {
		v.b, v.bad = nil, true
		return 0
	}
	v.b = v.b[n:]
	return x
}

func (v *varints) signed() int64 {
	x, n := binary.Varint(v.b)
	if n <= 0 {
		v.b, v.bad = nil, true
		return 0
	}
	v.b = v.b[n:]
	return x
}

// small reads what fits into 31 bits.
func (v *varints) small() int { return int(v.limited(1<<31 - 1)) }

func (v *varints) limited(most uint64) uint64 {
	x := v.unsigned()
	if x > most {
		v.b, v.bad = nil, true
		return 0
	}
	return x
}

func (v *varints) bool() bool { return v.limited(1) == 1 }

func (v *varints) part() *Part {
	p := &Part{Rendition: v.small(), At: int64(v.limited(1<<63 - 1)), Size: v.small(), Head: v.small(),
		Time: v.signed(), Duration: v.signed(), Arrived: v.signed(), Independent: v.bool()}
	const least = 3 // bytes of a sample
	n := int(v.limited(MaxSamples))
	if n > len(v.b)/least {
		v.b, v.bad = nil, true
		return p
	}
	p.Samples = make([]media.SampleInfo, n)
	for i := range p.Samples {
		d := v.limited(1<<33 - 1)
		p.Samples[i] = media.SampleInfo{Duration: uint32(d >> 1), Sync: d&1 == 1, Size: uint32(v.limited(1<<32 - 1))}
		c := v.signed()
		if c != int64(int32(c)) {
			v.b, v.bad = nil, true
			return p
		}
		p.Samples[i].CTO = int32(c)
	}
	return p
}
