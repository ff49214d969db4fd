package casetest

import (
	"testing"
	"time"

	"headwater/segmenter"
	"headwater/segmenter/store"
)

// Nor do they on a disk.
func TestReconnectsLeaveNothingOnDisk(t *testing.T) {
	dir := t.TempDir()
	h := newHarness(t, segmenter.Config{PartTarget: segmenter.DefaultPartTarget})
	d, err := store.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if _, errs := h.origin.Recover(d, time.Unix(0, h.now())); len(errs) > 0 {
		t.Fatal(errs)
	}
	leavesNothing(t, h, dir)
}
