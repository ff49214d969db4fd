package cmaf

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/Eyevinn/mp4ff/mp4"
	"github.com/google/go-cmp/cmp"

	"headwater/segmenter/media"
)

var update = flag.Bool("update", false, "rewrite the golden box dumps in testdata")

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// The configuration records are ffmpeg's; package codec's tests say how they were made.
var initCases = []struct {
	name  string
	track media.Track
}{
	{"avc", media.Track{ID: 1, Kind: media.Video, Timescale: 90000, Width: 320, Height: 240,
		Codec: media.Codec{Type: "avc1", String: "avc1.42c00d", Config: unhex("0142c00dffe100186742c00dd90141fb011000000300100000030320f142a48001000568cb83cb20")}}},
	{"avc-anamorphic-color", media.Track{ID: 1, Kind: media.Video, Timescale: 90000, Width: 318, Height: 178,
		PixelAspect: media.Ratio{Num: 4, Den: 3}, Color: media.Color{Primaries: 1, Transfer: 1, Matrix: 1}, Language: "de-AT",
		Codec: media.Codec{Type: "avc1", String: "avc1.64000d", Config: unhex("0164000dffe1001c6764000dacd941419ea230e6a020202800001f480007530078a14cb001000468ef8fcbfdf8f800")}}},
	{"avc-full-range", media.Track{ID: 1, Kind: media.Video, Timescale: 90000, Width: 320, Height: 178, Color: media.Color{FullRange: true},
		Codec: media.Codec{Type: "avc1", String: "avc1.64000c", Config: unhex("0164000cffe100196764000cf36505067e3f016c800000030080000018078a14cb01000668ebe3cb22c0fcf8f800")}}},
	{"aac", media.Track{ID: 2, Kind: media.Audio, Timescale: 44100, SampleRate: 44100, Channels: 1, FrameSamples: 1024, Language: "fi",
		Codec: media.Codec{Type: "mp4a", String: "mp4a.40.2", Config: unhex("120856e500")}}},
	{"he-aac", media.Track{ID: 2, Kind: media.Audio, Timescale: 24000, SampleRate: 48000, Channels: 2, FrameSamples: 1024, Label: "Commentary",
		Codec: media.Codec{Type: "mp4a", String: "mp4a.40.5", Config: unhex("2b118800")}}},
	{"aac-96k-long-config", media.Track{ID: 2, Kind: media.Audio, Timescale: 96000, SampleRate: 96000, Channels: 2, FrameSamples: 1024,
		Codec: media.Codec{Type: "mp4a", String: "mp4a.40.2", Config: append(unhex("1010"), make([]byte, 150)...)}}},
}

var chunkCases = []struct {
	name  string
	seq   uint32
	track uint32
	tfdt  uint64
	rows  []media.SampleInfo
	size  int // bytes of moof
}{
	{"empty", 1, 1, 0, nil, 88},
	{"audio", 7, 2, 1 << 40, []media.SampleInfo{row(1024, 300, 0, true), row(1024, 310, 0, true), row(1024, 290, 0, true)}, 88 + 12 + 12},
	{"audio all equal", 7, 2, 1024, []media.SampleInfo{row(1024, 300, 0, true), row(1024, 300, 0, true)}, 88 + 16},
	{"key frame first", 8, 1, 90000, []media.SampleInfo{row(3000, 9000, 0, true), row(3000, 400, 0, false), row(3000, 300, 0, false)}, 88 + 12 + 12},
	{"no key frame", 9, 1, 99000, []media.SampleInfo{row(3000, 900, 0, false), row(3000, 400, 0, false)}, 88 + 12 + 8},
	{"one key frame", 10, 1, 1<<64 - 1, []media.SampleInfo{row(3000, 900, 0, true)}, 88 + 16},
	{"key frame inside", 11, 1, 99000, []media.SampleInfo{row(3000, 900, 0, false), row(3000, 400, 0, true), row(3000, 100, 0, false)}, 88 + 4 + 3*8},
	{"milliseconds", 12, 1, 99000, []media.SampleInfo{row(2970, 900, 0, true), row(2970, 400, 0, false), row(3060, 100, 0, false)}, 88 + 8 + 3*8},
	{"B-frames, negative offsets", 13, 1, 99000, []media.SampleInfo{row(3000, 900, 0, true), row(3000, 400, 6000, false),
		row(3000, 100, -3000, false), row(3000, 100, -3000, false)}, 88 + 12 + 4*8},
	{"negative offsets only", 13, 1, 99000, []media.SampleInfo{row(3000, 900, -1, true), row(3000, 400, -1, false)}, 88 + 12 + 2*8},
	{"everything differs", 14, 1, 99000, []media.SampleInfo{row(1, 900, 5, false), row(2, 400, 6000, true), row(3, 100, -3000, false)}, 88 + 3*16},
}

func row(duration, size uint32, cto int32, sync bool) media.SampleInfo {
	return media.SampleInfo{Duration: duration, Size: size, CTO: cto, Sync: sync}
}

func TestInitGolden(t *testing.T) {
	for _, c := range initCases {
		t.Run(c.name, func(t *testing.T) {
			got := AppendInit([]byte("before"), &c.track)
			if !bytes.HasPrefix(got, []byte("before")) {
				t.Fatal("dst was overwritten")
			}
			got = got[len("before"):]
			if again := AppendInit(nil, &c.track); !bytes.Equal(got, again) {
				t.Error("not deterministic")
			}
			golden(t, c.name, decodeFile(t, got))
		})
	}
}

// TestInitReadBack reads what the track says out of the header with a parser by others.
func TestInitReadBack(t *testing.T) {
	for _, c := range initCases {
		t.Run(c.name, func(t *testing.T) {
			track := &c.track
			f := decodeFile(t, AppendInit(nil, track))
			if f.Init == nil || f.Moov == nil || len(f.Moov.Traks) != 1 || f.Moov.Mvex == nil || f.Moov.Mvex.Trex.TrackID != track.ID {
				t.Fatal("not an init segment of one track")
			}
			if b := f.Ftyp.CompatibleBrands(); !cmp.Equal(b, []string{"iso6", "cmfc", "cmf2"}) {
				t.Errorf("brands %v", b)
			}
			trak := f.Moov.Trak
			if f.Moov.Mvhd.Duration != 0 || trak.Tkhd.Duration != 0 || trak.Mdia.Mdhd.Duration != 0 || trak.Edts != nil {
				t.Error("has a duration or an edit list")
			}
			if f.Moov.Mvhd.CreationTime != 0 || trak.Mdia.Mdhd.ModificationTime != 0 {
				t.Error("has a time of creation")
			}
			if trak.Mdia.Mdhd.Timescale != track.Timescale || trak.Tkhd.TrackID != track.ID {
				t.Errorf("timescale %d, track %d", trak.Mdia.Mdhd.Timescale, trak.Tkhd.TrackID)
			}
			stbl := trak.Mdia.Minf.Stbl
			if stbl.Stts.GetDur(1) != 0 || stbl.Stsz.SampleNumber != 0 || len(stbl.Stco.ChunkOffset) != 0 || stbl.Stss != nil {
				t.Error("has samples")
			}
			if track.Kind == media.Audio {
				entry := stbl.Stsd.Mp4a
				if entry == nil || int(entry.ChannelCount) != track.Channels {
					t.Fatalf("entry %+v", entry)
				}
				if want := track.SampleRate; want < 1<<16 && int(entry.SampleRate) != want || want >= 1<<16 && entry.SampleRate != 0 {
					t.Errorf("sample rate %d, want %d", entry.SampleRate, want)
				}
				if got := entry.Esds.DecConfigDescriptor.DecSpecificInfo.DecConfig; !bytes.Equal(got, track.Codec.Config) {
					t.Errorf("AudioSpecificConfig %x", got)
				}
				return
			}
			entry := stbl.Stsd.AvcX
			if entry == nil || int(entry.Width) != track.Width || int(entry.Height) != track.Height {
				t.Fatalf("entry %+v", entry)
			}
			var avcc bytes.Buffer
			if entry.AvcC.Encode(&avcc); !bytes.Equal(avcc.Bytes()[8:], track.Codec.Config) {
				t.Errorf("avcC %x", avcc.Bytes()[8:])
			}
			if track.PixelAspect.Num != 0 && (entry.Pasp == nil || entry.Pasp.HSpacing != 4 || entry.Pasp.VSpacing != 3 ||
				trak.Tkhd.Width>>16 != 424 || trak.Tkhd.Height>>16 != 178) {
				t.Errorf("pasp %+v, display %dx%d", entry.Pasp, trak.Tkhd.Width>>16, trak.Tkhd.Height>>16)
			}
		})
	}
}

func TestLanguage(t *testing.T) {
	for tag, want := range map[string]string{"": "und", "de": "deu", "de-AT": "deu", "EN-us": "eng", "fil": "fil", "zh-Hant": "zho",
		"xx": "und", "e": "und", "q4": "und", "x\x00y": "und", " d": "und", "english": "und", "zu": "zul", "aa": "aar"} {
		v := packLanguage(tag)
		got := string([]byte{byte(v>>10) + 0x60, byte(v>>5)&31 + 0x60, byte(v)&31 + 0x60})
		if got != want {
			t.Errorf("%q is %q, want %q", tag, got, want)
		}
	}
}

func TestHead(t *testing.T) {
	for _, c := range chunkCases {
		t.Run(c.name, func(t *testing.T) { checkHead(t, c.seq, c.track, c.tfdt, c.rows, c.size) })
	}
}

// checkHead reads a chunk back with a parser by others and compares; size is the moof's, or 0.
func checkHead(t *testing.T, seq, id uint32, tfdt uint64, rows []media.SampleInfo, size int) {
	t.Helper()
	head := AppendHead([]byte("before"), seq, id, tfdt, rows)[len("before"):]
	if len(head) != HeadSize(rows) || size != 0 && len(head) != size+8 {
		t.Fatalf("head of %d bytes, HeadSize %d, want moof of %d", len(head), HeadSize(rows), size)
	}
	payload := 0
	for _, r := range rows {
		payload += int(r.Size)
	}
	f := decodeFile(t, append(head, make([]byte, payload)...))
	if len(f.Segments) != 1 || len(f.Segments[0].Fragments) != 1 {
		t.Fatal("not one fragment")
	}
	fragment := f.Segments[0].Fragments[0]
	traf := fragment.Moof.Traf
	if len(fragment.Moof.Trafs) != 1 || len(traf.Truns) != 1 || !traf.Tfhd.DefaultBaseIfMoof() || traf.Tfhd.HasBaseDataOffset() ||
		traf.Tfhd.TrackID != id || traf.Tfdt.BaseMediaDecodeTime() != tfdt || traf.Tfdt.Version != 1 ||
		fragment.Moof.Mfhd.SequenceNumber != seq || traf.Trun.Version != 1 ||
		int(traf.Trun.DataOffset) != int(fragment.Moof.Size())+8 || len(fragment.Mdat.Data) != payload {
		t.Errorf("moof %+v traf %+v trun %+v", fragment.Moof.Mfhd, traf.Tfhd, traf.Trun)
	}
	if len(rows) == 0 {
		return
	}
	if flags, ok := traf.Trun.FirstSampleFlags(); ok && flags != sampleFlags(rows[0].Sync) {
		t.Errorf("first sample flags %#x", flags)
	} else if !ok && !traf.Trun.HasSampleFlags() {
		t.Error("nowhere in the trun does it say whether the first sample is a key frame")
	}
	samples, err := fragment.GetFullSamples(&mp4.TrexBox{TrackID: id})
	if err != nil {
		t.Fatal(err)
	}
	var got []media.SampleInfo
	for _, s := range samples {
		got = append(got, media.SampleInfo{Duration: s.Dur, Size: s.Size, CTO: s.CompositionTimeOffset, Sync: s.Flags == 0x02000000})
		if s.Flags != 0x02000000 && s.Flags != 0x01010000 {
			t.Errorf("flags %#x", s.Flags)
		}
	}
	if d := cmp.Diff(rows, got); d != "" {
		t.Error(d)
	}
}

func TestHeadGolden(t *testing.T) {
	for _, c := range chunkCases {
		if c.name != "B-frames, negative offsets" {
			continue
		}
		golden(t, "chunk", decodeFile(t, append(AppendHead(nil, c.seq, c.track, c.tfdt, c.rows), make([]byte, 1500)...)))
	}
}

func TestHeadDoesNotAllocate(t *testing.T) {
	for _, c := range chunkCases {
		dst := make([]byte, 0, HeadSize(c.rows))
		if n := testing.AllocsPerRun(100, func() { dst = AppendHead(dst[:0], c.seq, c.track, c.tfdt, c.rows) }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func FuzzHead(f *testing.F) {
	for _, c := range chunkCases {
		var b []byte
		for _, r := range c.rows {
			sync := byte(0)
			if r.Sync {
				sync = 1
			}
			b = append(b, byte(r.Duration), byte(r.Size), byte(r.CTO/100), sync)
		}
		f.Add(c.seq, c.track, c.tfdt, b)
	}
	f.Fuzz(func(t *testing.T, seq, id uint32, tfdt uint64, b []byte) {
		var rows []media.SampleInfo
		for ; len(b) >= 4; b = b[4:] {
			rows = append(rows, media.SampleInfo{Duration: uint32(b[0]), Size: uint32(b[1]), CTO: int32(int8(b[2])), Sync: b[3]&1 == 1})
		}
		checkHead(t, seq, id, tfdt, rows, 0)
	})
}

// BenchmarkHead writes the head of a part of a third of a second, as each part of a video track does once.
func BenchmarkHead(b *testing.B) {
	rows := make([]media.SampleInfo, 10)
	for i := range rows {
		rows[i] = media.SampleInfo{Duration: 2970 + uint32(i%3)*45, Size: 12000 + uint32(i), CTO: int32(i%3) * 3000, Sync: i == 0}
	}
	dst := make([]byte, 0, HeadSize(rows))
	b.ReportAllocs()
	for i := range b.N {
		dst = AppendHead(dst[:0], uint32(i), 1, uint64(i), rows)
	}
}

func BenchmarkInit(b *testing.B) {
	dst := make([]byte, 0, 2048)
	b.ReportAllocs()
	for range b.N {
		dst = AppendInit(dst[:0], &initCases[1].track)
	}
}

func decodeFile(t *testing.T, b []byte) *mp4.File {
	t.Helper()
	f, err := mp4.DecodeFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// golden compares the dump of f with testdata/name.golden.
func golden(t *testing.T, name string, f *mp4.File) {
	t.Helper()
	var b bytes.Buffer
	for _, box := range f.Children {
		if err := box.Info(&b, "all:1", "", "  "); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(fmt.Errorf("%w (run go test -update)", err))
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Error(d)
	}
}
