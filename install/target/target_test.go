package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nixctl/nixctl/discovery"
	"github.com/nixctl/nixctl/discovery/verify"
	"github.com/nixctl/nixctl/install/command"
	"golang.org/x/crypto/ssh"
)

// TestDial logs in the way the controller does: prove, then dial.
func TestDial(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	v := &verify.Verifier{
		Identities: []verify.Identity{{Name: "web1", Key: m.host}},
		Dial:       map[discovery.Route]verify.DialFunc{discovery.LAN: verify.DialLAN},
	}
	i, err := v.Verify(t.Context(), discovery.Candidate{Addr: netip.MustParseAddrPort(m.addr), Route: discovery.LAN})
	if err != nil {
		t.Fatal(err)
	}
	stranger, _ := newKey(t)
	if _, err := Dial(t.Context(), i, "root", ssh.PublicKeys(stranger)); err == nil || errors.Is(err, ErrLost) {
		t.Errorf("login with a key that is not authorized: %v, want a refusal", err)
	}
	tg, err := Dial(t.Context(), i, "root", ssh.PublicKeys(m.login))
	if err != nil {
		t.Fatal(err)
	}
	out, err := tg.Output(t.Context(), command.New("echo", "it's", "$HOME"))
	if err != nil || string(out) != "it's $HOME\n" {
		t.Errorf("%q, %v", out, err)
	}
	tg.Close()
	if _, err := tg.Output(t.Context(), command.New("true")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v, want net.ErrClosed", err)
	}
}

func TestOutput(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	tg := m.target(t, m.addr)
	long := strings.Repeat("input ", 100_000)
	if out, err := tg.Output(t.Context(), command.Command{Argv: []string{"cat"}, Stdin: long}); err != nil || string(out) != long {
		t.Errorf("cat gave %d bytes, %v, want %d", len(out), err, len(long))
	}
	_, err := tg.Output(t.Context(), command.New("sh", "-c", "seq 1 1000 >&2; echo 'no \033[31msuch disk' >&2; exit 7"))
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Status != 7 || !bytes.HasPrefix(exit.Output, []byte("1\n2\n")) {
		t.Errorf("%v, want exit status 7 and all of stderr", err)
	}
	if want := `test: "sh": exit status 7: 999; 1000; no such disk`; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if _, err := tg.output(t.Context(), command.New("yes"), 1000); err == nil || !strings.Contains(err.Error(), "more than 1000 bytes") {
		t.Errorf("endless output: %v, want a limit", err)
	}
	if _, err := tg.Output(t.Context(), command.New("sh", "-c", "kill -9 $$")); !errors.As(err, &exit) {
		t.Errorf("killed command: %v, want an ExitError", err)
	}
}

func TestPipe(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	tg := m.target(t, m.addr)
	var got []string
	line := func(l string) { got = append(got, l) }
	err := tg.Pipe(t.Context(), command.New("sh", "-c", "wc -c; echo done >&2; exit 2"), strings.NewReader(strings.Repeat("x", 5<<20)), line)
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Status != 2 {
		t.Errorf("%v, want exit status 2", err)
	}
	if len(got) != 2 || !strings.Contains(strings.Join(got, " "), "5242880") {
		t.Errorf("lines %q, want the size and done", got)
	}
}

func TestReadFile(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	tg := m.target(t, m.addr)
	big := bytes.Repeat([]byte("0123456789"), 100_000)
	write(t, m.dir+"/big", big, 0o600)
	if got, err := tg.ReadFile(t.Context(), m.dir+"/big", int64(len(big))); err != nil || !bytes.Equal(got, big) {
		t.Errorf("%d bytes, %v, want %d", len(got), err, len(big))
	}
	if _, err := tg.ReadFile(t.Context(), m.dir+"/big", int64(len(big))-1); err == nil {
		t.Error("a file over the limit was read")
	}
	if _, err := tg.ReadFile(t.Context(), m.dir+"/none", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want fs.ErrNotExist", err)
	}
	want, err := os.ReadFile("/proc/sys/kernel/random/boot_id") // tells the size 0
	if got, e := tg.ReadFile(t.Context(), "/proc/sys/kernel/random/boot_id", 100); err != nil || e != nil || !bytes.Equal(got, want) {
		t.Errorf("%q, %v, want %q, %v", got, e, want, err)
	}
}

// TestSilence: a machine that answers nothing any more does not hang us; following
// goes on over a new connection.
func TestSilence(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	m.set.keepAlive, m.set.patience = 50*time.Millisecond, 500*time.Millisecond
	l := newLink(t, m.addr, nil)
	tg := m.target(t, l.addr())
	if _, err := tg.Output(t.Context(), command.New("true")); err != nil {
		t.Fatal(err)
	}
	l.hole()
	if _, err := tg.Output(t.Context(), command.New("true")); !errors.Is(err, ErrLost) {
		t.Errorf("command into a black hole: %v, want ErrLost", err)
	}
	if _, err := tg.Output(t.Context(), command.New("true")); err != nil {
		t.Errorf("command afterwards: %v, want a new connection", err)
	}
	fifo := m.dir + "/fifo"
	if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %s", out)
	}
	var got []string
	err := tg.Run(t.Context(), Job{ID: "r/s", Script: "echo one; cat " + fifo}, func(line string) {
		if got = append(got, line); line == "one" {
			l.hole()
			write(t, fifo, []byte("two\n"), 0)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, []string{"one", "two"})
}

// TestPin: nothing is done on a twin that has the same host key.
func TestPin(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	m.set.bootID = m.dir + "/boot_id"
	write(t, m.set.bootID, []byte("first\n"), 0o600)
	l := newLink(t, m.addr, nil)
	tg := m.target(t, l.addr())
	tg.OnLost = func(err error) { t.Errorf("lost: %v", err) }
	tg.Pin("first\n")
	if _, err := tg.Output(t.Context(), command.New("true")); err != nil {
		t.Errorf("same boot: %v", err)
	}
	write(t, m.set.bootID, []byte("second\n"), 0o600)
	if _, err := tg.Output(t.Context(), command.New("true")); err != nil {
		t.Errorf("connection that was checked: %v", err)
	}
	tg.conn.Close()
	if err := tg.Run(t.Context(), Job{ID: "r/s", Script: "touch " + m.dir + "/touched"}, nil); !errors.Is(err, ErrOtherBoot) {
		t.Errorf("job: %v, want ErrOtherBoot", err)
	}
	if err := tg.Upload(t.Context(), []File{file(m.dir+"/touched", "x", 0o600)}, nil); !errors.Is(err, ErrOtherBoot) {
		t.Errorf("upload: %v, want ErrOtherBoot", err)
	}
	if err := tg.Reboot(t.Context()); !errors.Is(err, ErrOtherBoot) {
		t.Errorf("reboot: %v, want ErrOtherBoot", err)
	}
	if _, err := os.Stat(m.dir + "/touched"); err == nil {
		t.Error("the other machine was changed")
	}
	if err := os.Remove(m.set.bootID); err != nil {
		t.Fatal(err)
	}
	if _, err := tg.Output(t.Context(), command.New("true")); err == nil || errors.Is(err, ErrLost) {
		t.Errorf("no boot id: %v, want a refusal", err)
	}
}

// TestLostAndBack: each loss is told once, however often dialling fails.
func TestLostAndBack(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	fifo := m.dir + "/fifo"
	if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %s", out)
	}
	tg := m.target(t, m.addr)
	var told []string
	refuse := 0
	dial := tg.dial
	tg.dial = func(ctx context.Context) (*ssh.Client, error) {
		if refuse--; refuse >= 0 {
			return nil, syscall.ECONNREFUSED
		}
		return dial(ctx)
	}
	tg.OnLost = func(err error) {
		if told = append(told, "lost"); !errors.Is(err, ErrLost) {
			t.Errorf("told %v, want ErrLost", err)
		}
		refuse = 3
	}
	tg.OnBack = func() {
		told = append(told, "back")
		write(t, fifo, fmt.Appendf(nil, "%d\n", len(told)), 0)
	}
	var got []string
	err := tg.Run(t.Context(), Job{ID: "r/s", Script: "echo 0; cat " + fifo + "; cat " + fifo}, func(l string) {
		if got = append(got, l); l != "4" {
			tg.conn.Close()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, got, []string{"0", "2", "4"})
	equal(t, told, []string{"lost", "back", "lost", "back"})
}

// TestGiveUp: what waits for the machine says after a while that it is no use.
func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tg := newTarget("web1", usual, func(context.Context) (*ssh.Client, error) { return nil, syscall.EHOSTUNREACH })
		lost := 0
		tg.OnLost = func(error) { lost++ }
		for limit, want := range map[time.Duration]string{0: "10m0s", time.Hour: "1h0m0s"} {
			start := time.Now()
			tg.GiveUp = limit
			err := tg.Upload(t.Context(), []File{file("/a", "x", 0o600)}, nil)
			if !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "no connection for "+want+"; what runs on the machine goes on") {
				t.Errorf("limit %v: %v", limit, err)
			}
			if took := time.Since(start).Truncate(time.Minute); took.String() != want { // of the fake clock
				t.Errorf("limit %v: gave up after %v", limit, took)
			}
		}
		if lost != 1 {
			t.Errorf("the loss was told %d times, want once", lost)
		}
	})
}

// TestCancelInBlackHole: patience is long here, so only ctx can end the command.
func TestCancelInBlackHole(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	l := newLink(t, m.addr, nil)
	tg := m.target(t, l.addr())
	tg.set.patience = time.Hour
	if _, err := tg.Output(t.Context(), command.New("true")); err != nil {
		t.Fatal(err)
	}
	l.hole()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := tg.Output(ctx, command.New("true")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want context.DeadlineExceeded", err)
	}
}

// TestUnreachable: what can wait for the machine does until ctx is done.
func TestUnreachable(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	tg := m.target(t, freeAddr(t))
	if _, err := tg.Output(t.Context(), command.New("true")); !errors.Is(err, ErrLost) {
		t.Errorf("command: %v, want ErrLost", err)
	}
	if err := tg.Reboot(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("reboot of a machine that was not asked: %v, want ErrLost", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := tg.Run(ctx, Job{ID: "r/s", Script: "true"}, nil); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrLost) {
		t.Errorf("job: %v, want both the deadline and the lost connection", err)
	}
}

// TestNoSFTP: a refusal is not taken for a lost connection, which would be dialled
// again for ever.
func TestNoSFTP(t *testing.T) {
	m := newMachine(t, "/bin/sh", "Subsystem none /bin/false")
	tg := m.target(t, m.addr)
	err := tg.Upload(t.Context(), []File{file(t.TempDir()+"/a", "x", 0o600)}, nil)
	if err == nil || errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "no sftp") {
		t.Errorf("%v, want one about sftp", err)
	}
}

func TestReboot(t *testing.T) {
	m := newMachine(t, "/bin/sh")
	rebooted := m.dir + "/units/rebooted"
	if out, err := exec.Command("mkfifo", rebooted).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %s", out)
	}
	tg := m.target(t, m.addr)
	if err := tg.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(rebooted); err != nil || string(got) != "reboot\n" {
		t.Errorf("%q, %v, want a reboot", got, err)
	}
	if _, err := tg.Output(t.Context(), command.New("true")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the reboot: %v, want net.ErrClosed", err)
	}
}
