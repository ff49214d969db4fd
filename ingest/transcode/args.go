package transcode

import (
	"fmt"
	"strconv"
)

const (
	// firstPipe is the descriptor of the first of exec.Cmd.ExtraFiles.
	firstPipe = 3

	// Each thread of the decoder and of an encoder holds back one frame.
	decoderThreads = 2
	encoderThreads = 4

	// analyze is how much media ffmpeg looks at before it begins, microseconds. It waits for streams that FLV might yet
	// announce; the sequence headers at the start have told all.
	analyze = 100_000

	// maxPixels bounds a picture that is decoded, and with it ffmpeg's memory, also where the stream turns to a parameter set that
	// was not announced as the track's: that is what level 5.2 allows (36,864 macroblocks, ITU-T H.264, table A-1).
	maxPixels = 36_864 * 256

	maxChannels = 2 // of an audio rung
)

// x264 is what makes the encoder hand out each picture as soon as it can, and begin a closed GOP where it is told to and
// nowhere else. It is not told "zerolatency", which takes the frame rate for constant and cuts pictures into slices.
const x264 = "bframes=0:rc-lookahead=0:sync-lookahead=0:mbtree=0:sliced-threads=0:scenecut=0:keyint=infinite:open-gop=0"

// arguments returns the command line of a child that works to the plan.
func (p *plan) arguments() []string {
	args := []string{
		"-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+warning",
		"-copyts", // times are the source's, not counted from the first
		"-fpsprobesize", "0", "-analyzeduration", strconv.Itoa(analyze),
		"-threads", strconv.Itoa(decoderThreads), "-max_pixels", strconv.Itoa(maxPixels),
		"-f", "flv", "-i", "pipe:0",
	}
	for i, r := range p.rungs {
		if r.Audio {
			args = append(args, "-map", "0:a:0", "-c:a", "aac", "-b:a", strconv.Itoa(r.BitRate))
			if p.a.Channels > maxChannels {
				args = append(args, "-ac", strconv.Itoa(maxChannels))
			}
		} else {
			args = append(args, p.videoArguments(&r)...)
		}
		args = append(args, "-map_metadata", "-1", "-muxdelay", "0", "-avoid_negative_ts", "disabled", "-flush_packets", "1",
			"-flvflags", "no_duration_filesize", "-f", "flv", "pipe:"+strconv.Itoa(firstPipe+i))
	}
	return args
}

func (p *plan) videoArguments(r *planned) []string {
	sar := "1"
	if a := p.v.PixelAspect; a.Num > 0 && a.Den > 0 {
		sar = fmt.Sprintf("%d/%d", a.Num, a.Den)
	}
	filter := fmt.Sprintf("scale=%d:%d,setsar=%s", r.width, r.height, sar)
	args := []string{
		"-map", "0:v:0", "-vf", filter, "-pix_fmt", "yuv420p",
		"-c:v", "libx264", "-preset", "veryfast", "-x264-params", x264, "-threads", strconv.Itoa(encoderThreads), "-bf", "0",
		"-force_key_frames", "source", "-forced-idr", "1",
		"-b:v", strconv.Itoa(r.BitRate), "-maxrate", strconv.Itoa(r.BitRate / 10 * 11), "-bufsize", strconv.Itoa(r.BitRate),
		"-enc_time_base", "1:1000", "-fps_mode", "passthrough", // FLV's milliseconds, each frame as it comes
	}
	if rate := p.v.FrameRate; rate.Num > 0 && rate.Den > 0 {
		// The encoder would write the milliseconds' rate into the VUI (ITU-T H.264, E.2.1); a tick is a field's time.
		args = append(args, "-bsf:v", fmt.Sprintf("h264_metadata=tick_rate=%d/%d", 2*uint64(rate.Num), rate.Den))
	}
	return args
}
