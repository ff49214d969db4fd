//go:build !linux

package store

import (
	"errors"
	"os"
)

func bootID() (string, error) { return "", errors.ErrUnsupported }

func lock(*os.File) error { return errors.ErrUnsupported }

func punchable(*os.File) error { return errors.ErrUnsupported }
