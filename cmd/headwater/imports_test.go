package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A listed package is what `go list -json` says of it; tests' imports are not in it.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

// in says whether path is prefix or below it.
func in(path string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
}

// The floors: imports run one way only.
//
//	cmd -> web -> playlist -> segmenter -> segmenter/{cmaf,mpegts} -> segmenter/media
//	cmd -> ingest/{rtmp,srt,whip,push} -> ingest/{flv,mpegts}, ingest -> segmenter/{media,codec}
func TestImportsRunOneWay(t *testing.T) {
	pkgs := list(t)
	const vocabulary, codec = "headwater/segmenter/media", "headwater/segmenter/codec"

	// Of the module's own packages, those below a floor may depend on these only.
	floors := []struct {
		what, of string
		may      []string
	}{
		{"the vocabulary", vocabulary, []string{}},
		{"codec", codec, []string{vocabulary}},
		{"cmaf", "headwater/segmenter/cmaf", []string{vocabulary}},
		{"mpegts", "headwater/segmenter/mpegts", []string{vocabulary}},
		{"the segmenter", "headwater/segmenter", []string{"headwater/segmenter"}},
		{"playlist", "headwater/playlist", []string{"headwater/playlist", "headwater/segmenter"}},
		{"web", "headwater/web", []string{"headwater/web", "headwater/playlist", "headwater/segmenter"}},
		{"ingest", "headwater/ingest", []string{"headwater/ingest", vocabulary, codec}},
	}
	// What is outside the module, and who may not depend on it, or import it.
	for _, p := range pkgs {
		if !in(p.ImportPath, "headwater") {
			continue
		}
		for _, f := range floors {
			if !in(p.ImportPath, f.of) {
				continue
			}
			for _, d := range p.Deps {
				if in(d, "headwater") && d != p.ImportPath && !in(d, f.may...) {
					t.Errorf("%s: %s must not depend on %s", p.ImportPath, f.what, d)
				}
			}
		}
		if in(p.ImportPath, vocabulary, "headwater/segmenter", "headwater/playlist") {
			// Imports and not Deps: the brotli module has helpers for net/http, which nothing here calls.
			for _, d := range p.Imports {
				if in(d, "net/http") || d == "net" || in(d, "github.com/prometheus") {
					t.Errorf("%s must not import %s", p.ImportPath, d)
				}
			}
		}
		if in(p.ImportPath, "headwater/ingest/rtmp", "headwater/ingest/flv", "headwater/ingest/amf0") && slices.Contains(p.Deps, "net/http") {
			t.Errorf("%s must not depend on net/http", p.ImportPath)
		}
		if p.ImportPath == vocabulary {
			for _, d := range p.Deps {
				if strings.Contains(strings.Split(d, "/")[0], ".") {
					t.Errorf("%s must not depend on %s, only on the standard library", p.ImportPath, d)
				}
			}
		}
	}

	// Who alone may import what.
	for _, r := range []struct {
		what string
		who  []string
	}{
		{"github.com/gorilla/mux", []string{"headwater/web"}},
		{"github.com/prometheus", []string{"headwater/web"}},
		{"github.com/quic-go/quic-go", []string{"headwater/web/transport"}},
		{"github.com/caddyserver/certmagic", []string{"headwater/web/transport"}},
		{"github.com/grafov/m3u8", []string{"headwater/playlist"}},
		{"github.com/alecthomas/kong", []string{"headwater/cmd"}},
		{"github.com/goccy/go-yaml", []string{"headwater/cmd"}},
		{"flag", []string{"headwater/cmd"}},
		{"github.com/yapingcat/gomedia", []string{codec, "headwater/ingest/mpegts", "headwater/cmd/headload"}},
	} {
		for _, p := range pkgs {
			if !in(p.ImportPath, "headwater") || in(p.ImportPath, r.who...) {
				continue
			}
			for _, i := range p.Imports {
				if in(i, r.what) {
					t.Errorf("%s imports %s, which is for %v only", p.ImportPath, i, r.who)
				}
			}
		}
	}
}

// list returns all packages of the module.
func list(t *testing.T) []listed {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Standard,Imports,Deps", "headwater/...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatalf("go list: %v", err)
	}
	var pkgs []listed
	ours := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if in(p.ImportPath, "headwater") {
			ours++
		}
		pkgs = append(pkgs, p)
	}
	if ours < 5 {
		t.Fatalf("only %d packages of this module found: is this test looking at the right one?", ours)
	}
	return pkgs
}
