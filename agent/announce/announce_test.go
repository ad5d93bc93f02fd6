//go:build linux

package announce_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nixctl/nixctl/agent/announce"
	"github.com/nixctl/nixctl/discovery/beacon"
	"github.com/nixctl/nixctl/testenv/avahi"
)

// A public key of the bytes 0 to 31, and its fingerprint by ssh-keygen -l.
const (
	hostKey     = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f installer\n"
	fingerprint = "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA"
)

// TestMain lets the test binary be a responder in another network namespace.
func TestMain(m *testing.M) {
	if key := os.Getenv("NIXCTL_TEST_HOST_KEY"); key != "" {
		respond(announce.Machine{HostKey: key, Name: os.Getenv("NIXCTL_TEST_NAME"), Version: "1.2.3"})
		return
	}
	os.Exit(m.Run())
}

func respond(machine announce.Machine) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	r := announce.New(machine.Claim, 22, nil)
	go func() { <-r.Ready(); fmt.Println("ready") }()
	if err := r.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// writeKey puts the host key in place at once, as a rename does.
func writeKey(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(hostKey), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// start runs a responder called name on h.
func start(t *testing.T, h *avahi.Host, name string) *avahi.Process {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key.pub")
	writeKey(t, key)
	return startWith(h, name, key)
}

func startWith(h *avahi.Host, name, key string) *avahi.Process {
	return h.Start([]string{"NIXCTL_TEST_HOST_KEY=" + key, "NIXCTL_TEST_NAME=" + name}, os.Args[0])
}

// browse starts avahi on a new host of the LAN, and a browser for installers.
func browse(t *testing.T, lan *avahi.LAN) *avahi.Process {
	t.Helper()
	h := lan.Host("ws", "10.77.1.1/24")
	h.Avahi()
	return h.Start(nil, "avahi-browse", "--resolve", "--parsable", beacon.Service)
}

// suffix is what tells a machine's names apart: the end of its card's address.
func suffix(h *avahi.Host, card string) string {
	return strings.ReplaceAll(h.MAC(card), ":", "")[6:]
}

func TestAvahiSeesAnInstallerComeAndGo(t *testing.T) {
	lan := avahi.New(t)
	browser := browse(t, lan)
	h := lan.Host("agent", "10.77.1.2/24")
	p := start(t, h, "web 1.b")
	end := suffix(h, "eth0")
	name := `web\0321\.b\032` + end

	v4 := browser.Await("=;eth0;IPv4;"+name, ";web-1-b-"+end+".local;10.77.1.2;22;")
	for _, record := range []string{"v=1.2.3", "name=web 1.b", "key=" + fingerprint, "arch=", "mac=" + h.MAC("eth0"), "id="} {
		if !strings.Contains(v4, `"`+record) {
			t.Errorf("no record %q in %s", record, v4)
		}
	}
	browser.Await("=;eth0;IPv6;"+name, ";22;")
	mark := browser.Mark()
	p.Stop()
	browser.AwaitAfter(mark, "-;eth0;IPv4;"+name)
	browser.AwaitAfter(mark, "-;eth0;IPv6;"+name)
}

// Two machines from one ISO have the same host name and the same key.
func TestMachinesFromOneISOHaveTheirOwnNames(t *testing.T) {
	lan := avahi.New(t)
	browser := browse(t, lan)
	a, b := lan.Host("a", "10.77.1.2/24"), lan.Host("b", "10.77.1.3/24")
	start(t, a, "installer")
	start(t, b, "installer")
	for _, tt := range []struct {
		host    *avahi.Host
		address string
	}{{a, "10.77.1.2"}, {b, "10.77.1.3"}} {
		end := suffix(tt.host, "eth0")
		browser.Await("=;eth0;IPv4;", `;installer\032`+end+";", ";installer-"+end+".local;"+tt.address+";")
	}
}

// At boot there is no link, no address and no host key yet.
func TestLateLinkAddressAndKey(t *testing.T) {
	lan := avahi.New(t)
	browser := browse(t, lan)
	h := avahi.Machine(t, "agent")
	key := filepath.Join(t.TempDir(), "key.pub")
	p := startWith(h, "late", key)

	lan.Plug(h, "eth0")
	writeKey(t, key)
	p.Await("ready")
	end := suffix(h, "eth0")
	browser.Await("=;eth0;IPv6;", `;late\032`+end)

	h.IP("address", "add", "10.77.1.2/24", "dev", "eth0")
	browser.Await("=;eth0;IPv4;", `;late\032`+end, ";10.77.1.2;")

	second := avahi.New(t)
	other := browse(t, second)
	second.Plug(h, "eth1", "10.77.2.3/24")
	other.Await("=;eth0;IPv6;", `;late\032`+end+";", ";22;")
	other.Await("=;eth0;IPv4;", `;late\032`+end+";", ";22;")
}

func TestNewAddressReplacesTheOld(t *testing.T) {
	lan := avahi.New(t)
	browser := browse(t, lan)
	h := lan.Host("agent", "10.77.1.2/24")
	start(t, h, "mover")
	browser.Await("=;eth0;IPv4;mover", ";10.77.1.2;")

	h.IP("address", "del", "10.77.1.2/24", "dev", "eth0")
	h.IP("address", "add", "10.77.1.3/24", "dev", "eth0")
	h2 := lan.Host("other", "10.77.1.4/24")
	h2.Avahi()
	again := h2.Start(nil, "avahi-browse", "--resolve", "--parsable", beacon.Service)
	again.Await("=;eth0;IPv4;mover", ";10.77.1.3;")
	for _, l := range again.Lines() {
		if strings.Contains(l, "10.77.1.2;") {
			t.Errorf("the old address is still told: %s", l)
		}
	}
}
