package segmenter

import (
	"testing"

	"headwater/segmenter/media"
)

// What a clock in the stream says of where two publications belong is believed only if it can be the time of day of their source.
func TestAlignClocks(t *testing.T) {
	const s = media.Second
	hour := int64(3600 * s)
	// keys are n key frames every 2 s from a time on, whose clock begins at a value and goes at a rate; they arrive as they are presented, later by lag.
	keys := func(n int, from, base, clock int64, rate float64, lag int64) (out []keyTime) {
		for i := range n {
			at := from + int64(i)*2*s
			k := keyTime{time: at - base, arrived: at + lag, clock: clock}
			if clock != 0 {
				k.clock = clock + int64(rate*float64(at-from))
			}
			out = append(out, k)
		}
		return out
	}
	for name, c := range map[string]struct {
		own, lead []keyTime
		offset    int64
		ok        bool
	}{
		"the time of day":                   {keys(2, 10*s, 9*s, hour, 1, 0), keys(6, 0, 0, hour-10*s, 1, 0), 9 * s, true},
		"late":                              {keys(2, 10*s, 9*s, hour, 1, 2*s), keys(6, 0, 0, hour-10*s, 1, 0), 9 * s, true},
		"over midnight":                     {keys(3, 10*s, 9*s, media.Day-2*s, 1, 0), keys(8, 0, 0, media.Day-12*s, 1, 0), 9 * s, true},
		"one that stands":                   {keys(1, 13*s/10, 13*s/10, hour, 0, 0), keys(1, 0, 0, hour, 0, 0), 0, false},
		"one that stands, later":            {keys(2, 33*s/10, 33*s/10, hour, 0, 0), keys(2, 0, 0, hour, 0, 0), 0, false},
		"both count from where they began":  {keys(1, 13*s/10, 13*s/10, hour, 1, 0), keys(1, 0, 0, hour, 1, 0), 0, false},
		"both count from there, seen later": {keys(3, 33*s/10, 33*s/10, hour, 1, 0), keys(4, 0, 0, hour, 1, 0), 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			offset, ok := alignClocks(c.own, c.lead, true, false, s/60)
			if ok != c.ok || ok && offset != c.offset {
				t.Errorf("%v, %v; want %v, %v", offset, ok, c.offset, c.ok)
			}
		})
	}
}
