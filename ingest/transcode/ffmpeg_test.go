//go:build unix

package transcode

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"headwater/ingest/ingesttest"
	"headwater/segmenter/media"
)

const (
	sines   = " -f lavfi -i sine=r=44100 -c:a aac -ac 1"
	plain   = "-f lavfi -i testsrc2=s=640x360:r=30" + sines + " -t 8 -c:v libx264 -preset ultrafast -bf 3 -g 60 -pix_fmt yuv420p"
	uneven  = "-f lavfi -i testsrc2=s=640x360:r=30000/1001" + sines + " -t 8 -c:v libx264 -preset ultrafast -bf 2 -g 300 -pix_fmt yuv420p -force_key_frames 0,0.5,0.534,2.2,2.3,5,5.9,7"
	openGOP = "-f lavfi -i testsrc2=s=640x360:r=30 -t 4 -c:v libx264 -preset ultrafast -bf 3 -pix_fmt yuv420p -x264-params open-gop=1:keyint=30:scenecut=0"
	other   = "-f lavfi -i testsrc2=s=480x272:r=30 -t 3 -c:v libx264 -preset ultrafast -bf 0 -g 30 -pix_fmt yuv420p"
)

func small(name string, height int) Rung { return Rung{Name: name, Lines: height, BitRate: 300_000} }

// Every rung's frames are presented when the source's are, and its key frames are those of the source.
func TestTimes(t *testing.T) {
	for _, c := range []struct {
		name, clip string
		move       int64 // ms
		fine       int64 // ticks of 90 kHz, for what a transport stream's times are like
	}{
		{"regular", plain, 0, 0},
		{"uneven GOPs, NTSC rate", uneven, 1234, 0},
		{"open GOPs", openGOP, 0, 0},
		{"beyond 31 bits", plain, 1<<31 - 3000, 0},
		{"beyond 32 bits", uneven, 1<<32 - 2000, 0},
		{"before zero", plain, -4000, 0},
		{"finer than milliseconds", uneven, 50_000, 37},
	} {
		t.Run(c.name, func(t *testing.T) {
			steps := moved(clip(t, c.clip), c.move)
			var tracks []media.Track
			for i, s := range steps {
				if s.tracks != nil {
					tracks = s.tracks
				} else if tracks[s.track].Kind == media.Video {
					steps[i].sample.DTS += c.fine * int64(i%2) / 2
					steps[i].sample.CTO += int32(c.fine)
				}
			}
			b := newBench(t, "", small("a", 180), small("b", 90), preset(t, "audio"))
			var source recorder
			tr := b.Wrap("live/x", &source)
			publish(t, tr, steps)
			if err := tr.Close(nil); err != nil {
				t.Fatal(err)
			}
			finished(t, tr)
			if len(source.steps) != len(steps) || !source.closed {
				t.Errorf("the source's Writer got %d of %d calls, closed %v", len(source.steps), len(steps), source.closed)
			}
			in := source.samples(media.Video)
			for i, name := range []string{"a", "b"} {
				outs := b.out(name)
				if len(outs) != 1 {
					t.Fatalf("rung %s was opened %d times", name, len(outs))
				}
				out := outs[0]
				got := out.samples(media.Video)
				if !slices.Equal(pts(got, true), pts(in, true)) {
					t.Errorf("%s: key frames at\n%d, want\n%d", name, pts(got, true), pts(in, true))
				}
				if !slices.Equal(pts(got, false), pts(in, false)) {
					t.Errorf("%s: %d frames at\n%d, want %d at\n%d", name, len(got), pts(got, false), len(in), pts(in, false))
				}
				for i, s := range got {
					if s.Arrived == 0 || s.Lost || i > 0 && s.DTS <= got[i-1].DTS {
						t.Fatalf("%s: sample %d is %+v", name, i, s)
					}
				}
				v := out.tracks[0]
				if want := []int{180, 90}[i]; len(out.tracks) != 1 || v.Height != want || v.Width != want*16/9 || !v.Ready() || v.FrameRate != tracks[0].FrameRate {
					t.Errorf("%s: tracks %+v", name, out.tracks)
				}
				if out.reason != nil || !out.closed {
					t.Errorf("%s: closed %v, %v", name, out.closed, out.reason)
				}
			}
			if len(tracks) > 1 {
				out := b.out("audio")
				if len(out) != 1 || len(out[0].tracks) != 1 || out[0].tracks[0].Channels != 1 || out[0].tracks[0].SampleRate != 44100 {
					t.Fatalf("audio: %+v", out)
				}
				in, got := source.samples(media.Audio), out[0].samples(media.Audio)
				// The encoder begins with a frame of its own, and may end with one.
				if d := len(got) - len(in); d < 0 || d > 3 {
					t.Errorf("audio: %d frames of %d", len(got), len(in))
				}
				if d := got[0].DTS - in[0].DTS; d < -3*1024 || d > 1024 {
					t.Errorf("audio begins %d samples after the source's", d)
				}
			}
			s := tr.Stats()
			if s.Starts != 1 || s.Failures != 0 || s.DroppedGOPs != 0 || s.FramesIn != uint64(len(in)) || s.FramesOut < 2*s.FramesIn || s.CPU == 0 || s.Running != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// The encoder keeps to its bit rate, though it is told times in milliseconds and no frame rate.
func TestBitRate(t *testing.T) {
	b := newBench(t, "", Rung{Name: "a", Lines: 270, BitRate: 400_000})
	steps := clip(t, "-f lavfi -i testsrc2=s=640x360:r=30,noise=alls=40:allf=t -t 6 -c:v libx264 -preset ultrafast -b:v 4M -bf 2 -g 60 -pix_fmt yuv420p")
	tr := b.Wrap("live/x", &recorder{})
	publish(t, tr, steps)
	tr.Close(nil)
	finished(t, tr)
	bytes := 0
	for _, s := range b.out("a")[0].samples(media.Video) {
		bytes += len(s.Data)
	}
	if rate := bytes * 8 / 6; rate < 300_000 || rate > 500_000 {
		t.Errorf("%d bits a second, want about 400000", rate)
	}
}

// A child that dies is replaced at a later key frame. The rungs end with an error and are opened again.
func TestRestart(t *testing.T) {
	steps := clip(t, plain)
	b := newBench(t, "", small("a", 180))
	b.times.backoff = 10 * time.Millisecond
	tr := b.Wrap("live/x", &recorder{})
	publish(t, tr, steps)
	first := b.out("a")[0]
	tr.mu.Lock()
	pid := tr.pid
	tr.mu.Unlock()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the loss", tr.want.Load)
	more := moved(steps, 8000)
	publish(t, tr, more)
	tr.Close(nil)
	finished(t, tr)
	outs := b.out("a")
	if len(outs) != 2 || !first.closed || first.reason == nil || !strings.Contains(first.reason.Error(), "killed") {
		t.Fatalf("opened %d times, first closed %v: %v", len(outs), first.closed, first.reason)
	}
	if got, want := pts(outs[1].samples(media.Video), false), pts(samplesOf(more, media.Video), false); !slices.Equal(got, want) {
		t.Errorf("after the restart %d frames from %d, want %d from %d", len(got), got[0], len(want), want[0])
	}
	if s := tr.Stats(); s.Starts != 2 || s.Restarts != 1 || s.Failures != 1 {
		t.Errorf("%+v", s)
	}
	if outs[1].reason != nil {
		t.Error(outs[1].reason)
	}
}

// A child that stands still for a while loses whole GOPs: what comes out goes on with a key frame that says that frames
// before it were lost, and every frame still has its time.
func TestSlowChild(t *testing.T) {
	steps := clip(t, plain)
	b := newBench(t, "", small("a", 180))
	var source recorder
	tr := b.Wrap("live/x", &source)
	publish(t, tr, steps)
	tr.mu.Lock()
	pid := tr.pid
	tr.mu.Unlock()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for more := slices.DeleteFunc(moved(steps, 8000), func(s step) bool { return s.tracks != nil }); len(more) > 0; {
		ingesttest.Within(t, "a frame of the source", time.Second, func() time.Duration {
			if len(more) == 0 {
				return 0
			}
			s := more[0]
			more = more[1:]
			start := time.Now()
			if err := tr.WriteSample(s.track, &s.sample); err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		})
	}
	stopped := tr.Stats()
	if stopped.DroppedGOPs == 0 || stopped.DroppedFrames == 0 || stopped.Lag < 7*time.Second || stopped.Running != 1 {
		t.Errorf("%+v", stopped)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r := tr.running()
	await(t, "the child to catch up", func() bool { return r.behind(r.fed.Load()) < time.Second && r.ring.free() == queueSize })
	publish(t, tr, slices.DeleteFunc(moved(steps, 16_000), func(s step) bool { return s.tracks != nil }))
	tr.Close(nil)
	finished(t, tr)
	if n := len(b.out("a")); n != 1 {
		t.Fatalf("opened %d times", n)
	}
	in, got := pts(source.samples(media.Video), false), b.out("a")[0].samples(media.Video)
	const frame = 90000/30 + 90 // RTMP's milliseconds
	lost := 0
	for i, s := range got {
		if _, ok := slices.BinarySearch(in, s.DTS); !ok {
			t.Errorf("a frame at %d, where the source has none", s.DTS)
		}
		gap := i > 0 && s.DTS-got[i-1].DTS > frame
		// What is dropped begins anywhere in the source's decoding order. Of the last frames before it, some may have B-frames
		// that are presented before them and decoded after them, three at most: those are missing, and nothing needs them.
		reordered := gap && s.DTS-got[i-1].DTS <= 4*frame &&
			slices.ContainsFunc(got[i+1:min(i+4, len(got))], func(s media.Sample) bool { return s.Lost })
		if !reordered && (gap != s.Lost || gap && !s.Sync) {
			t.Errorf("frame %d: after a gap %v, lost %v, key frame %v", i, gap, s.Lost, s.Sync)
		}
		if s.Lost {
			lost++
		}
	}
	if st := tr.Stats(); lost != 1 || st.Failures != 0 || uint64(len(got)) != st.FramesIn || len(got) >= len(in) {
		t.Errorf("%d losses, %d frames of %d, %+v", lost, len(got), len(in), st)
	}
}

// Another size, or time that runs back, takes another child, from the next key frame on; nothing of the first is lost.
func TestSourceChanges(t *testing.T) {
	for _, c := range []struct {
		name string
		more []step
	}{
		{"size", moved(clip(t, other), 8000)},
		{"time", moved(clip(t, plain), -60_000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			steps := clip(t, plain)
			b := newBench(t, "", small("a", 180), small("big", 300))
			tr := b.Wrap("live/x", &recorder{})
			publish(t, tr, steps)
			publish(t, tr, c.more)
			gone := errors.New("connection reset")
			tr.Close(gone)
			finished(t, tr)
			outs := b.out("a")
			if len(outs) != 2 || !errors.Is(outs[0].reason, errChanged) || !errors.Is(outs[1].reason, gone) {
				t.Fatalf("%d times open, %v", len(outs), outs[0].reason)
			}
			for i, want := range [][]step{steps, c.more} {
				if got, want := pts(outs[i].samples(media.Video), false), pts(samplesOf(want, media.Video), false); !slices.Equal(got, want) {
					t.Errorf("run %d: %d frames, want %d", i, len(got), len(want))
				}
			}
			if s := tr.Stats(); s.Failures != 0 || s.Restarts != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// After the end no process and no pipe is left, also when Close comes in the middle.
func TestNothingStays(t *testing.T) {
	steps := clip(t, plain)
	fds := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(list)
	}
	before := fds()
	ingesttest.Within(t, "Close", 100*time.Millisecond, func() time.Duration {
		b := newBench(t, "", small("a", 180), small("b", 90))
		tr := b.Wrap("live/x", &recorder{})
		publish(t, tr, steps[:len(steps)/2])
		if s := b.Stats(); s.Running != 1 || s.Restarts != 0 {
			t.Errorf("%+v", s)
		}
		tr.mu.Lock()
		pid := tr.pid
		tr.mu.Unlock()
		start := time.Now()
		tr.Close(nil)
		took := time.Since(start)
		if !b.Wait(20 * time.Second) {
			t.Error("it does not end")
		}
		finished(t, tr)
		if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
			t.Errorf("process %d is still there: %v", pid, err)
		}
		if n := fds(); n > before {
			t.Errorf("%d files are open, %d before", n, before)
		}
		if s := b.Stats(); s.Running != 0 || s.Starts != 1 || s.CPU == 0 {
			t.Errorf("in the end %+v", s)
		}
		return took
	})
}

// What ffmpeg complains about is in the log.
func TestStderr(t *testing.T) {
	steps := slices.Clone(clip(t, plain))
	for i, s := range steps {
		if s.tracks == nil && s.track == 0 && !s.sample.Sync && i%7 == 0 {
			steps[i].sample.Data = slices.Concat(s.sample.Data[:5], make([]byte, len(s.sample.Data)-5))
		}
	}
	b := newBench(t, "", small("a", 180))
	tr := b.Wrap("live/x", &recorder{})
	publish(t, tr, steps)
	tr.Close(nil)
	finished(t, tr)
	if log := b.log.String(); !strings.Contains(log, `level=WARN msg=ffmpeg stream=live/x line="[h264`) {
		t.Error(log)
	}
}

func TestLook(t *testing.T) {
	needFFmpeg(t)
	if v, err := Look(""); err != nil || v == "" {
		t.Errorf("%q, %v", v, err)
	}
	_, err := Look(filepath.Join(t.TempDir(), "none"))
	if err == nil || !strings.HasSuffix(err.Error(), "none not found: install it (Debian: apt install ffmpeg) or set --ffmpeg") {
		t.Error(err)
	}
	if _, err := Look("/bin/false"); err == nil || !strings.Contains(err.Error(), "does not run") {
		t.Error(fmt.Errorf("/bin/false: %v", err))
	}
}
