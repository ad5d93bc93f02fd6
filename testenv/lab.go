package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/nixctl/nixctl/controller/vm"
	"golang.org/x/term"
)

// A running lab of "lab up", as its other commands need to know it.
type labState struct {
	PID    int
	Enter  []string // command that runs what follows on the workstation
	Env    []string // of the workstation
	Bin    string   // folder with nixctl
	Guests []labGuest
}

type labGuest struct{ Name, Dir string }

func labFile() (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "nixctl", "lab", "up.json"), err
}

// runLab is the command "lab".
func runLab(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "up":
		return labUp(ctx)
	case len(args) == 1 && args[0] == "serve":
		return labServe(ctx)
	case len(args) == 1 && args[0] == "down":
		return labDown()
	case len(args) == 1 && args[0] == "status":
		return labStatus()
	case len(args) >= 1 && args[0] == "shell":
		return labShell(args[1:])
	case len(args) == 2 && args[0] == "console":
		return labConsole(ctx, args[1])
	}
	return errUsage
}

// labUp starts "lab serve" in the background and waits until it says that it is up.
func labUp(ctx context.Context) error {
	if s, err := readLab(); err == nil {
		return fmt.Errorf("a lab is up already (process %d); go run ./testenv lab down", s.PID)
	}
	if err := setup(ctx, nil); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, "lab", "serve")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	problems, err := os.CreateTemp("", "nixctl-lab-*.log")
	if err != nil {
		return err
	}
	defer os.Remove(problems.Name()) // what is told before the lab is up is told here
	cmd.Stderr = problems
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Signal(os.Interrupt) })
	defer stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == labIsUp {
			return labStatus()
		}
		fmt.Println(lines.Text())
	}
	err = cmd.Wait()
	text, _ := os.ReadFile(problems.Name())
	return fmt.Errorf("the lab did not come up: %w\n%s", err, text)
}

const labIsUp = "up"

// labServe keeps a lab until it is told to end.
func labServe(ctx context.Context) (err error) {
	signals := ctx.Done()
	l, err := startLab(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	file, err := labFile()
	if err != nil {
		return err
	}
	cmd := l.Nixctl(ctx)
	s := labState{PID: os.Getpid(), Enter: cmd.Args[:len(cmd.Args)-1], Env: cmd.Env, Bin: filepath.Dir(l.Programs.Nixctl)}
	for _, g := range l.guests {
		s.Guests = append(s.Guests, labGuest{g.Name, filepath.Dir(g.SerialLog())})
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return err
	}
	defer os.Remove(file)
	fmt.Println(labIsUp)
	<-signals
	return nil
}

// readLab returns the lab that is up. One whose process is gone is not.
func readLab() (labState, error) {
	var s labState
	file, err := labFile()
	if err != nil {
		return s, err
	}
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err == nil {
		var cmdline []byte
		if cmdline, err = os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.PID)); err == nil && !strings.Contains(string(cmdline), "\x00serve") {
			err = fs.ErrNotExist
		}
	}
	if err != nil {
		return s, fmt.Errorf("no lab is up: go run ./testenv lab up (%w)", err)
	}
	return s, nil
}

func labDown() error {
	s, err := readLab()
	if err != nil {
		return err
	}
	return syscall.Kill(s.PID, syscall.SIGTERM)
}

func labStatus() error {
	s, err := readLab()
	if err != nil {
		return err
	}
	fmt.Printf("the lab is up (process %d)\n", s.PID)
	for _, g := range s.Guests {
		fmt.Printf("  %-6s serial log %s/serial.log, console: go run ./testenv lab console %s\n", g.Name, g.Dir, g.Name)
	}
	fmt.Println("  a shell on the workstation, with nixctl and the key store: go run ./testenv lab shell")
	return nil
}

// labShell runs a shell, or a command, on the workstation.
func labShell(command []string) error {
	s, err := readLab()
	if err != nil {
		return err
	}
	if len(command) == 0 {
		command = []string{"bash"}
	}
	argv := append(s.Enter[:len(s.Enter):len(s.Enter)], command...)
	cmd := exec.Command(argv[0], argv[1:]...) // Ctrl-C is for what runs there
	cmd.Env = append(s.Env, "PATH="+s.Bin+":"+os.Getenv("PATH"), "TERM="+os.Getenv("TERM"), "PS1=lab workstation# ")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

// labConsole connects the terminal to a guest's serial port. Ctrl-] ends it.
func labConsole(ctx context.Context, name string) error {
	s, err := readLab()
	if err != nil {
		return err
	}
	for _, g := range s.Guests {
		if g.Name != name {
			continue
		}
		c, err := vm.Console(ctx, g.Dir)
		if err != nil {
			return err
		}
		defer c.Close()
		if old, err := term.MakeRaw(int(os.Stdin.Fd())); err == nil {
			defer term.Restore(int(os.Stdin.Fd()), old)
		}
		fmt.Print("connected; Ctrl-] ends\r\n")
		go io.Copy(os.Stdout, c)
		return untilEscape(c, os.Stdin)
	}
	return fmt.Errorf("no guest %q; go run ./testenv lab status lists them", name)
}

// untilEscape copies what is typed, up to Ctrl-].
func untilEscape(w io.Writer, r io.Reader) error {
	b := make([]byte, 1)
	for {
		n, err := r.Read(b)
		if n == 1 && b[0] == 0x1d || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
	}
}
