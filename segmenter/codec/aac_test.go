package codec

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/Eyevinn/mp4ff/aac"
	"github.com/google/go-cmp/cmp"

	"headwater/segmenter/media"
)

var aacCases = []struct {
	name        string
	hex         string
	want        media.Track // of which ID, Kind, Type and Config are the same for all
	err         string
	unsupported bool
}{
	{
		name: "LC 48 kHz stereo", hex: "1190",
		want: media.Track{Codec: media.Codec{String: "mp4a.40.2"}, Timescale: 48000, SampleRate: 48000, Channels: 2, FrameSamples: 1024},
	},
	{
		// ffmpeg 5.1: -f lavfi -i sine=r=44100 -c:a aac -ac 1. It signals the absence of SBR.
		name: "ffmpeg LC 44.1 kHz mono", hex: "120856e500",
		want: media.Track{Codec: media.Codec{String: "mp4a.40.2"}, Timescale: 44100, SampleRate: 44100, Channels: 1, FrameSamples: 1024},
	},
	{
		name: "LC 5.1", hex: "11b0",
		want: media.Track{Codec: media.Codec{String: "mp4a.40.2"}, Timescale: 48000, SampleRate: 48000, Channels: 6, FrameSamples: 1024},
	},
	{
		name: "LC 7.1", hex: "11b8",
		want: media.Track{Codec: media.Codec{String: "mp4a.40.2"}, Timescale: 48000, SampleRate: 48000, Channels: 8, FrameSamples: 1024},
	},
	{
		name: "LC frames of 960", hex: "1194",
		want: media.Track{Codec: media.Codec{String: "mp4a.40.2"}, Timescale: 48000, SampleRate: 48000, Channels: 2, FrameSamples: 960},
	},
	{
		name: "LC with a core coder delay", hex: "11920000",
		want: media.Track{Codec: media.Codec{String: "mp4a.40.2"}, Timescale: 48000, SampleRate: 48000, Channels: 2, FrameSamples: 1024},
	},
	{
		name: "LC, the sampling rate escaped", hex: "17805dc010",
		want: media.Track{Codec: media.Codec{String: "mp4a.40.2"}, Timescale: 48000, SampleRate: 48000, Channels: 2, FrameSamples: 1024},
	},
	{
		name: "HE-AAC, hierarchical", hex: "2b118800", // SBR, 24 kHz, stereo, to 48 kHz, over LC
		want: media.Track{Codec: media.Codec{String: "mp4a.40.5"}, Timescale: 24000, SampleRate: 48000, Channels: 2, FrameSamples: 1024},
	},
	{
		name: "HE-AAC v2, hierarchical", hex: "eb8a0800", // PS, 22.05 kHz, mono, to 44.1 kHz, over LC
		want: media.Track{Codec: media.Codec{String: "mp4a.40.29"}, Timescale: 22050, SampleRate: 44100, Channels: 2, FrameSamples: 1024},
	},
	{
		name: "HE-AAC, backward compatible", hex: "131056e598", // LC 24 kHz stereo, SBR to 48 kHz
		want: media.Track{Codec: media.Codec{String: "mp4a.40.5"}, Timescale: 24000, SampleRate: 48000, Channels: 2, FrameSamples: 1024},
	},
	{
		name: "HE-AAC v2, backward compatible", hex: "130856e59d4880", // LC 24 kHz mono, SBR to 48 kHz, PS
		want: media.Track{Codec: media.Codec{String: "mp4a.40.29"}, Timescale: 24000, SampleRate: 48000, Channels: 2, FrameSamples: 1024},
	},
	{
		// A front centre, a front pair, a pair behind, one LFE; a stereo mixdown; a comment of two bytes.
		name: "LC 5.1 by a program config element", hex: "118004c80500c8108800" + "026869",
		want: media.Track{Codec: media.Codec{String: "mp4a.40.2"}, Timescale: 48000, SampleRate: 48000, Channels: 6, FrameSamples: 1024},
	},
	{
		name: "HE-AAC 5.1 by a program config element, backward compatible", hex: "130005880500c810880002686956e598",
		want: media.Track{Codec: media.Codec{String: "mp4a.40.5"}, Timescale: 24000, SampleRate: 48000, Channels: 6, FrameSamples: 1024},
	},
	{name: "empty", hex: "", err: "0 bytes long"},
	{name: "one byte", hex: "11", err: "1 bytes long"},
	{name: "too long", hex: strings.Repeat("11", maxASC+1), err: "bytes long"},
	{name: "reserved rate", hex: "1690", err: "index 13"},
	{name: "rate of zero", hex: "1780000010", err: "0 Hz"},
	{name: "rate of 16 MHz", hex: "17ffffff90", err: "sampling rate"},
	{name: "reserved channels", hex: "11c0", err: "channel configuration 8"},
	{name: "SBR that ends early", hex: "2b11", err: "ends early"},
	{name: "program that ends early", hex: "118000", err: "ends early"},
	{name: "program without channels", hex: "118004c00000000000", err: "without channels"},
	{name: "SBR down", hex: "29930800", err: "SBR from"},
	{name: "Main", hex: "0990", err: "Main", unsupported: true},
	{name: "LTP", hex: "2190", err: "LTP", unsupported: true},
	{name: "LD", hex: "b990", err: "LD", unsupported: true},
	{name: "ELD", hex: "f8e640", err: "ELD", unsupported: true},
	{name: "xHE-AAC", hex: "f94640", err: "xHE-AAC", unsupported: true},
	{name: "object type 0", hex: "0000", err: "object type 0", unsupported: true},
}

func TestAAC(t *testing.T) {
	for _, c := range aacCases {
		t.Run(c.name, func(t *testing.T) {
			asc, err := hex.DecodeString(c.hex)
			if err != nil {
				t.Fatal(err)
			}
			got, err := AAC(asc)
			if c.err != "" {
				var format *media.FormatError
				var unsupported *media.UnsupportedError
				if err == nil || !strings.Contains(err.Error(), c.err) || c.unsupported && !errors.As(err, &unsupported) ||
					!c.unsupported && !errors.As(err, &format) {
					t.Fatalf("error %T %v, want one that says %q", err, err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c.want.ID, c.want.Kind = 2, media.Audio
			c.want.Codec.Type, c.want.Codec.Config = "mp4a", asc
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			asc[0] ^= 0xff
			if hex.EncodeToString(got.Codec.Config) != c.hex {
				t.Error("Config is not a copy")
			}
		})
	}
}

// TestAACSecondOpinion compares with mp4ff, which knows neither program config elements nor backward compatible signalling.
func TestAACSecondOpinion(t *testing.T) {
	for _, c := range aacCases {
		if c.err != "" || strings.Contains(c.name, "program") || strings.Contains(c.name, "backward") || strings.Contains(c.name, "core coder") || strings.Contains(c.name, "960") {
			continue
		}
		asc, _ := hex.DecodeString(c.hex)
		got, err := AAC(asc)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := aac.DecodeAudioSpecificConfig(bytes.NewReader(asc))
		if err != nil {
			t.Errorf("%s: mp4ff: %v", c.name, err)
			continue
		}
		if int(got.Timescale) != theirs.SamplingFrequency || theirs.SBRPresentFlag && got.SampleRate != theirs.ExtensionFrequency {
			t.Errorf("%s: mp4ff says %d and %d Hz", c.name, theirs.SamplingFrequency, theirs.ExtensionFrequency)
		}
	}
}

func FuzzAAC(f *testing.F) {
	for _, c := range aacCases {
		if b, err := hex.DecodeString(c.hex); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		track, err := AAC(b)
		if err == nil && (track.Timescale < minSamplingRate || track.Timescale > maxSamplingRate || track.Channels < 1 || track.FrameSamples < 960) {
			t.Fatalf("%+v", track)
		}
	})
}
