package segmenter

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"headwater/segmenter/journal"
	"headwater/segmenter/media"
)

// TestRecoverAnything: whatever is in a log, if only its checksums are right, is refused or is a run that goes on.
func TestRecoverAnything(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{PartTarget: DefaultPartTarget}
	o, kill, _ := restart(t, dir, cfg, time.Time{})
	f := newFeed(t, o, "live/a", 5, 10).tracks().run(11)
	kill()
	log, err := os.ReadFile(journals(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	rounds := often(300)
	if testing.Short() {
		rounds = 50
	}
	refused := 0
	for seed := range rounds {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		var records []any
		d, _, _ := journal.NewDecoder(log)
		for r, err := d.Next(); err == nil; r, err = d.Next() {
			records = append(records, r)
		}
		for range 1 + rng.IntN(3) {
			i, j := rng.IntN(len(records)), rng.IntN(len(records))
			switch rng.IntN(4) {
			case 0:
				records = slices.Delete(records, i, i+1)
			case 1:
				records = slices.Insert(records, i, records[j])
			case 2:
				records[i], records[j] = records[j], records[i]
			case 3:
				scramble(rng, reflect.ValueOf(records[i]).Elem())
			}
		}
		b := journal.AppendHeader(nil)
		for _, r := range records {
			b = journal.Append(b, r)
		}
		again := filepath.Join(t.TempDir(), "x")
		copyDir(t, again, dir)
		if err := os.WriteFile(journals(t, again)[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
		now := time.Unix(0, f.wall).Add(12 * time.Second)
		o, kill, errs := restart(t, again, cfg, now)
		refused += len(errs)
		for _, s := range o.Streams() {
			p, err := o.Open(s.Name, "", now)
			if err != nil {
				t.Fatal(err)
			}
			p.SetTracks([]media.Track{videoTrack(), audioTrack()})
			for i := range 100 {
				at := int64(i) * 40
				p.WriteSample(0, &media.Sample{DTS: at * 90, Sync: i%25 == 0, Arrived: now.UnixNano() + at*1e6, Data: f.payload[:100]})
				p.WriteSample(1, &media.Sample{DTS: at * 48, Sync: true, Arrived: now.UnixNano() + at*1e6, Data: f.payload[:50]})
			}
			p.Close(nil)
			o.Tick(now.Add(5 * time.Second))
		}
		o.Tick(now.Add(time.Hour))
		o.Tick(now.Add(2 * time.Hour))
		if n := o.kept.Load(); n != 0 || len(journals(t, again)) != 0 {
			t.Errorf("seed %d: %d bytes are kept of nothing, %d logs", seed, n, len(journals(t, again)))
		}
		kill()
		os.RemoveAll(again)
	}
	t.Logf("%d of %d refused", refused, rounds)
	if refused == 0 || refused == rounds {
		t.Errorf("%d of %d are refused", refused, rounds)
	}
}

// scramble changes one number in v.
func scramble(rng *rand.Rand, v reflect.Value) {
	if v.NumField() == 0 {
		return
	}
	f := v.Field(rng.IntN(v.NumField()))
	n := []int64{0, 1, -1, 2, 1 << 20, 1<<62 + 5}[rng.IntN(6)]
	switch f.Kind() {
	case reflect.Int, reflect.Int64:
		if f.Type().Kind() == reflect.Int && n < 0 {
			n = 3
		}
		f.SetInt(n)
	case reflect.Uint64, reflect.Uint8:
		f.SetUint(uint64(n) & (1<<(f.Type().Bits()-1)*2 - 1))
	case reflect.Bool:
		f.SetBool(!f.Bool())
	case reflect.Struct:
		scramble(rng, f)
	}
}
