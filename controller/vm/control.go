package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"
)

// PID returns QEMU's process id.
func (m *Machine) PID() int { return m.pid }

// SerialLog returns the path of everything the guest has written to its serial
// port, over all starts in this run folder.
func (m *Machine) SerialLog() string { return (&Config{Dir: m.dir}).serialLog() }

// Done is closed when the machine has ended.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Wait returns why the machine ended, or ctx's error if that comes first.
func (m *Machine) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-m.done:
		return m.exit, nil
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

// Powerdown presses the ACPI power button; what follows is the guest's choice.
func (m *Machine) Powerdown(ctx context.Context) error {
	return m.monitor.do(ctx, "system_powerdown", nil, nil)
}

// Reset presses the reset button. Like a power cut it gives the guest no time
// to write what it holds in memory.
func (m *Machine) Reset(ctx context.Context) error {
	return m.monitor.do(ctx, "system_reset", nil, nil)
}

// Kill cuts the power by SIGKILL and returns when the process is gone. What
// the guest had not flushed to its disks is lost.
func (m *Machine) Kill(ctx context.Context) error {
	if err := m.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_, err := m.Wait(ctx)
	return err
}

// Quit ends QEMU at once but in order: its disk files are complete up to what
// the guest had written to its disks.
func (m *Machine) Quit(ctx context.Context) error {
	return m.monitor.do(ctx, "quit", nil, nil)
}

// Pause freezes the machine, Resume lets it go on.
func (m *Machine) Pause(ctx context.Context) error { return m.monitor.do(ctx, "stop", nil, nil) }

// Resume ends a Pause.
func (m *Machine) Resume(ctx context.Context) error { return m.monitor.do(ctx, "cont", nil, nil) }

// SetLink plugs the cable of a network card in or pulls it.
func (m *Machine) SetLink(ctx context.Context, nic int, up bool) error {
	args := map[string]any{"name": fmt.Sprintf("nic%d", nic), "up": up}
	return m.monitor.do(ctx, "set_link", args, nil)
}

// RemoveDevice pulls out a device, such as the USB stick "disk1". It returns
// when QEMU has passed the wish on; USB obeys at once, PCI asks the guest.
func (m *Machine) RemoveDevice(ctx context.Context, id string) error {
	return m.monitor.do(ctx, "device_del", map[string]any{"id": id}, nil)
}

// Throttle limits how many bytes per second a virtio disk reads and writes; 0
// lifts the limit.
func (m *Machine) Throttle(ctx context.Context, disk, bytesPerSecond int) error {
	args := map[string]any{"id": fmt.Sprintf("/machine/peripheral/disk%d/virtio-backend", disk),
		"bps": bytesPerSecond, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0}
	return m.monitor.do(ctx, "block_set_io_throttle", args, nil)
}

// Screendump writes what the machine's screen shows to a PNG file. It needs
// Config.Screen.
func (m *Machine) Screendump(ctx context.Context, file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	return m.monitor.do(ctx, "screendump", map[string]any{"filename": file, "format": "png"}, nil)
}

// Save freezes the machine and writes its memory and devices, but not its
// disks, to a file that Config.Incoming takes. The machine stays frozen until
// Resume or Kill. The file is private: a guest's memory holds its keys.
func (m *Machine) Save(ctx context.Context, file string) error {
	if err := m.Pause(ctx); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(m.migrate(ctx, f), f.Close())
}

// migrate uses QEMU's live migration with a file in the place of another host.
func (m *Machine) migrate(ctx context.Context, to *os.File) error {
	unlimited := map[string]any{"max-bandwidth": int64(1) << 40} // the default of 32 to 128 MiB/s spares networks
	if err := m.monitor.do(ctx, "migrate-set-parameters", unlimited, nil); err != nil {
		return err
	}
	if err := m.monitor.do(ctx, "getfd", map[string]any{"fdname": "save"}, nil, to); err != nil {
		return err
	}
	if err := m.monitor.do(ctx, "migrate", map[string]any{"uri": "fd:save"}, nil); err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		var s struct {
			Status string `json:"status"`
			Desc   string `json:"error-desc"`
		}
		err := m.monitor.do(ctx, "query-migrate", nil, &s)
		if s.Status == "failed" || s.Status == "cancelled" {
			return false, fmt.Errorf("save machine: migration %s: %s", s.Status, s.Desc)
		}
		return s.Status == "completed", err
	})
}

// resumeIncoming waits until a saved machine is loaded and sets it going.
func (m *Machine) resumeIncoming(ctx context.Context) error {
	err := poll(ctx, func() (bool, error) {
		var s struct{ Status string }
		err := m.monitor.do(ctx, "query-status", nil, &s)
		return s.Status != "inmigrate", err
	})
	if err != nil {
		return fmt.Errorf("load saved machine: %w", err)
	}
	return m.Resume(ctx)
}

// poll calls done until it says so; QEMU tells the state of a migration by
// event only to those that asked before it began.
func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Console connects to the serial port of the machine that runs in a run folder;
// it does not matter which program is attached to the machine. QEMU serves one
// connection at a time and makes the guest wait for a reader that does not
// read.
func Console(ctx context.Context, dir string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", serialSocket(dir))
}

// SendSerial types text on the guest's serial port, such as a passphrase with
// its newline. It returns when the guest's port has taken all of it.
func (m *Machine) SendSerial(ctx context.Context, text string) error {
	c, err := Console(ctx, m.dir)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(c, text); err != nil {
		return fmt.Errorf("type on the serial port: %w", err)
	}
	// QEMU hangs up once it has read the end that CloseWrite makes.
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		return fmt.Errorf("type on the serial port: %w", err)
	}
	return nil
}
