package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"headwater/segmenter"
	"headwater/segmenter/store"
	"headwater/web"
)

// defaultDataDir is the value of data-dir that stands for a folder in the one that the platform keeps for state.
const defaultDataDir = "auto"

// openDataDir opens the directory in which live windows are kept over a restart; nil is none. One that nobody has chosen is done
// without if it cannot be used, and so is any in the demo.
func openDataDir(l *Loaded, log *slog.Logger) (*store.Dir, error) {
	set := l.Settings.DataDir
	if set == "" || l.Command == "demo" && l.From["data-dir"] == fromDefault {
		return nil, nil
	}
	if set != defaultDataDir {
		dir, err := store.OpenDir(set)
		if err != nil {
			return nil, bad("data-dir", "%w; %s", err, dataDirFix(err))
		}
		return dir, nil
	}
	path, err := stateDir("data")
	var dir *store.Dir
	if err == nil {
		dir, err = store.OpenDir(path)
	}
	if err != nil {
		log.Warn("live windows are kept in memory only: a restart loses them", "err", err, "fix", dataDirFix(err))
		return nil, nil
	}
	return dir, nil
}

// dataDirFix is what to do about a directory that cannot be used.
func dataDirFix(err error) string {
	switch {
	case errors.Is(err, store.ErrLocked):
		return "give each its own with --data-dir, or --data-dir '' for memory only"
	case errors.Is(err, errors.ErrUnsupported):
		return "choose another with --data-dir, or --data-dir '' for memory only"
	}
	return fmt.Sprintf("choose one that the user that runs headwater (uid %d) can write with --data-dir, or --data-dir '' for memory only", os.Getuid())
}

// checkWithoutData says which setting means nothing when there is no data directory.
func (s *Settings) checkWithoutData() error {
	const needs = "needs a data directory, and there is none: set data_dir"
	if s.OnStop == "keep" {
		return bad("on-stop", "keep "+needs)
	}
	for _, v := range s.everyStream() {
		switch {
		case v.DVR > 0:
			return bad("dvr", needs)
		case v.Event:
			return bad("event", needs)
		case v.Record > 0:
			return bad("record", needs)
		}
	}
	return nil
}

// stateDir is a folder in the one that the platform keeps for the state of programs (systemd's StateDirectory=, the XDG
// Base Directory Specification).
func stateDir(name string) (string, error) {
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return filepath.Join(dir, name), nil
	}
	dir := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) {
		var err error
		if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
			dir, err = os.UserConfigDir()
		} else if dir, err = os.UserHomeDir(); err == nil {
			dir = filepath.Join(dir, ".local", "state")
		}
		if err != nil {
			return "", errors.New("this user has no folder for state; set one")
		}
	}
	return filepath.Join(dir, "headwater", name), nil
}

// recover brings back what dir has and keeps what is published there from now on.
func (o *origin) recover(dir *store.Dir) {
	if dir == nil {
		return
	}
	begun := time.Now()
	n, errs := o.origin.Recover(dir, begun)
	for _, err := range errs {
		o.log.Warn("a live window that was kept has not come back: the stream's next publication begins anew", "err", err)
	}
	if n > 0 {
		o.log.Info("live windows have come back", "runs", n, "took", time.Since(begun).Round(time.Millisecond))
	}
	o.web.Counters = append(o.web.Counters, storeCounters(o.origin)...)
	o.web.Warning = func() string {
		if k := o.origin.Keeping(); k.Failing > 0 {
			return fmt.Sprintf("%d live windows cannot be kept on disk and would not survive a restart: %v", k.Failing, k.Err)
		}
		return ""
	}
}

func storeCounters(o *segmenter.Origin) []web.Counter {
	k := func(f func(segmenter.Keeping) float64) func() float64 {
		return func() float64 { return f(o.Keeping()) }
	}
	return []web.Counter{
		{Name: "headwater_store_runs", Help: "Live windows that are kept on disk, or should be.", Gauge: true,
			Value: k(func(k segmenter.Keeping) float64 { return float64(k.Runs) })},
		{Name: "headwater_store_failing", Help: "Live windows that cannot be kept on disk, and go on in memory alone.", Gauge: true,
			Value: k(func(k segmenter.Keeping) float64 { return float64(k.Failing) })},
		{Name: "headwater_store_failures_total", Help: "Times that a live window could no longer be kept on disk.",
			Value: k(func(k segmenter.Keeping) float64 { return float64(k.Failures) })},
		{Name: "headwater_recordings", Help: "Runs that have ended and are kept.", Gauge: true,
			Value: func() float64 { return float64(len(o.Recordings(""))) }},
		{Name: "headwater_recordings_bytes", Help: "Bytes of media in them.", Gauge: true,
			Value: func() (n float64) {
				for _, r := range o.Recordings("") {
					n += float64(r.Bytes)
				}
				return n
			}},
	}
}

// storeWell is for how many seconds all live windows must have been kept before that is believed: a full disk has room for a
// moment whenever something is let go.
const storeWell = 60

// watchStore logs when live windows can no longer be kept on disk, once for all of them, and when they are again. It is called
// once a second.
func (o *origin) watchStore() {
	k := o.origin.Keeping()
	if k.Failing > 0 || k.Failures > o.storeFailures {
		o.storeWell = 0
	}
	switch {
	case k.Failures > o.storeFailures && !o.storeFailing:
		o.storeFailing = true
		o.log.Error("live windows cannot be kept on disk: the streams go on in memory, and would not survive a restart", "runs", k.Failing, "err", k.Err)
	case k.Failing == 0 && o.storeFailing:
		if o.storeWell++; o.storeWell >= storeWell {
			o.storeFailing = false
			o.log.Info("live windows are kept on disk again")
		}
	}
	o.storeFailures = k.Failures
}
