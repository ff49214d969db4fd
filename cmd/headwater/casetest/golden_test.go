package casetest

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden summaries in testdata")

// A golden is a file in testdata with a line for each case of a table: what came out. The rules say what may come out; the file shows
// what does, and when that changes.
type golden struct {
	file  string
	names []string // in order
	mu    sync.Mutex
	lines map[string]string
}

// newGolden reads a golden file for the cases of those names. With -update it is written when t and its subtests have ended, with
// the lines that it has for the cases that have not run.
func newGolden(t *testing.T, name string, cases []string) *golden {
	t.Helper()
	g := &golden{file: filepath.Join("testdata", name), names: cases, lines: map[string]string{}}
	b, err := os.ReadFile(g.file)
	if err != nil && !*update {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		of, _, _ := strings.Cut(line, ":")
		g.lines[of] = strings.TrimSuffix(line, "\n")
	}
	if *update {
		t.Cleanup(func() { g.write(t) })
	} else if !bytes.Equal(b, g.text()) {
		t.Errorf("%s does not have a line for each case in order and nothing else: write it with -update", g.file)
	}
	return g
}

func (g *golden) text() (b []byte) {
	for _, n := range g.names {
		if line, ok := g.lines[n]; ok {
			b = append(append(b, line...), '\n')
		} else if !*update {
			b = append(b, n+": missing\n"...)
		}
	}
	return b
}

func (g *golden) write(t *testing.T) {
	if err := os.MkdirAll(filepath.Dir(g.file), 0o755); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(g.file, g.text(), 0o644); err != nil {
		t.Error(err)
	}
}

// check compares what came out in a case with its line.
func (g *golden) check(t *testing.T, name string, h *harness) {
	t.Helper()
	got := name + ": " + h.summary()
	g.mu.Lock()
	defer g.mu.Unlock()
	if *update {
		g.lines[name] = got
		return
	}
	if want := g.lines[name]; got != want {
		t.Errorf("another line than in %s, which -update rewrites:\ngot  %s\nwant %s", g.file, got, want)
		for _, x := range h.check.tracks {
			t.Logf("%s/%s at the end:\n%s%s", x.run, x.id, x.text, x.ts.text)
		}
	}
}

// summary is what came out in a case, in one line. What did not happen is not in it.
func (h *harness) summary() string {
	c := h.check
	got := c.total()
	line := fmt.Sprintf("runs %d, inits %d, target %s, frames %d", got.runs, got.inits, strings.Trim(fmt.Sprint(got.targets), "[]"), h.ids.Load())
	if n := h.metric("headwater_rendition_dropped_samples_total"); n > 0 {
		line += fmt.Sprintf(", dropped %v", n)
	}
	if got.ended {
		line += ", ended"
	}
	sum := sha256.New()
	for _, x := range c.tracks {
		var gap float64
		discs := 0
		for _, g := range x.segments {
			gap += b2f(g.Gap) * g.dur
			discs += b2i(g.Discontinuity)
		}
		line += fmt.Sprintf("; %s: segments %d, frames %d", x.id, len(x.segments), len(x.got))
		if discs > 0 {
			line += fmt.Sprintf(", discontinuities %d", discs)
		}
		if gap > 0 {
			line += fmt.Sprintf(", gaps %.3f s", gap)
		}
		if x.run == c.tracks[len(c.tracks)-1].run { // its playlists have just been read
			sum.Write(x.text)
			sum.Write(x.ts.text)
		}
	}
	return line + fmt.Sprintf("; playlists %x", sum.Sum(nil)[:6])
}
