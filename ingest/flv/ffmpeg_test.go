package flv

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"headwater/segmenter/cmaf"
	"headwater/segmenter/media"
)

// A packager is a Writer that makes one CMAF chunk of each sample.
type packager struct {
	tracks []media.Track
	out    [2][]byte
	held   [2]*media.Sample // its duration is not yet known
	shift  [2]int32
	count  [2]int
}

func (p *packager) SetTracks(tracks []media.Track) error {
	p.tracks = tracks
	return nil
}

func (p *packager) WriteSample(i int, s *media.Sample) error {
	if p.out[i] == nil {
		p.out[i] = cmaf.AppendInit(nil, &p.tracks[i])
		p.shift[i] = s.CTO
	}
	p.flush(i, s.DTS)
	held := *s
	held.Data = bytes.Clone(s.Data)
	p.held[i] = &held
	return nil
}

func (p *packager) flush(i int, next int64) {
	s := p.held[i]
	if s == nil {
		return
	}
	row := media.SampleInfo{Duration: uint32(next - s.DTS), Size: uint32(len(s.Data)), CTO: s.CTO - p.shift[i], Sync: s.Sync}
	p.out[i] = cmaf.AppendHead(p.out[i], uint32(p.count[i]), p.tracks[i].ID, uint64(s.DTS), []media.SampleInfo{row})
	p.out[i] = append(p.out[i], s.Data...)
	p.count[i]++
}

func (p *packager) Close(error) error { return nil }

// TestClip demuxes what ffmpeg pushes, packages it, and has ffmpeg decode it: every frame must be the one it decodes from
// its own file. Annex B style repetition of the parameter sets, access unit delimiters and B-frames are on.
func TestClip(t *testing.T) {
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	in := filepath.Join(dir, "in.flv")
	run(t, append(strings.Fields("-f lavfi -i testsrc2=s=318x178:r=30000/1001 -f lavfi -i sine=r=44100 -t 2 -vf setsar=4/3 -c:v libx264"+
		" -preset veryfast -bf 2 -g 30 -pix_fmt yuv420p -x264-params repeat-headers=1:aud=1 -c:a aac -ac 1 -f flv"), in)...)
	file, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	var p packager
	d := Demuxer{W: &p}
	for b := file[13:]; len(b) > 15; {
		n := int(binary.BigEndian.Uint32(b) & 0xffffff)
		ts := int64(b[7])<<24 | int64(b[4])<<16 | int64(b[5])<<8 | int64(b[6])
		body := bytes.Clone(b[11 : 11+n])
		switch b[0] {
		case 8:
			err = d.Audio(ts, 0, body)
		case 9:
			err = d.Video(ts, 0, body)
		case 18:
			err = d.Data(ts, body)
		}
		if err != nil {
			t.Fatal(err)
		}
		b = b[15+n:]
	}
	if len(p.tracks) != 2 || p.tracks[0].Kind != media.Video || !p.tracks[0].Ready() || !p.tracks[1].Ready() || p.tracks[1].BitRate == 0 {
		t.Fatalf("tracks %+v", p.tracks)
	}
	if s := d.Stats(); s != (Stats{EndOfSequence: 1}) {
		t.Errorf("%+v", s)
	}
	for i, stream := range []string{"v", "a"} {
		p.flush(i, p.held[i].DTS+int64(p.tracks[i].Timescale)/30)
		out := filepath.Join(dir, stream+".mp4")
		if err := os.WriteFile(out, p.out[i], 0o644); err != nil {
			t.Fatal(err)
		}
		want := frames(run(t, "-i", in, "-map", "0:"+stream, "-fps_mode", "passthrough", "-f", "framemd5", "-"))
		got := frames(run(t, "-i", out, "-fps_mode", "passthrough", "-f", "framemd5", "-"))
		if got != want || strings.Count(got, "\n") < 59 {
			t.Errorf("%s: %d frames that differ from %d", stream, strings.Count(got, "\n"), strings.Count(want, "\n"))
		}
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

// run runs ffmpeg, which may print no error.
func run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("ffmpeg", append([]string{"-v", "error"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.String())
	}
	return stdout.String()
}
