//go:build !linux

package store

import (
	"errors"
	"os"
)

func anonymous() (*os.File, error) { return nil, errors.ErrUnsupported }

func punch(*os.File, int64, int64) {}

func mapped(*os.File, int64, int64) []byte { return nil }

func reopen(*os.File) (*os.File, error) { return nil, errors.ErrUnsupported }

func unmap([]byte) {}
