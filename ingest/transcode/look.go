package transcode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// What ffmpeg must be at least: 5.1 has -fps_mode and key frames forced by the source's. Builds without a release's
// number are told by their libavutil.
const (
	minMajor, minMinor     = 5, 1
	minUtilMajor, minUtil  = 57, 28
	lookWait               = 10 * time.Second
	maxVersion             = 64 // bytes
	howToInstall, howToGet = "install it (Debian: apt install ffmpeg) or set --ffmpeg", "install a newer one or set --ffmpeg"
)

var (
	versionLine = regexp.MustCompile(`^ffmpeg version (\S+)`)
	release     = regexp.MustCompile(`^n?(\d+)\.(\d+)`)
	libavutil   = regexp.MustCompile(`(?m)^libavutil +(\d+)\. *(\d+)\.`)
)

// Look runs ffmpeg, by path or by name ("" is "ffmpeg"), and returns its version. When it is missing, too old or made
// without the encoder, the error says what to do.
func Look(path string) (version string, err error) {
	path = cmp.Or(path, "ffmpeg")
	found, err := exec.LookPath(path)
	if err != nil {
		return "", fmt.Errorf("%s not found: %s", path, howToInstall)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, found, "-hide_banner", "-version")
	cmd.Env = environment()
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if ctx.Err() != nil {
		err = errors.New("it does not answer")
	}
	if err != nil {
		return "", fmt.Errorf("%s does not run (%w): %s", path, err, howToInstall)
	}
	return parseVersion(path, string(out))
}

// parseVersion reads what "ffmpeg -version" prints.
func parseVersion(path, out string) (version string, err error) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s is not ffmpeg: %s", path, howToInstall)
	}
	version = m[1][:min(len(m[1]), maxVersion)]
	wantMajor, wantMinor := minMajor, minMinor
	have := release.FindStringSubmatch(version)
	if have == nil {
		wantMajor, wantMinor = minUtilMajor, minUtil
		have = libavutil.FindStringSubmatch(out)
	}
	if have != nil {
		major, _ := strconv.Atoi(have[1])
		minor, _ := strconv.Atoi(have[2])
		if major < wantMajor || major == wantMajor && minor < wantMinor {
			return version, fmt.Errorf("%s is version %s, older than %d.%d: %s", path, version, minMajor, minMinor, howToGet)
		}
	}
	if strings.Contains(out, "configuration: ") && !strings.Contains(out, "--enable-libx264") {
		return version, fmt.Errorf("%s %s is built without libx264: %s", path, version, howToGet)
	}
	return version, nil
}
