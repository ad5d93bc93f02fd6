package facts

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Gather reads the facts of the machine it runs on. It gives up after half a
// minute: a dying disk can hold up lsblk for that long.
func Gather(ctx context.Context) (Facts, error) {
	out, err := run(ctx)
	if err != nil {
		return Facts{}, err
	}
	return Parse(out)
}

func run(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-s")
	cmd.Stdin = strings.NewReader(Script)
	cmd.WaitDelay = time.Second
	out := limited{max: maxOutput}
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("gather facts: %w", err)
	}
	return out.Bytes(), nil
}

// limited keeps the first max bytes and one more, so that Parse sees the excess.
type limited struct {
	bytes.Buffer
	max int
}

func (l *limited) Write(p []byte) (int, error) {
	if room := l.max + 1 - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
