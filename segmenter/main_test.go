package segmenter

import (
	"flag"
	"os"
	"testing"
)

// TestMain has go test not write down which files were opened, by which it knows when a result may be used again: that would fail while
// limitFiles lets nothing be written, and the tests with it.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.testlogfile").Value.String() != "" {
		flag.Set("test.testlogfile", "")
	}
	os.Exit(m.Run())
}
