package nix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// maxOutput bounds what is kept of a program's output: names of files or of store
// paths, a hundred bytes each at most.
const maxOutput = 64 << 20

// waitDelay is how long a program that was told to stop may keep its output open,
// for instance through a child of its own.
const waitDelay = 2 * time.Second

// output runs cmd and returns what it prints. The error ends with the last line
// that the program wrote to its standard error, which is where git and nix put the
// reason.
func output(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	stdout := &capped{max: maxOutput}
	stderr := &capped{max: 64 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Run(); err != nil {
		return nil, explain(ctx, cmd, err, stderr.Bytes())
	}
	return stdout.Bytes(), nil
}

// explain says why cmd ended with err.
func explain(ctx context.Context, cmd *exec.Cmd, err error, stderr []byte) error {
	program := cmd.Args[0]
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", program, ctx.Err())
	}
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s is not installed on this workstation: %w", program, err)
	}
	lines := strings.Split(strings.TrimSpace(string(stderr)), "\n")
	if reason := lines[len(lines)-1]; reason != "" {
		return fmt.Errorf("%s: %w: %s", program, err, reason)
	}
	return fmt.Errorf("%s: %w", program, err)
}

// capped keeps at most max bytes and fails once there are more.
type capped struct {
	bytes.Buffer
	max int
}

func (c *capped) Write(p []byte) (int, error) {
	if c.Len()+len(p) > c.max {
		return 0, fmt.Errorf("more than %d bytes of output", c.max)
	}
	return c.Buffer.Write(p)
}
