package install

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nixctl/nixctl/install/command"
	"github.com/nixctl/nixctl/install/target"
)

// ErrLocked is wrapped by the error for a machine on which another run is at work.
var ErrLocked = errors.New("locked by another run")

// A run leases the machine: it writes its id to a file there and touches it every
// leaseEvery, because between two steps nothing else tells that somebody is at work.
// A lease that was not renewed for a minute, and while no step of any run is running,
// is taken over.
const (
	leaseFile   = "/run/nixctl/lock"
	leaseEvery  = 15 * time.Second
	leaseStatus = 75 // exit status of a script whose run does not have the lease (EX_TEMPFAIL, sysexits.h)
)

// leaseScript takes or renews the lease $2 for the run $1. Who else has it is told.
// Units of runs begin with the century.
const leaseScript = `umask 077
mkdir -p "${2%/*}" && exec 9>>"$2.guard" && flock 9 || exit 1
owner=
if [ -e "$2" ]; then read -r owner <"$2"; fi
if [ "$owner" != "$1" ]; then
	if [ -n "$owner" ] && [ $(($(date +%s) - $(stat -c %Y "$2"))) -lt 60 ]; then
		echo "run $owner" >&2
		exit 75
	fi
	unit=$(systemctl list-units --plain --no-legend --state=active,activating,deactivating 'nixctl-2*.service' 2>/dev/null || :)
	if [ -n "$unit" ]; then
		echo "${unit%% *}" >&2
		exit 75
	fi
fi
echo "$1" >"$2"
`

// leased is put before each script: a run that lost its lease must not go on.
func (p *Plan) leased(script string) string {
	return fmt.Sprintf("read -r owner <%s && [ \"$owner\" = %s ] || { echo \"run $owner has taken over this machine\" >&2; exit %d; }\n%s",
		leaseFile, p.ID, leaseStatus, script)
}

// lease takes the lease for p and renews it until release is called. The context is
// cancelled, with an [ErrLocked], when another run took it.
func (p *Plan) lease(ctx context.Context, m Machine) (leased context.Context, release func(), err error) {
	take := func(ctx context.Context) error {
		_, err := m.Output(ctx, command.New("sh", "-c", leaseScript, "sh", p.ID, leaseFile))
		return lostLease(err)
	}
	if err := take(ctx); err != nil {
		return nil, nil, err
	}
	leased, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(leaseEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := take(leased); errors.Is(err, ErrLocked) {
					cancel(err)
					return
				}
			case <-leased.Done():
				return
			}
		}
	}()
	return leased, func() {
		cancel(nil)
		<-ended
		p.giveBack(context.WithoutCancel(ctx), m)
	}, nil
}

// giveBack removes the lease. That it may not work is no failure of the run: a lease
// ends by itself, and with the reboot.
func (p *Plan) giveBack(ctx context.Context, m Machine) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	script := fmt.Sprintf("read -r owner <%[1]s && [ \"$owner\" = %[2]s ] && rm -f %[1]s", leaseFile, p.ID)
	m.Output(ctx, command.New("sh", "-c", script))
}

// lostLease makes an [ErrLocked] of the exit status that says so.
func lostLease(err error) error {
	var exit *target.ExitError
	if errors.As(err, &exit) && exit.Status == leaseStatus {
		return fmt.Errorf("%w: %s is at work on the machine; wait for it, or stop it there with systemctl stop", ErrLocked, strings.TrimSpace(string(exit.Output)))
	}
	return err
}
