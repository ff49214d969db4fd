package mpegts

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"
	"github.com/yapingcat/gomedia/go-codec"
	mpeg2 "github.com/yapingcat/gomedia/go-mpeg2"

	"headwater/segmenter/media"
)

// A clip is what an encoder made, in its own times.
type clip struct {
	file    string
	track   *media.Track
	rows    []media.SampleInfo
	data    [][]byte
	reorder int64 // ticks
}

// encode has ffmpeg make fragmented MP4 files of a picture and of sound, both 6 s long.
func encode(t *testing.T, videoArgs, audioArgs string) (video, audio *clip) {
	t.Helper()
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	video = open(t, videoArgs+" -pix_fmt yuv420p -c:v libx264 -preset veryfast -sc_threshold 0 -video_track_timescale 90000")
	audio = open(t, audioArgs+" -c:a aac")
	// As on the run's timeline, decode times start at the first presentation time.
	video.reorder = int64(video.rows[0].CTO)
	for i := range video.rows {
		video.rows[i].CTO -= int32(video.reorder)
	}
	return video, audio
}

func open(t *testing.T, args string) *clip {
	t.Helper()
	file := filepath.Join(t.TempDir(), "in.mp4")
	run(t, "ffmpeg", append(strings.Fields("-v error -f lavfi -i "+args+" -t 6 -movflags frag_keyframe+empty_moov+default_base_moof"), file)...)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := mp4.DecodeFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	trak := f.Moov.Trak
	c := &clip{file: file, track: &media.Track{Timescale: trak.Mdia.Mdhd.Timescale}}
	if a := trak.Mdia.Minf.Stbl.Stsd.Mp4a; a != nil {
		c.track.Kind, c.track.FrameSamples = media.Audio, 1024
		c.track.Codec = media.Codec{Type: "mp4a", Config: a.Esds.DecConfigDescriptor.DecSpecificInfo.DecConfig}
	} else {
		var avcc bytes.Buffer
		if err := trak.Mdia.Minf.Stbl.Stsd.AvcX.AvcC.Encode(&avcc); err != nil {
			t.Fatal(err)
		}
		c.track.Kind = media.Video
		c.track.Codec = media.Codec{Type: "avc1", Config: avcc.Bytes()[8:]}
	}
	for _, s := range f.Segments {
		for _, fragment := range s.Fragments {
			list, err := fragment.GetFullSamples(f.Moov.Mvex.Trex)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range list {
				c.rows = append(c.rows, media.SampleInfo{Duration: s.Dur, Size: s.Size, CTO: s.CompositionTimeOffset, Sync: s.IsSync()})
				c.data = append(c.data, s.Data)
			}
		}
	}
	return c
}

// cut makes Sources of chunks of five samples, each of which begins where begins says so.
func (c *clip) cut(start int64, begins func(pts int64, sync bool) bool) []*Source {
	var list []*Source
	t := start
	for i, r := range c.rows {
		if len(list) == 0 || begins(t+int64(r.CTO), r.Sync) {
			list = append(list, &Source{Track: c.track, Delay: c.reorder})
		}
		s := list[len(list)-1]
		if n := len(s.Chunks); n == 0 || len(s.Chunks[n-1].Samples) == 5 {
			s.Chunks = append(s.Chunks, Chunk{Time: t})
		}
		k := &s.Chunks[len(s.Chunks)-1]
		k.Samples = append(k.Samples, r)
		k.Data = append(k.Data, c.data[i]...)
		t += int64(r.Duration)
	}
	return list
}

// TestPeers multiplexes clips that ffmpeg encoded in segments of two seconds. ffprobe must find each frame at its time, ffmpeg
// decode it to the same picture and sound, neither with a complaint, and gomedia must find the same frames.
func TestPeers(t *testing.T) {
	for _, c := range []struct {
		name         string
		video, audio string
		start        int64 // seconds
	}{
		{"film, B-frames", "testsrc2=s=318x178:r=24000/1001 -g 48 -bf 3", "sine=r=48000 -ac 2", 0},
		{"ntsc, no B-frames", "testsrc2=s=318x178:r=30000/1001 -g 60 -bf 0", "sine=r=44100 -ac 1", 1000},
		{"60, delimiters and parameter sets in band, slices",
			"testsrc2=s=318x178:r=60 -g 120 -bf 2 -x264-params aud=1:repeat-headers=1:slices=4 -b:v 3M", "sine=r=48000 -ac 6", 86400},
		{"at the wrap", "testsrc2=s=318x178:r=25 -g 50 -bf 2", "sine=r=44100 -ac 2", wrapTime/90000 - 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			video, audio := encode(t, c.video, c.audio)
			vs := video.cut(c.start*90000, func(_ int64, sync bool) bool { return sync })
			var bounds []int64
			for _, s := range vs[1:] {
				bounds = append(bounds, s.Chunks[0].Time+int64(s.Chunks[0].Samples[0].CTO))
			}
			scale := int64(audio.track.Timescale)
			as := audio.cut(c.start*scale, func(pts int64, _ bool) bool {
				if len(bounds) > 0 && pts*90000 >= bounds[0]*scale {
					bounds = bounds[1:]
					return true
				}
				return false
			})
			if len(vs) != 3 && len(vs) != 4 || len(as) != len(vs) {
				t.Fatalf("%d and %d segments", len(vs), len(as))
			}
			var segments [][]byte
			for i := range vs {
				b, err := AppendSegment(nil, uint64(1000+i), vs[i], as[i])
				if err != nil {
					t.Fatal(err)
				}
				segments = append(segments, b)
			}
			r := check(t, segments...)
			if r.PCRGap > pcrGap {
				t.Errorf("PCR gap of %d", r.PCRGap)
			}
			file := filepath.Join(t.TempDir(), "x.ts")
			whole := slices.Concat(segments...)
			if err := os.WriteFile(file, whole, 0o644); err != nil {
				t.Fatal(err)
			}

			wantV, wantA := presented(vs), presented(as)
			same(t, "video", probe(t, file, "v:0"), wantV) // in decode order
			same(t, "audio", probe(t, file, "a:0"), wantA)

			// A warning is not taken either: discontinuities and corrupt packets are told as such.
			run(t, "ffmpeg", "-v", "warning", "-i", file, "-map", "0", "-f", "null", "-")
			for stream, c := range map[string]*clip{"v": video, "a": audio} {
				got := decoded(t, file, stream)
				want := decoded(t, c.file, stream)
				if got != want || strings.Count(got, "\n") != len(c.rows) {
					t.Errorf("%s: %d frames that differ from %d", stream, strings.Count(got, "\n"), strings.Count(want, "\n"))
				}
			}
			gomedia(t, whole, len(wantV), len(wantA))
		})
	}
}

// presented lists the presentation times, 90 kHz, with the offset.
func presented(list []*Source) (all []int64) {
	for _, s := range list {
		pts, _ := times(s)
		all = append(all, pts...)
	}
	return all
}

func same(t *testing.T, what string, got, want []int64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: ffprobe counts %d frames of %d", what, len(got), len(want))
	}
	for i := range got {
		// ffprobe counts from a wrap to come, backwards.
		if d := (got[i] - want[i] + 1) & (1<<33 - 1); d > 2 {
			t.Fatalf("%s: ffprobe finds frame %d at %d, want %d", what, i, got[i], want[i])
		}
	}
}

// probe lists the times of a stream's decoded frames.
func probe(t *testing.T, file, stream string) (list []int64) {
	t.Helper()
	out := run(t, "ffprobe", "-v", "warning", "-select_streams", stream, "-show_entries", "packet=pts", "-of", "csv=p=0", file)
	for line := range strings.Lines(out) {
		line = strings.Trim(line, ",\n")
		if line == "" {
			continue
		}
		v, err := strconv.ParseInt(line, 10, 64)
		if err != nil {
			t.Fatalf("ffprobe prints %q", line)
		}
		list = append(list, v)
	}
	return list
}

// decoded lists the hashes of a stream's decoded frames.
func decoded(t *testing.T, file, stream string) string {
	t.Helper()
	args := []string{"-v", "warning"}
	if strings.HasSuffix(file, ".mp4") {
		args = append(args, "-ignore_editlist", "1")
	}
	out := run(t, "ffmpeg", append(args, "-i", file, "-map", "0:"+stream, "-fps_mode", "passthrough", "-f", "framemd5", "-")...)
	var b strings.Builder
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 5 && !strings.HasPrefix(line, "#") {
			b.WriteString(f[5] + "\n")
		}
	}
	return b.String()
}

// gomedia counts the frames that its demuxer finds.
func gomedia(t *testing.T, whole []byte, video, audio int) {
	t.Helper()
	counts := map[mpeg2.TS_STREAM_TYPE]int{}
	d := mpeg2.NewTSDemuxer()
	d.OnFrame = func(typ mpeg2.TS_STREAM_TYPE, frame []byte, _, _ uint64) {
		if typ == mpeg2.TS_STREAM_AAC {
			codec.SplitAACFrame(frame, func([]byte) { counts[typ]++ })
			return
		}
		counts[typ]++
	}
	if err := d.Input(bytes.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	if v, a := counts[mpeg2.TS_STREAM_H264], counts[mpeg2.TS_STREAM_AAC]; v != video || a != audio {
		t.Errorf("gomedia finds %d and %d frames of %d and %d", v, a, video, audio)
	}
}

// run runs a command that may print nothing to its error output.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	return stdout.String()
}
