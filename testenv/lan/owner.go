//go:build linux

package lan

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// stateDir has a file for each LAN, locked by its owner for as long as it
// lives: the kernel drops the lock of a killed owner, whatever becomes of its
// process id. The file's content, the owner's process id, is for people.
const stateDir = "/run/nixctl-lab"

const maxID = 250

var errTaken = errors.New("taken")

func stateFile(id int) string { return filepath.Join(stateDir, strconv.Itoa(id)) }

// workDir is on disk: files that back guests' disks are too big for /run. It
// is not $TMPDIR, which may be another one when a leftover is to be found.
func workDir(id int) string { return fmt.Sprintf("/var/tmp/nixctl-lab-%d", id) }

// claim takes the first free number.
func claim() (int, *os.File, error) {
	if err := os.MkdirAll(stateDir, 0o755); err != nil {
		return 0, nil, err
	}
	for id := 1; id <= maxID; id++ {
		lock, err := lockState(id)
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			return 0, nil, err
		}
		_, err = fmt.Fprintln(lock, os.Getpid())
		return id, lock, err
	}
	return 0, nil, fmt.Errorf("%d labs run already, see %q", maxID, stateDir)
}

func lockState(id int) (*os.File, error) {
	f, err := os.OpenFile(stateFile(id), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errTaken
	}
	if err == nil && !isAt(f, stateFile(id)) {
		err = errTaken // it was removed, and maybe made anew, between open and lock
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func isAt(f *os.File, path string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// Sweep removes the LANs whose owner has ended without closing them. Those of
// living owners are left alone.
func Sweep() error {
	files, err := os.ReadDir(stateDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		id, err := strconv.Atoi(f.Name())
		if err != nil {
			continue // not ours
		}
		lock, err := lockState(id)
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(remove(id), lock.Close()); err != nil {
			return fmt.Errorf("remove the leftover of lab %d: %w", id, err)
		}
	}
	return nil
}

// remove takes away all that belongs to a LAN; the caller holds its lock. The
// state file goes last, so that an unfinished removal is tried again.
func remove(id int) error {
	namespaces, err := filepath.Glob(filepath.Join(netnsDir, fmt.Sprintf("nxl-%d-*", id)))
	for _, path := range namespaces {
		err = errors.Join(err, removeNamespace(filepath.Base(path)))
	}
	if err := errors.Join(err, os.RemoveAll(workDir(id))); err != nil {
		return err
	}
	return os.Remove(stateFile(id))
}
