package ingest

import (
	"strings"
	"testing"
)

func TestLanguage(t *testing.T) {
	for s, want := range map[string]bool{"en": true, "eng": true, "zh-Hant-TW": true, "de-DE-u-co-phonebk": true, "": false, "e": false, "und": false,
		"en_US": false, "en-": false, "-en": false, "1en": false, "English (UK)": false, "sl-rozaj-biske-1994": true, "en\n": false,
		"deutschsprachig": false, strings.Repeat("en-", 11) + "en": true, strings.Repeat("en-", 11) + "eng": false} {
		if want && len(s) > maxLanguage {
			t.Fatal(s)
		}
		if got := CleanLanguage(s) == s && s != ""; got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
	if l := CleanLabel(strings.Repeat("ä", 80)); l != strings.Repeat("ä", 50) {
		t.Errorf("label %q", l)
	}
	if l := CleanLabel("a" + strings.Repeat("ä", 80)); l != "a"+strings.Repeat("ä", 49) {
		t.Errorf("label %q", l)
	}
	if l := CleanLabel(" \xff a\r\n\x7f "); l != "a" {
		t.Errorf("label %q", l)
	}
}
