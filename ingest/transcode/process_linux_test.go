package transcode

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		in   string
		want int64
	}{
		{"42 (ff) mp (eg)) S 1 42 42 0 -1 4194560 100 0 0 0 250 31 7 7 20 0 1 0", 2_810_000_000},
		{"42 (x) S 1 42", 0},
		{"42 (x) S 1 42 42 0 -1 4194560 100 0 0 0 a 31 7 7", 0},
		{"", 0},
	} {
		if got := parseStat([]byte(c.in)); got != c.want {
			t.Errorf("%q: %d", c.in, got)
		}
	}
}

// When we are killed, the child dies too.
func TestNoOrphans(t *testing.T) {
	if note := os.Getenv("TRANSCODE_TEST_ORPHAN"); note != "" {
		b := newBench(t, fake(t, "echo $$ >"+note+"; exec sleep 300"), small("a", 180))
		newSource(t, b).frame()
		pidIn(t, note)
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	note := filepath.Join(t.TempDir(), "pid")
	cmd := exec.Command(self, "-test.run=^TestNoOrphans$")
	cmd.Env = append(os.Environ(), "TRANSCODE_TEST_ORPHAN="+note, "TMPDIR="+t.TempDir())
	if err := cmd.Run(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatal(err)
	}
	pid := pidIn(t, note)
	await(t, "its death", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(b), ") Z ")
	})
}
