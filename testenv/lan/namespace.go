//go:build linux

package lan

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// netnsDir is where ip-netns(8) keeps named namespaces.
const netnsDir = "/run/netns"

// enter is the command that runs another one in a namespace. It execs, so the
// process id is the other one's.
func enter(ns string) []string { return []string{"ip", "netns", "exec", ns} }

// within calls f on a thread that is in the namespace.
func within(ns string, f func() error) error {
	target, err := os.Open(filepath.Join(netnsDir, ns))
	if err != nil {
		return err
	}
	defer target.Close()
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err == nil {
			defer home.Close()
			err = unix.Setns(int(target.Fd()), unix.CLONE_NEWNET)
		}
		if err != nil {
			runtime.UnlockOSThread()
			result <- fmt.Errorf("enter namespace %q: %w", ns, err)
			return
		}
		err = f()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread() // else the thread ends with this goroutine
		}
		result <- err
	}()
	return <-result
}

// removeNamespace ends what runs in a namespace and deletes it.
func removeNamespace(ns string) error {
	if err := endProcesses(ns); err != nil {
		return err
	}
	path := filepath.Join(netnsDir, ns)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: not mounted
		return fmt.Errorf("unmount %q: %w", path, err)
	}
	return os.Remove(path)
}

// endProcesses kills what runs in a namespace and waits until it is gone.
func endProcesses(ns string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left, err := processes(ns)
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v in namespace %q do not end", left, ns)
		}
		for _, pid := range left {
			// A process that went meanwhile is no error, and the kernel does not
			// reuse its id within microseconds.
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d in namespace %q: %w", pid, ns, err)
			}
		}
	}
}

// processes lists who runs in a namespace, other than ourselves.
func processes(ns string) ([]int, error) {
	want, err := os.Stat(filepath.Join(netnsDir, ns))
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		is, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid)) // none for a zombie
		if err == nil && os.SameFile(want, is) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
