//go:build linux

package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nixctl/nixctl/discovery/beacon"
	"github.com/nixctl/nixctl/testenv/avahi"
)

// TestMain lets the test binary be the program, in scripts and in other network
// namespaces.
func TestMain(m *testing.M) {
	if os.Getenv("NIXCTL_TEST_AGENT") != "" {
		main()
	}
	testscript.Main(m, map[string]func(){"nixctl-agent": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata"})
}

func TestExitCodes(t *testing.T) {
	tests := []struct {
		args string
		want int
	}{
		{"help", exitOK}, {"run -h", exitOK}, {"version", exitOK},
		{"", exitUsage}, {"walk", exitUsage}, {"run --fast", exitUsage}, {"run now", exitUsage}, {"run --port 0", exitUsage}, {"facts x", exitUsage},
	}
	for _, tt := range tests {
		var out, errw bytes.Buffer
		if got := run(t.Context(), strings.Fields(tt.args), strings.NewReader(""), &out, &errw); got != tt.want {
			t.Errorf("%q: exit %d, want %d; stderr %q", tt.args, got, tt.want, errw.String())
		}
		if (errw.Len() > 0) != (tt.want != exitOK) || (out.Len() > 0) != (tt.want == exitOK) {
			t.Errorf("%q: stdout %q, stderr %q", tt.args, out.String(), errw.String())
		}
	}
}

// TestRun runs the agent as systemd does: it is announced and reports ready, and
// it says goodbye when it is told to stop.
func TestRun(t *testing.T) {
	lan := avahi.New(t)
	ws := lan.Host("ws", "10.77.1.1/24")
	ws.Avahi()
	browser := ws.Start(nil, "avahi-browse", "--resolve", "--parsable", beacon.Service)

	dir := t.TempDir()
	key, socket := filepath.Join(dir, "key.pub"), filepath.Join(dir, "notify")
	if err := os.WriteFile(key, []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()

	h := lan.Host("agent", "10.77.1.2/24")
	p := h.Start([]string{"NIXCTL_TEST_AGENT=1", "NOTIFY_SOCKET=" + socket}, os.Args[0], "run", "--name", "web1", "--host-key", key, "--port", "2222")
	expect(t, systemd, "READY=1")
	browser.Await("=;eth0;IPv4;web1", ";10.77.1.2;2222;")
	mark := browser.Mark()
	p.Stop()
	expect(t, systemd, "STOPPING=1")
	browser.AwaitAfter(mark, "-;eth0;IPv4;web1")
}

// expect reads what systemd is told until it is state.
func expect(t *testing.T, systemd net.Conn, state string) {
	t.Helper()
	buf := make([]byte, 4096)
	for {
		n, err := systemd.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if string(buf[:n]) == state {
			return
		}
	}
}
