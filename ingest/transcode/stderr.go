package transcode

import (
	"bufio"
	"io"
	"log/slog"
	"strings"
	"time"
)

const (
	maxLine   = 1 << 10 // bytes of a line that are logged
	lineBurst = 20      // lines that are logged in each linePeriod
)

const linePeriod = 10 * time.Second

// logLines logs what the child writes to its standard error, until its end.
func logLines(log *slog.Logger, r io.Reader, now func() time.Time) {
	b := bufio.NewReaderSize(r, maxLine)
	var start time.Time
	lines, left := 0, 0
	tell := func() {
		if left > 0 {
			log.Warn("ffmpeg said more", "lines", left)
		}
		lines, left = 0, 0
	}
	for more := false; ; {
		line, err := b.ReadSlice('\n')
		first := !more
		more = err == bufio.ErrBufferFull
		if text := strings.TrimSpace(string(line)); first && text != "" {
			if t := now(); t.Sub(start) >= linePeriod {
				tell()
				start = t
			}
			if lines++; lines <= lineBurst {
				log.Warn("ffmpeg", "line", strings.ToValidUTF8(text, "?"))
			} else {
				left++
			}
		}
		if err != nil && !more {
			tell()
			return
		}
	}
}
