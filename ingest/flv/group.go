package flv

import (
	"errors"
	"fmt"
	"slices"

	"headwater/ingest"
	"headwater/segmenter/media"
)

// A group is what comes under one track ID, which makes one publication.
type group struct {
	id     int
	w      ingest.Writer // nil before it is opened, and after it has been left out
	out    bool          // the whole of it is left out
	tracks []media.Track
	video  videoTrack
	audio  audioTrack
}

// A slot is a track's place in group.tracks, from its announcement on.
type slot struct {
	announced bool
	index     int
	ready     bool // it has had a configuration
	out       bool // it is left out
	hint      hint
}

// slot returns that of the track of a kind.
func (g *group) slot(kind media.Kind) *slot {
	if kind == media.Video {
		return &g.video.slot
	}
	return &g.audio.slot
}

// A writerError is what a Writer, or Open, has returned, and not a parser.
type writerError struct{ error }

// group returns that of an ID, nil when it is beyond those that are taken.
func (d *Demuxer) group(id int) (*group, error) {
	if id >= MaxTracks {
		if !d.beyond {
			d.beyond = true
			d.leave(id, &media.UnsupportedError{What: fmt.Sprintf("multitrack: track %d", id),
				Hint: fmt.Sprintf("number the tracks from 0 to %d", MaxTracks-1)})
		}
		return nil, nil
	}
	if g := d.groups[id]; g != nil {
		return g, nil
	}
	if id == 0 {
		return d.first(), nil
	}
	if d.Open == nil {
		return nil, &media.UnsupportedError{What: fmt.Sprintf("multitrack: track %d", id), Hint: "send one video and one audio track"}
	}
	d.groups[id] = &group{id: id}
	return d.groups[id], nil
}

// first returns the group of ID 0, and of what comes without one.
func (d *Demuxer) first() *group {
	if d.groups[0] == nil {
		d.groups[0] = &group{w: d.W}
	}
	return d.groups[0]
}

// put makes t the track of s and tells the Writer, which is opened if there is none yet.
func (d *Demuxer) put(g *group, s *slot, t media.Track) error {
	if g.w == nil {
		w, err := d.Open(g.id)
		if err != nil {
			return writerError{err}
		}
		g.w = w
	}
	s.ready = true
	s.hint.apply(&t)
	if s.announced {
		g.tracks[s.index] = t
	} else {
		s.announced, s.index = true, len(g.tracks)
		g.tracks = append(g.tracks, t)
	}
	return g.tell()
}

// tell gives the Writer, if there is one, a list of its own.
func (g *group) tell() error {
	if g.w == nil {
		return nil
	}
	if err := g.w.SetTracks(slices.Clone(g.tracks)); err != nil {
		return writerError{err}
	}
	return nil
}

// write hands over a sample.
func (g *group) write(s *slot, sample *media.Sample) error {
	if err := g.w.WriteSample(s.index, sample); err != nil {
		return writerError{err}
	}
	return nil
}

// close closes the Writer; an error is put into err if there is none yet.
func (g *group) close(reason error, err *error) {
	w := g.w
	g.w = nil
	if e := w.Close(reason); e != nil && *err == nil {
		*err = e
	}
}

// settle decides what an error in one track of a group is: the end of everything, which is returned, the end of the group, or of
// the track alone.
func (d *Demuxer) settle(g *group, s *slot, err error) error {
	if err == nil {
		return nil
	}
	written, isWriters := err.(writerError)
	if isWriters {
		err = written.error
	}
	var unsupported *media.UnsupportedError
	if g.id == 0 || !isWriters && !errors.As(err, &unsupported) {
		return err
	}
	if !isWriters && !s.ready {
		s.out = true // whatever else comes under the ID is worth having
		g.withdraw(s)
		d.leave(g.id, err)
		return nil
	}
	g.out = true
	if g.w != nil {
		g.close(err, new(error))
	}
	d.leave(g.id, err)
	return nil
}

// withdraw takes back the announcement of a track that will not come, while nobody has been told of it.
func (g *group) withdraw(s *slot) {
	if !s.announced || g.w != nil {
		return
	}
	g.tracks = slices.Delete(g.tracks, s.index, s.index+1)
	s.announced = false
	for _, other := range [...]*slot{&g.video.slot, &g.audio.slot} {
		if other.announced && other.index > s.index {
			other.index--
		}
	}
}

// leave tells that a track is left out.
func (d *Demuxer) leave(id int, reason error) {
	d.count().leftOut.Add(1)
	if d.LeftOut != nil {
		d.LeftOut(id, reason)
	}
}
