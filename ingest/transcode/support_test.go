package transcode

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"headwater/ingest"
	"headwater/ingest/flv"
	"headwater/segmenter/media"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// needFFmpeg skips t, or in CI fails it, when there is no ffmpeg.
func needFFmpeg(t testing.TB) {
	t.Helper()
	if _, err := Look(""); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// A step is one call of a Writer's: WriteSample, or SetTracks when tracks is not nil.
type step struct {
	tracks []media.Track
	track  int
	sample media.Sample
}

// A recorder is a Writer that keeps what it gets.
type recorder struct {
	mu     sync.Mutex
	steps  []step
	tracks []media.Track
	closed bool
	reason error
	fail   error // what WriteSample returns
}

func (r *recorder) SetTracks(tracks []media.Track) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tracks = tracks
	r.steps = append(r.steps, step{tracks: tracks})
	return nil
}

func (r *recorder) WriteSample(track int, s *media.Sample) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	kept := *s
	kept.Data = bytes.Clone(s.Data)
	r.steps = append(r.steps, step{track: track, sample: kept})
	return nil
}

func (r *recorder) Close(reason error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		panic("closed twice")
	}
	r.closed, r.reason = true, reason
	return nil
}

// samples returns those of one kind.
func (r *recorder) samples(kind media.Kind) []media.Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	return samplesOf(r.steps, kind)
}

func samplesOf(steps []step, kind media.Kind) (out []media.Sample) {
	var tracks []media.Track
	for _, s := range steps {
		if s.tracks != nil {
			tracks = s.tracks
		} else if tracks[s.track].Kind == kind {
			out = append(out, s.sample)
		}
	}
	return out
}

// pts are presentation times, in ticks; keys of the key frames only. They are in order.
func pts(samples []media.Sample, keys bool) (out []int64) {
	for _, s := range samples {
		if s.Sync || !keys {
			out = append(out, s.DTS+int64(s.CTO))
		}
	}
	for i := range out { // B-frames are out of order by a few places
		for j := i; j > 0 && out[j] < out[j-1]; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	return out
}

var clips sync.Map // by arguments, *sync.Once result

// clip has ffmpeg make a clip, and returns it as a listener would hand it over.
func clip(t testing.TB, args string) []step {
	t.Helper()
	needFFmpeg(t)
	made, _ := clips.LoadOrStore(args, sync.OnceValues(func() ([]step, error) {
		dir, err := os.MkdirTemp("", "clip")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		out := filepath.Join(dir, "clip.flv")
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "ffmpeg", append(append([]string{"-v", "error"}, strings.Fields(args)...), "-f", "flv", out)...)
		if b, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%v: %s", err, b)
		}
		file, err := os.ReadFile(out)
		if err != nil {
			return nil, err
		}
		var r recorder
		d := flv.Demuxer{W: &r}
		for b := file[13:]; len(b) >= 15 && err == nil; {
			n := int(binary.BigEndian.Uint32(b) & 0xffffff)
			ts := int64(b[7])<<24 | int64(b[4])<<16 | int64(b[5])<<8 | int64(b[6])
			switch b[0] {
			case tagAudio:
				err = d.Audio(ts, 0, b[11:11+n])
			case tagVideo:
				err = d.Video(ts, 0, b[11:11+n])
			case tagData:
				err = d.Data(0, b[11:11+n])
			}
			b = b[15+n:]
		}
		return r.steps, err
	}))
	steps, err := made.(func() ([]step, error))()
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

// moved returns the steps on a clock that shows more by ms.
func moved(steps []step, ms int64) []step {
	out := make([]step, len(steps))
	var tracks []media.Track
	for i, s := range steps {
		if s.tracks != nil {
			tracks = s.tracks
		} else {
			s.sample.DTS += media.Rescale(ms, 1000, tracks[s.track].Timescale)
		}
		out[i] = s
	}
	return out
}

// publish plays the steps into t as fast as its child takes them.
func publish(tb testing.TB, t *Transcoder, steps []step) {
	tb.Helper()
	for i, s := range steps {
		if s.tracks != nil {
			if err := t.SetTracks(s.tracks); err != nil {
				tb.Fatal(err)
			}
			continue
		}
		if err := t.WriteSample(s.track, &s.sample); err != nil {
			tb.Fatal(err)
		}
		if i%8 == 0 {
			r := t.running()
			await(tb, "the child to take its input", func() bool {
				return r == nil || r.over.Load() || r.ring.free() > queueSize*15/16 && r.marks.behind(r.ring.tail.Load(), r.fed.Load()/1e6) < 1000
			})
		}
	}
}

// await waits for something that a process does.
func await(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("no sign of %s", what)
		}
	}
}

// A bench is a ladder whose rungs are recorded.
type bench struct {
	Ladder
	mu   sync.Mutex
	outs map[string][]*recorder
	log  lockedBuffer
}

func newBench(tb testing.TB, ffmpeg string, rungs ...Rung) *bench {
	b := &bench{outs: map[string][]*recorder{}}
	b.FFmpeg, b.Rungs = ffmpeg, rungs
	b.Log = slog.New(slog.NewTextHandler(&b.log, nil))
	b.Open = func(name string, r Rung) (ingest.Writer, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		w := &recorder{}
		b.outs[r.Name] = append(b.outs[r.Name], w)
		return w, nil
	}
	b.times.tail = 20 * time.Second // a busy machine
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("%s", b.log.String())
		} else {
			b.Wait(time.Minute)
		}
	})
	return b
}

// out returns the recorders of a rung, one for each time it was opened.
func (b *bench) out(name string) []*recorder {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*recorder(nil), b.outs[name]...)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func preset(t testing.TB, name string) Rung {
	t.Helper()
	r, ok := Preset(name)
	if !ok {
		t.Fatalf("no preset %s", name)
	}
	return r
}

func finished(t testing.TB, tr *Transcoder) {
	t.Helper()
	select {
	case <-tr.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the transcoder does not end")
	}
}
