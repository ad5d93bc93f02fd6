package target

import (
	"context"
	"errors"
	"fmt"

	"github.com/nixctl/nixctl/install/command"
)

// The reboot begins a second later, so that the answer still gets through.
const rebootScript = `if [ -d "$1" ]; then
	exec systemd-run --quiet --collect --unit=nixctl-reboot sh -c 'sleep 1; exec systemctl reboot'
fi
nohup sh -c 'sleep 1; exec reboot' </dev/null >/dev/null 2>&1 &`

// Reboot asks the machine to reboot and closes the target, because what answers
// afterwards is to be proved anew. A connection that is lost meanwhile is no error.
// Reboot does not wait for the machine to go down.
func (t *Target) Reboot(ctx context.Context) error {
	if _, err := t.connect(ctx); err != nil {
		return fmt.Errorf("%s: reboot: %w", t, err)
	}
	_, err := t.Output(ctx, command.New("sh", "-c", rebootScript, "nixctl", t.set.systemd))
	if err != nil && !errors.Is(err, ErrLost) {
		return fmt.Errorf("reboot: %w", err)
	}
	t.Close()
	return nil
}
