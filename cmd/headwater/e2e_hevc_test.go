//go:build e2e

package main

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Eyevinn/mp4ff/mp4"
)

// hevcClip makes an FLV file of HEVC and AAC (Enhanced RTMP v2), which no program that the tests can install writes, from what ffmpeg
// encodes: 40 s of 320x180 at 30 frames a second, with a key frame every two and with B-frames.
func hevcClip(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	whole := filepath.Join(folder, "clip.mp4")
	make := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=30", "-f", "lavfi", "-i", "sine=frequency=440:beep_factor=4:sample_rate=48000",
		"-t", "40", "-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-tag:v", "hvc1", "-x265-params", "log-level=error:keyint=60:min-keyint=60:scenecut=0:open-gop=0:bframes=2",
		"-c:a", "aac", "-b:a", "64k", "-ac", "2", "-movflags", "empty_moov+default_base_moof+frag_keyframe", "-f", "mp4", whole)
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := mp4.ReadMP4File(whole)
	if err != nil {
		t.Fatal(err)
	}
	out := []byte("FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00")
	tag := func(kind byte, ms int, body ...byte) {
		out = append(out, kind, byte(len(body)>>16), byte(len(body)>>8), byte(len(body)), byte(ms>>16), byte(ms>>8), byte(ms), byte(ms>>24), 0, 0, 0)
		out = append(out, body...)
		out = binary.BigEndian.AppendUint32(out, uint32(11+len(body)))
	}
	scales := map[uint32]int{}
	video := uint32(0)
	for _, trak := range f.Init.Moov.Traks {
		id := trak.Tkhd.TrackID
		scales[id] = int(trak.Mdia.Mdhd.Timescale)
		if entry := trak.Mdia.Minf.Stbl.Stsd.HvcX; entry != nil {
			video = id
			b := new(strings.Builder)
			if err := entry.HvcC.Encode(b); err != nil {
				t.Fatal(err)
			}
			tag(9, 0, append([]byte("\x90hvc1"), b.String()[8:]...)...)
		} else {
			tag(8, 0, append([]byte{0xaf, 0}, trak.Mdia.Minf.Stbl.Stsd.Mp4a.Esds.DecConfigDescriptor.DecSpecificInfo.DecConfig...)...)
		}
	}
	if video == 0 {
		t.Fatal("there is no HEVC")
	}
	for _, s := range f.Segments {
		for _, m := range s.Fragments {
			for _, traf := range m.Moof.Trafs {
				id := traf.Tfhd.TrackID
				trex, _ := f.Init.Moov.Mvex.GetTrex(id)
				traf.Trun.AddSampleDefaultValues(traf.Tfhd, trex)
				samples := traf.Trun.GetFullSamples(uint32(traf.Trun.DataOffset)-uint32(m.Moof.Size())-8, traf.Tfdt.BaseMediaDecodeTime(), m.Mdat)
				for _, sample := range samples {
					ms := func(ticks int) int { return (ticks*1000 + scales[id]/2) / scales[id] }
					at := ms(int(sample.DecodeTime))
					if id != video {
						tag(8, at, append([]byte{0xaf, 1}, sample.Data...)...)
						continue
					}
					cts := ms(int(sample.DecodeTime)+int(sample.CompositionTimeOffset)) - at
					head := byte(0xa1)
					if sample.IsSync() {
						head = 0x91
					}
					tag(9, at, append([]byte{head, 'h', 'v', 'c', '1', byte(cts >> 16), byte(cts >> 8), byte(cts)}, sample.Data...)...)
				}
			}
		}
	}
	clip := filepath.Join(folder, "clip.flv")
	if err := os.WriteFile(clip, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return clip
}

// hevcPublisher returns a function that publishes hevcClip as live/a0.
func hevcPublisher(t *testing.T) func(r *running) *peer {
	t.Helper()
	tool := buildLoad(t)
	clip := hevcClip(t)
	return func(r *running) *peer {
		t.Helper()
		return startPeer(t, nil, tool, "publish", "--url", "rtmp://"+r.RTMP+"/live/a", "--count", "1", "--clip", clip, "--duration", "120s")
	}
}

// TestE2EHEVC publishes HEVC, which ffmpeg reads and decodes, and changes from H.264 to it and back on one timeline.
func TestE2EHEVC(t *testing.T) {
	t.Parallel()
	publish := hevcPublisher(t)
	r := startHeadwater(t, "--window-min", "60s")
	const name = "live/a0"
	hevc := publish(r)
	r.awaitSegments(t, name, 3, "")
	_, index := get(t, r.URL("/"+name+"/index.m3u8"))
	if !strings.Contains(index, `CODECS="hvc1.1.6.L60.90,mp4a.40.2"`) {
		t.Errorf("multivariant:\n%s", index)
	}
	code, body := get(t, strings.Replace(r.renditions(t, name)["video"], "/index.m3u8", "/ts/index.m3u8", 1))
	if code != 404 || !strings.Contains(body, "MPEG-TS") {
		t.Errorf("MPEG-TS: %d %s", code, body)
	}
	probe := startPeer(t, nil, "ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "stream=codec_name,codec_tag_string,width,height", "-of", "csv=p=0", r.URL("/"+name+"/index.m3u8"))
	if code := probe.wait(t, peerPatience); code != 0 || !strings.Contains(probe.out.String(), "hevc,hvc1,320,180\n") {
		t.Errorf("ffprobe: exit status %d, %s %s", code, probe.out.String(), probe.err.String())
	}
	decode := startPeer(t, nil, "ffmpeg", "-nostdin", "-v", "error", "-xerror", "-i", r.URL("/"+name+"/index.m3u8"), "-t", "8", "-f", "null", "-")
	if code := decode.wait(t, peerPatience); code != 0 || decode.err.String() != "" {
		t.Errorf("ffmpeg: exit status %d\n%s", code, decode.err.String())
	}

	follow := r.follow(t, name)
	changes := func(what, codec string) {
		t.Helper()
		was := len(follow.last("video").Segments)
		eventually(t, startPatience, what, func() bool {
			_, index := get(t, r.URL("/"+name+"/index.m3u8"))
			all := follow.last("video").Segments
			return strings.Contains(index, `CODECS="`+codec) && len(all) > was+2 && all[len(all)-1].Map != all[was-1].Map
		})
	}
	hevc.kill()
	eventually(t, peerPatience, "the origin has noticed", func() bool { return !r.stream(t, name).Publishing })
	avc := r.publish(t, name, camera)
	changes("there is H.264", "avc1.")
	avc.kill()
	eventually(t, peerPatience, "the origin has noticed", func() bool { return !r.stream(t, name).Publishing })
	publish(r)
	changes("there is HEVC again", "hvc1.")
	p := follow.last("video")
	inits := map[string]bool{}
	for _, s := range p.Segments {
		inits[s.Map] = true
	}
	if len(inits) != 2 || p.DiscSeq+2 != p.Segments[len(p.Segments)-1].DiscSeq {
		t.Errorf("%d initialization sections, discontinuities %d to %d", len(inits), p.DiscSeq, p.Segments[len(p.Segments)-1].DiscSeq)
	}
	follow.checkSuccession(t)
	r.checkLog(t, "connection was lost without an unpublish", "connection reset by peer")
}
