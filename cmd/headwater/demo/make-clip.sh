#!/bin/sh
# make-clip.sh makes clip.flv, what `headwater demo` publishes: 16 s of moving test picture with a beat that belongs to it.
# It needs ffmpeg with libx264 and the DejaVu fonts (Debian: ffmpeg fonts-dejavu-core). Usage: ./make-clip.sh [clip.flv]
#
# The clip plays in a loop without a seam, so everything in it has a period that divides 16 s:
#   - video: 480 frames at 30 fps, eight closed GOPs of 60 frames (2 s);
#   - audio: 750 AAC frames of 1,024 samples at 48 kHz are 16 s exactly. They are cut out of the middle of a longer encoding,
#     so that the first frame overlaps with the last one as if it followed it (AAC's transform spans two frames), and the
#     encoder's priming is not in them.
# The marker crosses the middle of its track, and the lamp lights, when the bell sounds: lip-sync can be seen and heard.
set -eu

out=${1:-$(dirname "$0")/clip.flv}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

fonts=$(dirname "$(fc-match --format '%{file}' 'DejaVu Sans:bold')")
bold=$fonts/DejaVuSans-Bold.ttf
sans=$fonts/DejaVuSans.ttf
mono=$fonts/DejaVuSansMono.ttf

# The water is computed small and enlarged: it has no detail to lose.
water="geq=\
r='16+10*sin(2*PI*(X/W*1.5+T/8))*sin(2*PI*(Y/H-T/16))+10*Y/H':\
g='66+24*sin(2*PI*(X/W+Y/H*0.7-T/16))+12*sin(2*PI*(X/W*2-Y/H+T/8))':\
b='104+24*sin(2*PI*(X/W*0.8-Y/H*0.6+T/16))+14*sin(2*PI*(Y/H*1.5-T/8))'"

ticks=
for i in 0 1 2 3 4 5 6 7 8; do
	ticks="$ticks,drawbox=x=$((160 + 120 * i - 1)):y=$((i % 4 == 0 ? 476 : 484)):w=3:h=$((i % 4 == 0 ? 48 : 32)):color=white@0.55:t=fill"
done
bars=
i=0
for c in c0c0c0 c0c000 00c0c0 00c000 c000c0 c00000 0000c0 101010; do
	bars="$bars,drawbox=x=$((160 * i)):y=696:w=160:h=24:color=0x$c:t=fill"
	i=$((i + 1))
done

ffmpeg -v error -y \
	-f lavfi -i "nullsrc=s=160x90:r=30:d=16,format=gbrp,$water,scale=1280:720:flags=bicubic,format=yuv444p" \
	-f lavfi -i "color=c=0x7fe7ff:s=10x72:r=30:d=16" \
	-f lavfi -i "color=c=0xfff2b0:s=64x64:r=30:d=16,format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='255*clip(32-hypot(X-31.5,Y-31.5),0,1)'" \
	-filter_complex "
[0:v]drawtext=fontfile=$bold:text='Headwater':fontsize=132:fontcolor=white:shadowcolor=black@0.35:shadowx=4:shadowy=4:x=(w-tw)/2:y=112,
drawtext=fontfile=$sans:text='low-latency live video, straight from the source':fontsize=34:fontcolor=white@0.85:x=(w-tw)/2:y=262,
drawtext=fontfile=$mono:text='%{eif\:floor(t+0.0005)\:d\:2}.%{eif\:mod(floor(t*1000+0.5)\,1000)\:d\:3}':fontsize=72:fontcolor=white:box=1:boxcolor=black@0.35:boxborderw=16:x=(w-tw)/2:y=346,
drawtext=fontfile=$mono:text='frame %{eif\:n\:d\:3} / 480':fontsize=28:fontcolor=white@0.9:x=64:y=636,
drawtext=fontfile=$mono:text='1280x720 30p  H.264 + AAC  GOP 2 s':fontsize=28:fontcolor=white@0.9:x=w-tw-64:y=636,
drawbox=x=160:y=498:w=960:h=4:color=white@0.5:t=fill$ticks$bars[base];
[base][1:v]overlay=x='155+960*mod(t,2)/2':y=464:eval=frame:format=yuv444[swept];
[swept][2:v]overlay=x=608:y=552:eval=frame:format=yuv444:enable='between(mod(t,2),1,1.15)',
drawtext=fontfile=$bold:text='LIVE':fontsize=26:fontcolor=white:box=1:boxcolor=0xd02030@0.9:boxborderw=10:x=64:y=56,
format=yuv420p[v]" -map '[v]' \
	-c:v libx264 -profile:v high -level 3.1 -preset slow -crf 20 -maxrate 1300k -bufsize 1300k \
	-x264-params "keyint=60:min-keyint=60:scenecut=0:open-gop=0:bframes=3:b-pyramid=normal" \
	-color_primaries bt709 -color_trc bt709 -colorspace bt709 \
	-fflags +bitexact -flags:v +bitexact "$tmp/video.mp4"

# A quiet chord that breathes, a low beat where the marker starts and a bell in the middle of its way.
chord="0.05*sin(2*PI*110*t)*(0.7+0.3*sin(2*PI*t/8))+0.04*sin(2*PI*165*t)*(0.7+0.3*sin(2*PI*t/16))"
beat="0.22*sin(2*PI*220*t)*exp(-9*mod(t,2))"
bell="(0.20*sin(2*PI*880*t)+0.07*sin(2*PI*1760*t))*exp(-8*mod(t+1,2))"
ffmpeg -v error -y \
	-f lavfi -i "aevalsrc='$chord+0.03*sin(2*PI*220*t)+$beat+$bell|$chord+0.03*sin(2*PI*275*t)+$beat+$bell':s=48000:d=48" \
	-c:a aac -b:a 128k -fflags +bitexact -flags:a +bitexact "$tmp/long.aac"
# Frame 751 of the encoding decodes to the sound from 16 s on: one frame of priming comes before the first.
ffmpeg -v error -y -i "$tmp/long.aac" -c copy -bsf:a "noise=drop='lt(n\,751)'" -frames:a 750 "$tmp/cycle.aac"

ffmpeg -v error -y -i "$tmp/video.mp4" -i "$tmp/cycle.aac" -map 0:v -map 1:a -c copy \
	-fflags +bitexact -flvflags no_duration_filesize "$out"
ls -l "$out"
