package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"time"

	"headwater/playlist"
	"headwater/segmenter"
	"headwater/segmenter/media"
	"headwater/segmenter/mpegts"
)

const (
	// tsFormat stands for everything about an MPEG-TS segment's bytes that is not in the media: how they are multiplexed, and
	// tsDelay. Another one makes other entity tags.
	tsFormat = "headwater-ts-2"

	// tsDelay is the part of a second by which video is decoded before its time on the run's timeline, on which a key frame
	// is decoded when it is presented and the frames before it in presentation have negative composition offsets: 1/tsDelay.
	// Half a second is as long as any live encoder reorders, and with the multiplexer's own lead leaves data in the buffers
	// for less than one (ISO/IEC 13818-1 2.4.2.6). It is the same for all segments, so that decode times run on evenly.
	tsDelay = 2

	// tsPatience bounds how long a request waits for its segment to be made, which takes milliseconds unless very many are
	// asked for at once.
	tsPatience = 10 * time.Second
)

// A tsObject is an MPEG-TS segment that may not have been made yet.
type tsObject struct {
	source playlist.TSSource
	msn    uint64
}

// servePlainPlaylist answers with a playlist without low latency, of I-frames or of MPEG-TS segments. Nothing can be waited for
// there, so that delivery directives mean nothing (RFC 8216bis 6.2.5: the playlist has no EXT-X-SERVER-CONTROL).
func (s *Server) servePlainPlaylist(w *response, r *http.Request, run *segmenter.Run, m *mediaPath) {
	rend, enc, ok := s.playable(w, r, run, m.rendition)
	if !ok {
		return
	}
	if m.iframes && rend.Kind != media.Video {
		s.fail(w, r, errUnknown)
		return
	}
	var p *playlist.Rendered
	var listed []*segmenter.Segment
	var ended bool
	var modified int64
	if m.iframes {
		win := rend.Window()
		if listed, ended = win.Segments, win.Ended; len(listed) > 0 {
			p = playlist.IFramesOnly(win, enc)
		}
	} else {
		program, ok := playlist.NewTSProgram(rend)
		if !ok {
			s.fail(w, r, errNoTS)
			return
		}
		if listed, ended = program.Listed(); len(listed) > 0 {
			p = playlist.TS(program, enc)
			if src, err := program.Segment(listed[len(listed)-1].MSN); err == nil && src.Audio != nil {
				modified = completed(src.Audio) // it may have been what the segment had to wait for
			}
		}
	}
	if p == nil {
		s.failIn(w, r, segmenter.ErrNotReady, run.TargetDuration())
		return
	}
	modified = max(modified, completed(listed[len(listed)-1]))
	o := object{cache: maxAge(max(run.TargetDuration()/2, 1)), modified: modified / media.Second, live: !ended}
	if ended {
		o.cache = cacheEnded
	}
	o.setPlaylist(p)
	w.reply(&o)
}

// setTSSegment: an MPEG-TS segment is there for as long as what it is made of, also when there is no playlist any more because the
// encoder has gone over to another codec (RFC 8216bis 6.2.2). Its tag is known without making it.
func (s *Server) setTSSegment(o *object, rend *segmenter.Rendition, msn uint64) error {
	program, _ := playlist.NewTSProgram(rend)
	src, err := program.Segment(msn)
	if err != nil {
		return err
	}
	o.contentType, o.ts = typeTS, &tsObject{source: src, msn: msn}
	o.cmsd = cmsd{kind: rend.Kind, scale: src.Main.Init.Track.Timescale, ticks: src.Main.Duration, bytes: src.Main.Size()}
	if src.AudioInit != nil {
		o.cmsd.muxed = true
	}
	if src.Audio != nil {
		o.cmsd.bytes += src.Audio.Size()
	}
	if o.tag, err = o.ts.tag(); err != nil {
		return err
	}
	o.modified = ends(src.Main) / media.Second
	return nil
}

// tag names the segment's bytes, which are a function of all that is hashed.
func (t *tsObject) tag() (string, error) {
	h := sha256.New()
	add := func(v string) { h.Write([]byte(v + "\n")) }
	add(tsFormat)
	add(strconv.FormatUint(t.msn, 10))
	add(strconv.FormatInt(t.source.Main.Start, 10))
	add(strconv.FormatInt(t.source.Main.Duration, 10))
	for _, part := range []struct {
		segment *segmenter.Segment
		init    *segmenter.Init
	}{{t.source.Main, t.source.Main.Init}, {t.source.Audio, t.source.AudioInit}} {
		content, description := "", ""
		if part.segment != nil {
			var err error
			if content, err = part.segment.Hash(); err != nil {
				return "", err
			}
		}
		if part.init != nil {
			description = part.init.Hash
		}
		add(content)
		add(description)
	}
	return hex.EncodeToString(h.Sum(nil)[:12]), nil
}

// make multiplexes the segment.
func (t *tsObject) make() ([]byte, error) {
	main, err := source(&t.source.Main.Init.Track, t.source.Main)
	if err != nil {
		return nil, err
	}
	if t.source.Main.Init.Track.Kind == media.Audio {
		return mpegts.AppendSegment(nil, t.msn, nil, main)
	}
	main.Delay = int64(main.Track.Timescale) / tsDelay
	var audio *mpegts.Source
	if t.source.AudioInit != nil {
		if audio, err = source(&t.source.AudioInit.Track, t.source.Audio); err != nil {
			return nil, err
		}
	}
	return mpegts.AppendSegment(nil, t.msn, main, audio)
}

// source returns what the multiplexer is to be given of a segment, which may be nil. An error says that the store could not be
// read.
func source(track *media.Track, seg *segmenter.Segment) (*mpegts.Source, error) {
	s := &mpegts.Source{Track: track}
	if seg == nil {
		return s, nil
	}
	s.From, s.To = seg.Start, seg.Start+seg.Duration
	seg, err := seg.Load()
	if err != nil {
		return nil, err
	}
	size := 0
	for _, p := range seg.Parts {
		size += p.Size() - p.HeadSize()
	}
	data := make([]byte, 0, size)
	for _, p := range seg.Parts {
		from := len(data)
		if data, err = p.AppendPayload(data); err != nil {
			return nil, err
		}
		s.Chunks = append(s.Chunks, mpegts.Chunk{Time: p.Time, Samples: p.Samples, Data: data[from:]})
	}
	return s, nil
}

// permanent says whether an error of make is the media's fault, and so would come again.
func permanent(err error) bool {
	var format *media.FormatError
	var unsupported *media.UnsupportedError
	return errors.As(err, &format) || errors.As(err, &unsupported)
}

// loadTS makes o's bytes, or finds them. A HEAD request makes nothing: it is told the length only where that is known (RFC 9110
// 9.3.2). It says false when the request has been answered.
func (s *Server) loadTS(w *response, r *http.Request, o *object) bool {
	var err error
	if r.Method == http.MethodHead {
		var ok bool
		if o.bytes, ok, err = s.ts.peek(o.tag); !ok {
			w.size = -1
			w.writeFields(http.StatusOK)
			return false
		}
	} else {
		ctx := r.Context()
		if s.draining.Load() { // it is cancelled, but what does not have to be waited for is still served
			ctx = context.WithoutCancel(ctx)
		}
		ctx, cancel := context.WithTimeout(ctx, tsPatience)
		defer cancel()
		o.bytes, err = s.ts.get(ctx, o.tag, func() ([]byte, error) {
			s.metrics.muxed.Add(1)
			return o.ts.make()
		})
	}
	switch {
	case permanent(err):
		err = errGone // nor will it ever be here: what the encoder sent cannot be put into MPEG-TS
	case errors.Is(err, context.DeadlineExceeded):
		err = errCrowded
	case errors.Is(err, context.Canceled) && s.draining.Load():
		err = errDraining
	case errors.Is(err, context.Canceled):
		err = errLeft
	}
	if err != nil {
		s.failIn(w, r, err, o.target)
		return false
	}
	o.size = len(o.bytes)
	return true
}
