package main

import (
	"time"

	"headwater/segmenter"
)

// openInput begins a publication of a rendition, as its backup or its primary.
func openInput(o *segmenter.Origin, name, rung string, backup bool) (*segmenter.Publication, error) {
	if backup {
		return o.OpenBackup(name, rung, time.Now())
	}
	return o.Open(name, rung, time.Now())
}

// A switchKey is a place that an encoder has.
type switchKey struct {
	stream, rung string
	backup       bool
}

// tellSwitches logs when and why a rendition has gone over from its primary to its backup, or back.
func (o *origin) tellSwitches() {
	seen := map[switchKey]segmenter.Switch{}
	for _, s := range o.origin.Streams() {
		for _, in := range s.Status().Inputs {
			if in.Switched.At == 0 {
				continue
			}
			k := switchKey{s.Name, in.Rung, in.Backup}
			if seen[k] = in.Switched; o.switched[k] == in.Switched {
				continue
			}
			o.log.Warn("input switched", "stream", s.Name, "rendition", in.Rung, "to", in.Role(), "reason", in.Switched.Reason,
				"at", time.Unix(0, in.Switched.At).UTC().Format(time.RFC3339Nano))
		}
	}
	o.switched = seen
}
