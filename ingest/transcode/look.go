package transcode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
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
	ask := func(what string) (string, error) {
		cmd := exec.CommandContext(ctx, found, "-hide_banner", what)
		cmd.Env = environment()
		cmd.WaitDelay = time.Second
		out, err := cmd.Output()
		if ctx.Err() != nil {
			err = errors.New("it does not answer")
		}
		if err != nil {
			return "", fmt.Errorf("%s does not run (%w): %s", path, err, howToInstall)
		}
		return string(out), nil
	}
	out, err := ask("-version")
	if err != nil {
		return "", err
	}
	if version, err = parseVersion(path, out); err != nil {
		return version, err
	}
	if out, err = ask("-encoders"); err != nil {
		return version, err
	}
	return version, checkEncoders(path, version, out)
}

// checkEncoders reads what "ffmpeg -encoders" prints: a line for each, flags and name first.
func checkEncoders(path, version, out string) error {
	for _, encoder := range []string{"libx264", "aac"} {
		if !regexp.MustCompile(`(?m)^ \S{6} ` + encoder + " ").MatchString(out) {
			return fmt.Errorf("%s %s is built without the encoder %s: %s", path, version, encoder, howToGet)
		}
	}
	return nil
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
	return version, nil
}
