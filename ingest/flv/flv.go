// Package flv turns the bodies of FLV tags, which are also those of RTMP's audio, video and data messages, into tracks
// and samples (Adobe Flash Video File Format 10.1, annex E; Enhanced RTMP v2). It takes H.264, HEVC and AAC, in the original
// tags (HEVC as number 12) and in enhanced ones with the FourCCs avc1, hvc1 and mp4a, with one track of a kind or several; every other codec is refused by
// its name. It knows neither files nor connections.
package flv

import (
	"sync/atomic"

	"headwater/ingest"
	"headwater/segmenter/media"
)

// MaxTracks is how many track IDs (Enhanced RTMP v2, multitrack) are taken: 0 to MaxTracks - 1.
const MaxTracks = 16

// A Demuxer demuxes what one connection publishes: a publication for each track ID, of a video and an audio track at most. Its
// methods but Stats are called from one goroutine. An error ends it all: a *media.FormatError or *media.UnsupportedError, or what
// W returned.
//
// Tracks with an ID other than 0 depend on Open. What is wrong with one of them alone (a codec, a refusal, an error of its Writer)
// leaves that one out, and the others go on; garbage is garbage wherever it comes.
type Demuxer struct {
	// W receives what comes without a track ID or under 0. Tracks get their indices in the order in which they are announced, by
	// metadata or by their configuration.
	W ingest.Writer

	// Open opens a Writer for another track ID, when the first configuration has come under it. nil: there can be none.
	Open func(track int) (ingest.Writer, error)

	// LeftOut is told why a track ID, or its audio or its video alone, is left out from now on. It is called once for the IDs from
	// MaxTracks on. nil: nobody is told.
	LeftOut func(track int, reason error)

	// Counters, if not nil, count for this Demuxer and others; otherwise it has its own.
	Counters *Counters

	groups  [MaxTracks]*group
	beyond  bool // an ID from MaxTracks on has been seen
	timeDay timeOfDay
	sample  media.Sample // handed to Writers again and again
	own     Counters
}

// Stats counts what was passed over without ending the publication.
type Stats struct {
	BeforeConfig  uint64 // coded frames before their track's configuration
	Empty         uint64 // messages and frames without content: silence, not an end
	EndOfSequence uint64 // messages that say that a sequence ends
	NoPicture     uint64 // access units without a coded slice; their SEI goes to the next one
	Raised        uint64 // video frames whose decode time did not rise and was raised
	LeftOut       uint64 // calls of LeftOut
	BadTime       uint64 // times of day that could not be read, in SEI or onFI
}

// Counters count what Stats are of. The zero value is ready.
type Counters struct {
	beforeConfig, empty, endOfSequence, noPicture, raised, leftOut, badTime atomic.Uint64
}

// Stats returns the counts as they are now.
func (c *Counters) Stats() Stats {
	return Stats{
		BeforeConfig:  c.beforeConfig.Load(),
		Empty:         c.empty.Load(),
		EndOfSequence: c.endOfSequence.Load(),
		NoPicture:     c.noPicture.Load(),
		Raised:        c.raised.Load(),
		LeftOut:       c.leftOut.Load(),
		BadTime:       c.badTime.Load(),
	}
}

// Stats returns the counts of d's Counters. It may be called by any goroutine.
func (d *Demuxer) Stats() Stats { return d.count().Stats() }

func (d *Demuxer) count() *Counters {
	if d.Counters != nil {
		return d.Counters
	}
	return &d.own
}

// Close closes W and every Writer that Open has opened, with that reason, and returns the first error. W is the last: what
// depends on its timestamps ends before it, and whoever waits for its name finds the others' free too.
func (d *Demuxer) Close(reason error) (err error) {
	d.first()
	for _, g := range d.groups { // from the last to the first, and also when one panics
		if g != nil && g.w != nil {
			defer g.close(reason, &err)
		}
	}
	return nil
}
