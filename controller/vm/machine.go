package vm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Machine is a running virtual machine. Its methods may be called from
// several goroutines.
type Machine struct {
	dir     string
	pid     int
	process *os.Process
	monitor *monitor

	mu     sync.Mutex
	reason string

	done chan struct{}
	exit Exit // valid once done is closed
}

// Start launches a machine and returns when QEMU answers, which is long before
// the guest has booted. A done ctx ends the start, not a started machine.
// The caller must not start a machine in a folder where one runs.
func Start(ctx context.Context, c Config) (*Machine, error) {
	c.defaults()
	m, err := c.start(ctx)
	if err != nil {
		return nil, fmt.Errorf("start machine %q: %w", c.Name, err)
	}
	return m, nil
}

func (c *Config) defaults() {
	c.Firmware = cmp.Or(c.Firmware, UEFI)
	c.Accel = cmp.Or(c.Accel, "tcg")
	c.Name = cmp.Or(c.Name, filepath.Base(c.Dir))
	c.Memory = cmp.Or(c.Memory, 1024)
	c.CPUs = cmp.Or(c.CPUs, 1)
	if c.OnEvent == nil {
		c.OnEvent = func(Event) {}
	}
}

func (c *Config) start(ctx context.Context) (*Machine, error) {
	if err := c.prepare(); err != nil {
		return nil, err
	}
	cmd, err := c.command()
	if err != nil {
		return nil, err
	}
	defer closeAll(cmd.ExtraFiles)
	m := &Machine{dir: c.Dir, done: make(chan struct{})}
	ended, err := m.spawn(cmd)
	// From here on QEMU alone holds the sockets: when it dies, so do they.
	closeAll(cmd.ExtraFiles[:2])
	if err != nil {
		return nil, err
	}
	go m.finish(ended)
	if err := m.attach(ctx, c); err != nil {
		return nil, m.discard(err)
	}
	return m, nil
}

// attach opens the monitor and, if a saved machine is to go on, lets it.
func (m *Machine) attach(ctx context.Context, c *Config) error {
	err := os.WriteFile(filepath.Join(c.Dir, "pid"), fmt.Appendln(nil, m.pid), 0o600)
	if err != nil {
		return err
	}
	if err := m.dial(ctx, c.OnEvent); err != nil {
		return err
	}
	if c.Incoming == "" {
		return nil
	}
	return m.resumeIncoming(ctx)
}

// discard ends a machine that did not start well because of err. If QEMU gave
// up by itself, what it said is the better explanation.
func (m *Machine) discard(err error) error {
	m.process.Kill() // fails only if there is nothing left to end
	<-m.done
	if errors.Is(err, ErrNotRunning) && m.exit.Err != nil {
		return m.exit.Err
	}
	return err
}

// prepare checks and fills the run folder.
func (c *Config) prepare() (err error) {
	if c.Firmware != UEFI && c.Firmware != BIOS {
		return fmt.Errorf("no firmware %q: use %q or %q", c.Firmware, UEFI, BIOS)
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	if p, err := running(c.Dir); err == nil {
		return fmt.Errorf("process %d runs in %q already", p.Pid, c.Dir)
	}
	return errors.Join(c.makeVars(), c.writeCredentials())
}

// command is QEMU with its open files; the caller closes cmd.ExtraFiles.
func (c *Config) command() (*exec.Cmd, error) {
	args, err := c.args()
	if err != nil {
		return nil, err
	}
	argv := append(append([]string{}, c.Prefix...), append([]string{qemu}, args...)...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = attributes(c.Detach)
	qmp, err := listen(qmpSocket(c.Dir))
	if err != nil {
		return nil, err
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, qmp)
	serial, err := listen(serialSocket(c.Dir))
	if err != nil {
		closeAll(cmd.ExtraFiles)
		return nil, err
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, serial)
	if c.Incoming == "" {
		return cmd, nil
	}
	ram, err := os.Open(c.Incoming)
	if err != nil {
		closeAll(cmd.ExtraFiles)
		return nil, err
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, ram)
	return cmd, nil
}

// listen makes a socket for QEMU to inherit. A client can connect from now on
// and is served when QEMU is ready, so nobody has to wait for a file to appear.
func listen(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("%w (socket paths may have about 100 bytes: use a shorter run folder if this one is longer)", err)
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	return l.File()
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close() // a second Close only returns an error
	}
}

// spawn starts QEMU. The returned channel gets its end.
func (m *Machine) spawn(cmd *exec.Cmd) (<-chan error, error) {
	output, err := os.Create(filepath.Join(m.dir, "qemu.log"))
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = output, output
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		defer output.Close()
		// The kernel sends the parent death signal when the starting thread
		// ends, so that thread must stay as long as QEMU does.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	m.pid, m.process = cmd.Process.Pid, cmd.Process
	return ended, nil
}

// finish records why the machine ended, once both QEMU's process and its last
// event are in.
func (m *Machine) finish(ended <-chan error) {
	err := <-ended
	m.mu.Lock()
	monitor := m.monitor
	m.mu.Unlock()
	if monitor != nil {
		<-monitor.ended
	}
	if err != nil {
		if said := tail(filepath.Join(m.dir, "qemu.log")); said != "" {
			err = fmt.Errorf("%w: qemu said: %s", err, said)
		}
	}
	m.close(err)
}

func (m *Machine) close(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.exit = Exit{Reason: m.reason, Err: err}
	close(m.done)
}

// tail returns the end of a file as one line.
func tail(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 2000
	if fi, err := f.Stat(); err == nil && fi.Size() > most {
		f.Seek(-most, io.SeekEnd)
	}
	b, _ := io.ReadAll(io.LimitReader(f, most)) // what could be read is better than nothing
	return strings.Join(strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' }), "; ")
}

// Open attaches to the machine that runs in a run folder. It returns
// ErrNotRunning if there is none. QEMU serves one attached program at a time;
// Open waits for its turn until ctx ends.
func Open(ctx context.Context, dir string) (*Machine, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	p, err := running(dir)
	if err != nil {
		return nil, err
	}
	m := &Machine{dir: dir, pid: p.Pid, process: p, done: make(chan struct{})}
	if err := m.dial(ctx, func(Event) {}); err != nil {
		return nil, fmt.Errorf("attach to the machine in %q: %w", dir, err)
	}
	go m.follow()
	return m, nil
}

func (m *Machine) dial(ctx context.Context, onEvent func(Event)) error {
	q, err := dial(ctx, qmpSocket(m.dir), func(e Event) { m.note(e); onEvent(e) })
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.monitor = q
	return nil
}

func (m *Machine) note(e Event) {
	if e.Name != "SHUTDOWN" {
		return
	}
	var data struct{ Reason string }
	if json.Unmarshal(e.Data, &data) == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.reason = data.Reason
	}
}

// follow waits for the end of a machine that is not our child: its monitor
// closes and, within moments, its process is gone.
func (m *Machine) follow() {
	<-m.monitor.ended
	for {
		if _, err := running(m.dir); err != nil {
			m.close(nil)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Detach lets go of the machine without ending it, so that another program
// can attach. The machine must have been started with Config.Detach or come
// from Open; its methods must not be used any more.
func (m *Machine) Detach() { m.monitor.conn.Close() }

// running finds the process that runs in dir. A process id that has passed to
// another program is recognised by its command line.
func running(dir string) (*os.Process, error) {
	b, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		return nil, fmt.Errorf("%q: %w", dir, ErrNotRunning)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return nil, fmt.Errorf("%q: pid file is damaged: %w", dir, ErrNotRunning)
	}
	// The handle first, then the check: it cannot come to mean another process.
	p, err := os.FindProcess(pid)
	if err != nil || !strings.Contains(commandLine(pid), "logfile="+opt((&Config{Dir: dir}).serialLog())) {
		return nil, fmt.Errorf("%q: %w", dir, ErrNotRunning)
	}
	return p, nil
}

// commandLine is empty for a process that is gone.
func commandLine(pid int) string {
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil {
		return string(b)
	}
	if exists("/proc/self") {
		return ""
	}
	b, _ := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return string(b)
}

func qmpSocket(dir string) string    { return filepath.Join(dir, "qmp.sock") }
func serialSocket(dir string) string { return filepath.Join(dir, "serial.sock") }
