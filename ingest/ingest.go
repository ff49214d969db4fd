// Package ingest is what every listener feeds: the Publisher that accepts publications by name and key, and the Writer
// that receives one. It knows no protocol and nothing of what happens to the samples.
package ingest

import (
	"context"
	"errors"
	"fmt"

	"headwater/segmenter/media"
)

// A Request asks to publish.
type Request struct {
	Protocol string // "rtmp"
	Name     string // "<app>/<name>", slashes trimmed, not yet validated
	// Rendition is which of the stream's renditions is published, "720p", for a stream that several publications feed; "" is
	// the only one or the source. As it comes from an encoder, it has not been validated.
	Rendition string
	// Role is Primary or Backup: two publications may feed one rendition, see Rendition. As it comes from an encoder, it has not
	// been validated; "" is Primary.
	Role string
	// Track is which track of a connection that carries several of a kind, "track1", and has published this Name and Rendition
	// already, is to be published beside it: it becomes a rendition of its own, on the timestamps of the first. "" is the first.
	Track string
	// First is, with Track, what Publish has returned for the connection's first track: this one begins after that has.
	First Writer
	// Language and Label are what the publisher says of its audio, for tracks that do not say it themselves: a BCP 47 tag and a
	// name for people. They have not been validated.
	Language, Label string
	Key             string // the publish key as the encoder sent it; "" is none. Never logged.
	Remote          string // the peer's address, for logs

	// Kick ends the connection from outside, by any goroutine, any number of times: a takeover uses it on a half-open
	// connection that will never write again. It does not wait.
	Kick func(reason error)
}

// The roles of a publication.
const (
	Primary = "primary"
	Backup  = "backup"
)

// A Publisher accepts publications. It decides by name and key, and may refuse: with an error that wraps ErrDenied,
// ErrInUse or ErrBadName. Where somebody else has to go first, it may also refuse later: then the Writer's methods return that
// error. ctx is to last as long as the publication.
type Publisher interface {
	Publish(ctx context.Context, req Request) (Writer, error)
}

// A Writer receives one publication. Its methods are called from one goroutine.
type Writer interface {
	// SetTracks tells what the publication carries: the whole list, each time anything in it changes. A track keeps its
	// index for the life of the publication, new ones are added at the end. See media.Track.Ready for tracks that are
	// only announced. An error ends the publication.
	SetTracks(tracks []media.Track) error
	// WriteSample hands over one sample of the track with that index. s and s.Data belong to the caller again when it
	// returns. An error ends the publication.
	WriteSample(track int, s *media.Sample) error
	// Close ends the publication and says why; nil is a clean unpublish, anything else a loss. It is called once.
	Close(reason error) error
}

// Why a publication is refused.
var (
	ErrDenied  = errors.New("publish key refused")
	ErrInUse   = errors.New("somebody else is publishing under this name")
	ErrBadName = errors.New("not a valid stream name")
	ErrBadRole = fmt.Errorf("%w: its role is neither %s nor %s", ErrBadName, Primary, Backup)
	// ErrKicked is the reason with which a takeover kicks the earlier publisher.
	ErrKicked = errors.New("another publisher took over")
)
