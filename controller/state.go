package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/nixctl/nixctl/install"
)

// stateDir is where runs and known hosts are kept:
// $XDG_STATE_HOME/nixctl, by default ~/.local/state/nixctl (XDG Base Directory
// specification 0.8).
func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "nixctl"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a place for the run's log: %w; set XDG_STATE_HOME", err)
	}
	return filepath.Join(home, ".local", "state", "nixctl"), nil
}

// A journal is the record of one run on the workstation: events.jsonl with the events
// as --json prints them, the plan, and the files fetched from the machine.
type journal struct {
	dir    string
	mu     sync.Mutex
	events *os.File
	err    error // the first that occurred while writing
	watch  func(install.Event)
	kept   map[string][]byte
	lock   *os.File
}

func runsDir(host string) (string, error) {
	state, err := stateDir()
	return filepath.Join(state, "runs", host), err
}

// newJournal begins the record of a run and locks the host's runs: two installations
// of one host at once are refused.
func newJournal(plan *install.Plan, watch func(install.Event)) (*journal, error) {
	host := plan.Host
	runs, err := runsDir(host)
	if err != nil {
		return nil, err
	}
	j := &journal{dir: filepath.Join(runs, plan.ID), watch: watch, kept: make(map[string][]byte)}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the run's folder: %w", err)
	}
	if j.lock, err = os.OpenFile(filepath.Join(runs, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("lock the runs of %q: %w", host, err)
	}
	if err := syscall.Flock(int(j.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		j.lock.Close()
		os.Remove(j.dir)
		return nil, fmt.Errorf("%w: %q is being installed by another nixctl on this workstation\nwatch it with: nixctl logs %s --follow", install.ErrLocked, host, host)
	}
	if j.events, err = os.OpenFile(filepath.Join(j.dir, "events.jsonl"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err != nil {
		j.lock.Close()
		return nil, fmt.Errorf("begin the run's journal: %w", err)
	}
	return j, j.Keep("plan.txt", []byte(plan.String()))
}

// Report implements [install.Log].
func (j *journal) Report(e install.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.Kind != install.Progress {
		j.write(e)
	}
	j.watch(e)
}

// write appends one line of JSON to the events.
func (j *journal) write(v any) {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = j.events.Write(append(b, '\n'))
	}
	if j.err == nil {
		j.err = err
	}
}

// Keep implements [install.Log].
func (j *journal) Keep(name string, content []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.kept[name] = content
	if err := os.WriteFile(filepath.Join(j.dir, filepath.Base(name)), content, 0o600); err != nil {
		return fmt.Errorf("keep %q: %w", name, err)
	}
	return nil
}

// end writes the result, ends the record and lets other runs begin.
func (j *journal) end(proof *Proof, err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.write(newResult(proof, err))
	if err := errors.Join(j.err, j.events.Sync(), j.events.Close(), j.lock.Close()); err != nil {
		return fmt.Errorf("the journal in %q is not complete: %w", j.dir, err)
	}
	return nil
}

// latestRun returns the folder of the newest run of host.
func latestRun(host string) (string, error) {
	runs, err := runsDir(host)
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(runs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	names := []string{}
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name()) // they begin with the time
		}
	}
	if len(names) == 0 {
		return "", fmt.Errorf("%w: no run of %q on this workstation; runs are kept in %s", errNotFound, host, strings.TrimSuffix(runs, "/"+host))
	}
	return filepath.Join(runs, slices.Max(names)), nil
}
