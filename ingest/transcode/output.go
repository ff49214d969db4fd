package transcode

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"headwater/ingest"
	"headwater/ingest/flv"
	"headwater/segmenter/media"
)

// An output is the way of one rung from the child to its Writer. It is a Writer itself, for the flv.Demuxer. Its methods
// are called from one goroutine, the one that reads the pipe; when that has ended, from the supervisor's.
type output struct {
	t    *Transcoder
	run  *run
	rung planned

	demux  flv.Demuxer
	tracks []media.Track // at most one, and described
	w      ingest.Writer // nil while it is not open
	pause  pause         // between attempts to open it
	retry  time.Time     // no earlier than that; zero is at once
	told   bool          // the log says that it cannot be opened

	last atomic.Int64 // presentation time of the last sample, source's ns; 0 is none
}

func newOutput(t *Transcoder, r *run, rung planned) *output {
	o := &output{t: t, run: r, rung: rung, pause: pause{first: t.times.backoff, limit: t.times.limit}}
	o.demux.W = o
	return o
}

// read demuxes the rung until its end. It returns nil at a proper one.
func (o *output) read(pipe io.Reader) error {
	r := tagReader{r: bufio.NewReaderSize(pipe, readStep)}
	for {
		t, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		o.run.tags.Add(1)
		arrived := time.Now().UnixNano()
		switch t.kind {
		case tagVideo:
			err = o.demux.Video(t.ts+o.run.base, arrived, t.body)
		case tagAudio:
			err = o.demux.Audio(t.ts+o.run.base, arrived, t.body)
		case tagData:
			err = o.demux.Data(t.ts+o.run.base, t.body)
		}
		if err != nil {
			return err
		}
	}
}

// SetTracks implements ingest.Writer. The list is the output's own.
func (o *output) SetTracks(tracks []media.Track) error {
	kind := media.Video
	if o.rung.Audio {
		kind = media.Audio
	}
	if len(tracks) != 1 || tracks[0].Kind != kind {
		return media.Formatf(where, "has other tracks than %v", kind)
	}
	if !tracks[0].Ready() {
		return nil
	}
	if o.rung.Audio {
		tracks[0].Language, tracks[0].Label = o.run.plan.a.Language, o.run.plan.a.Label
	}
	o.tracks = tracks
	if o.w != nil {
		o.check(o.w.SetTracks([]media.Track{tracks[0]}))
	}
	return nil
}

// WriteSample implements ingest.Writer.
func (o *output) WriteSample(track int, s *media.Sample) error {
	if !o.rung.Audio {
		// There are no B-frames: decode and presentation times are the same, and move together.
		pts := s.DTS + int64(s.CTO)
		shift, lost := o.t.exact.get(pts/(videoTimescale/1000)-o.run.base, pts)
		s.DTS += shift
		s.Lost = lost
	}
	o.t.count.framesOut.Add(1)
	o.last.Store(media.Rescale(s.DTS+int64(s.CTO), o.tracks[0].Timescale, media.Second))
	if o.w == nil && s.Sync {
		o.open(s.Arrived)
	}
	if o.w != nil {
		o.check(o.w.WriteSample(track, s))
	}
	return nil
}

// Close implements ingest.Writer.
func (o *output) Close(reason error) error {
	if o.w == nil {
		return nil
	}
	w := o.w
	o.w = nil
	return w.Close(reason)
}

func (o *output) open(now int64) {
	if !o.retry.IsZero() && time.Unix(0, now).Before(o.retry) {
		return
	}
	select {
	case <-o.t.closed:
		return // there is nothing any more that it would be a rung of
	default:
	}
	w, err := o.t.ladder.Open(o.t.name, o.rung.Rung)
	if err != nil {
		level := slog.LevelWarn
		if o.told { // once is enough: whoever has the place may keep it for days
			level = slog.LevelDebug
		}
		o.told = true
		o.failed(level, "rung cannot be opened", err)
		return
	}
	o.w, o.told = w, false
	o.check(w.SetTracks([]media.Track{o.tracks[0]}))
}

// check ends the rung's publication on an error, for which only the rung is to blame; the child goes on.
func (o *output) check(err error) {
	if err == nil {
		return
	}
	w := o.w
	o.w = nil
	if closing := w.Close(err); closing != nil {
		err = fmt.Errorf("%w (and %w)", err, closing)
	}
	o.failed(slog.LevelWarn, "rung ended", err)
}

func (o *output) failed(level slog.Level, what string, err error) {
	wait := o.pause.next(0)
	o.retry = time.Now().Add(wait)
	o.t.log.Log(context.Background(), level, what, "rung", o.rung.Name, "err", err, "retry", wait)
}
