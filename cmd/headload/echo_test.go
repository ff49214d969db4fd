package main

import (
	"context"
	"os"
	"testing"
	"time"
)

// TestMain is the echo process when it is asked to be.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "echo" {
		if err := (&echoCmd{}).Run(); err != nil {
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestEcho(t *testing.T) {
	e, err := startEcho(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*echoEvery)
	defer cancel()
	if err := e.measure(ctx); err != nil {
		t.Fatal(err)
	}
	if e.took.n < 3 || e.took.n > 10 || e.took.quantile(0.5) <= 0 || e.took.quantile(0.5) > time.Second {
		t.Errorf("%d echoes: %v", e.took.n, &e.took)
	}
	if e.cmd.ProcessState == nil {
		t.Error("the process is not waited for")
	}
}
