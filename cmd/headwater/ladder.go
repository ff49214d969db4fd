package main

import (
	"log/slog"
	"time"

	"headwater/ingest"
	"headwater/ingest/transcode"
	"headwater/segmenter"
)

// ladderWait is how long stopping waits for the children: a little longer than they get to finish.
const ladderWait = 6 * time.Second

// ladders make lower renditions of single pushes, by what is set for their names. Those of a backup are the backups of the
// primary's.
type ladders map[ladderKey]*transcode.Ladder

type ladderKey struct {
	of     *StreamSettings
	backup bool
}

// checkLadders says what is wrong with the ffmpeg that configured ladders need.
func (s *Settings) checkLadders(log *slog.Logger) error {
	for _, c := range s.everyStream() {
		if len(c.Ladder) == 0 {
			continue
		}
		version, err := transcode.Look(s.FFmpeg)
		if err != nil {
			return bad("ladder", "%w", err)
		}
		log.Info("ladders are made by ffmpeg", "version", version)
		return nil
	}
	return nil
}

// newLadders makes the ladders of the settings, which have been checked.
func newLadders(s *Settings, gate *ingest.Gate, origin *segmenter.Origin, log *slog.Logger) ladders {
	ls := ladders{}
	openAs := func(name string, r transcode.Rung, backup bool) (ingest.Writer, error) {
		return gate.Make(ingest.Rendition{Stream: name, Name: r.Name, Backup: backup}, func() (ingest.Writer, error) {
			p, err := openInput(origin, name, r.Name, backup)
			if err != nil {
				return nil, err
			}
			p.Derive("")
			return p, nil
		})
	}
	for _, c := range s.everyStream() {
		if len(c.Ladder) == 0 {
			continue
		}
		var rungs []transcode.Rung
		for _, name := range c.Ladder {
			r, _ := transcode.Preset(name)
			rungs = append(rungs, r)
		}
		for _, backup := range []bool{false, true} {
			open := func(name string, r transcode.Rung) (ingest.Writer, error) { return openAs(name, r, backup) }
			ls[ladderKey{c, backup}] = &transcode.Ladder{FFmpeg: s.FFmpeg, Rungs: rungs, Open: open, Log: log}
		}
	}
	return ls
}

// wait returns when all children have ended, and says whether they have.
func (ls ladders) wait() bool {
	limit := time.Now().Add(ladderWait)
	ended := true
	for _, l := range ls {
		ended = l.Wait(time.Until(limit)) && ended
	}
	return ended
}

// stats are the sum.
func (ls ladders) stats() transcode.Stats {
	var sum transcode.Stats
	for _, l := range ls {
		sum.Add(l.Stats())
	}
	return sum
}
