package cmaf

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Eyevinn/mp4ff/mp4"

	"headwater/segmenter/media"
)

// TestClip packages the samples of a real clip again, in chunks of five, and has ffmpeg decode both: not one frame may
// differ and ffmpeg may not complain.
func TestClip(t *testing.T) {
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	for _, c := range []struct {
		name string
		args string
	}{
		{"video", "-f lavfi -i testsrc2=s=318x178:r=30000/1001 -t 1 -vf setsar=4/3 -c:v libx264 -preset veryfast -bf 2 -g 15 -pix_fmt yuv420p" +
			" -colorspace bt709 -color_primaries bt709 -color_trc bt709"},
		{"audio", "-f lavfi -i sine=r=44100 -t 1 -c:a aac -ac 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, out := filepath.Join(dir, c.name+"-in.mp4"), filepath.Join(dir, c.name+"-out.mp4")
			run(t, "ffmpeg", append(strings.Fields("-v error "+c.args), "-movflags", "frag_keyframe+empty_moov+default_base_moof", in)...)
			b, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			f := decodeFile(t, b)
			trak := f.Moov.Trak
			track := media.Track{ID: 1, Kind: media.Video, Timescale: trak.Mdia.Mdhd.Timescale}
			if a := trak.Mdia.Minf.Stbl.Stsd.Mp4a; a != nil {
				track.Kind, track.Channels, track.SampleRate = media.Audio, int(a.ChannelCount), int(a.SampleRate)
				track.Codec = media.Codec{Type: "mp4a", Config: a.Esds.DecConfigDescriptor.DecSpecificInfo.DecConfig}
			} else {
				v := trak.Mdia.Minf.Stbl.Stsd.AvcX
				var avcc bytes.Buffer
				if err := v.AvcC.Encode(&avcc); err != nil {
					t.Fatal(err)
				}
				track.Width, track.Height, track.PixelAspect = int(v.Width), int(v.Height), media.Ratio{Num: 4, Den: 3}
				track.Color = media.Color{Primaries: 1, Transfer: 1, Matrix: 1}
				track.Codec = media.Codec{Type: "avc1", Config: avcc.Bytes()[8:]}
			}
			var samples []mp4.FullSample
			for _, s := range f.Segments {
				for _, fragment := range s.Fragments {
					list, err := fragment.GetFullSamples(f.Moov.Mvex.Trex)
					if err != nil {
						t.Fatal(err)
					}
					samples = append(samples, list...)
				}
			}
			if len(samples) < 30 {
				t.Fatalf("%d samples", len(samples))
			}
			file := AppendInit(nil, &track)
			// As the timeline does: output decode times start at the first presentation time.
			shift := samples[0].CompositionTimeOffset
			for i := 0; i < len(samples); i += 5 {
				part := samples[i:min(i+5, len(samples))]
				var rows []media.SampleInfo
				for _, s := range part {
					rows = append(rows, media.SampleInfo{Duration: s.Dur, Size: s.Size, CTO: s.CompositionTimeOffset - shift, Sync: s.IsSync()})
				}
				file = AppendHead(file, uint32(i), 1, part[0].DecodeTime, rows)
				for _, s := range part {
					file = append(file, s.Data...)
				}
			}
			if err := os.WriteFile(out, file, 0o644); err != nil {
				t.Fatal(err)
			}
			want := frames(run(t, "ffmpeg", "-v", "error", "-ignore_editlist", "1", "-i", in, "-fps_mode", "passthrough", "-f", "framemd5", "-"))
			got := frames(run(t, "ffmpeg", "-v", "error", "-i", out, "-fps_mode", "passthrough", "-f", "framemd5", "-"))
			if got != want || strings.Count(got, "\n") < 30 {
				t.Errorf("frames differ:\n%s\nwant\n%s", got, want)
			}
			if track.Kind == media.Video {
				s := run(t, "ffprobe", "-v", "error", "-show_entries", "stream=width,height,sample_aspect_ratio,color_space,codec_tag_string,has_b_frames", "-of", "csv=p=0", out)
				if want := "avc1,318,178,2,4:3,bt709\n"; s != want {
					t.Errorf("ffprobe says %q, want %q", s, want)
				}
			}
		})
	}
}

// frames keeps the hashes of framemd5's lines.
func frames(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if f := strings.Fields(line); len(f) > 5 && !strings.HasPrefix(line, "#") {
			b.WriteString(f[5] + "\n")
		}
	}
	return b.String()
}

// run runs a command that may print nothing to its error output.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	return stdout.String()
}
