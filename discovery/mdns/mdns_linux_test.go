package mdns_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nixctl/nixctl/agent/announce"
	"github.com/nixctl/nixctl/discovery"
	"github.com/nixctl/nixctl/discovery/mdns"
	"github.com/nixctl/nixctl/testenv/avahi"
)

const fingerprint = "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA"

// TestMain lets the test binary browse, or be an installer, in another network
// namespace.
func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch mode := os.Getenv("NIXCTL_TEST_MODE"); mode {
	case "":
		os.Exit(m.Run())
	case "installer":
		machine := announce.Machine{HostKey: os.Getenv("NIXCTL_TEST_HOST_KEY"), Name: "büro \"1\""}
		exit(announce.New(machine.Claim, 22, nil).Run(ctx))
	default:
		exit(browse(ctx, mode == "watch"))
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// browse prints what is found on eth0, each candidate as a line of JSON.
func browse(ctx context.Context, watch bool) error {
	ifi, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	source := &mdns.Source{Interface: ifi, Watch: watch}
	fmt.Println("browsing", source)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	return discovery.Find(ctx, []discovery.Source{source}, func(c discovery.Candidate) { out.Encode(c) })
}

func mode(m string) []string { return []string{"NIXCTL_TEST_MODE=" + m} }

// installer runs the agent's responder on h, and returns where its host key is.
func installer(t *testing.T, h *avahi.Host) (p *avahi.Process, key string) {
	t.Helper()
	key = filepath.Join(t.TempDir(), "key.pub")
	writeKey(t, key, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f")
	return h.Start(append(mode("installer"), "NIXCTL_TEST_HOST_KEY="+key), os.Args[0]), key
}

func writeKey(t *testing.T, path, key string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(key+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A browser that starts after the machines sees them at all their addresses,
// whoever announces them.
func TestSeesAgentAndAvahi(t *testing.T) {
	lan := avahi.New(t)
	ws := lan.Host("ws", "10.77.1.1/24")
	watch := ws.Start(mode("watch"), os.Args[0])
	agent := lan.Host("agent", "10.77.1.2/24")
	installer(t, agent)
	other := lan.Host("avahi", "10.77.1.3/24")
	other.Avahi()
	other.Start(nil, "avahi-publish", "-s", "Other. machine", "_nixctl._tcp", "2222", "name=other", "key="+fingerprint, "flag")
	addresses := []string{`"10.77.1.2:22"`, `%eth0]:22"`, `"10.77.1.3:2222"`, `%eth0]:2222"`}
	for _, a := range addresses {
		watch.Await(a)
	}

	mark := watch.Mark()
	once := ws.Start(mode("once"), os.Args[0])
	once.End()
	for _, a := range addresses {
		line := once.Await(a, `"fingerprint":"`+fingerprint+`"`, `"Source":"mdns"`, `"Route":"lan"`, `"MAC":""`, `"Gone":false`)
		if strings.Contains(line, "10.77.1.2") && !strings.Contains(line, `"name":"büro \"1\""`) {
			t.Errorf("the name did not survive: %s", line)
		}
	}
	for _, a := range addresses { // the watch asks again and tells who is still there
		watch.AwaitAfter(mark, a, `"Gone":false`)
	}
}

// On a cable between two machines there is no default route, and hashicorp/mdns
// has no IPv4 then; here there is no IPv6 either.
func TestWithoutDefaultRouteAndIPv6(t *testing.T) {
	lan := avahi.New(t)
	ws, agent := avahi.Machine(t, "ws"), avahi.Machine(t, "agent")
	for _, h := range []*avahi.Host{ws, agent} {
		h.Sysctl("net.ipv6.conf.all.disable_ipv6=1")
		h.Sysctl("net.ipv6.conf.default.disable_ipv6=1")
	}
	lan.Plug(ws, "eth0", "10.77.1.1/24")
	lan.Plug(agent, "eth0", "10.77.1.2/24")
	watch := ws.Start(mode("watch"), os.Args[0])
	watch.Await("browsing mdns/eth0")
	installer(t, agent)
	watch.Await(`"Addr":"10.77.1.2:22"`)

	once := ws.Start(mode("once"), os.Args[0])
	once.End()
	once.Await(`"Addr":"10.77.1.2:22"`)
}

func TestWatchTellsWhoChangesMovesAndLeaves(t *testing.T) {
	lan := avahi.New(t)
	ws, agent := lan.Host("ws", "10.77.1.1/24"), lan.Host("agent", "10.77.1.2/24")
	watch := ws.Start(mode("watch"), os.Args[0])
	p, key := installer(t, agent)
	watch.Await(`"Addr":"10.77.1.2:22"`, `"Gone":false`, fingerprint)

	// A stick with another key bundle is plugged in.
	writeKey(t, key, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/")
	watch.Await(`"Addr":"10.77.1.2:22"`, `"Gone":false`, "SHA256:LVC7PY6ur9Dk+WVIYQsgEU2uvTXAor8XoYLl+ZmNyRo")

	// Only what is in a network of the link is believed.
	ws.IP("address", "add", "10.77.2.1/24", "dev", "eth0")
	mark := watch.Mark()
	agent.IP("address", "add", "10.77.9.2/24", "dev", "eth0")
	agent.IP("address", "add", "10.77.2.2/24", "dev", "eth0")
	agent.IP("address", "del", "10.77.1.2/24", "dev", "eth0")
	watch.AwaitAfter(mark, `"Addr":"10.77.2.2:22"`, `"Gone":false`)
	watch.AwaitAfter(mark, `"Addr":"10.77.1.2:22"`, `"Gone":true`)
	watch.AwaitAfter(0, `"Addr":"[fe80::`, `%eth0]:22"`, `"Gone":false`)

	mark = watch.Mark()
	p.Stop()
	watch.AwaitAfter(mark, `"Addr":"10.77.2.2:22"`, `"Gone":true`)
	watch.AwaitAfter(mark, `"Addr":"[fe80::`, `"Gone":true`)
	watch.Stop()
	for _, line := range watch.Lines() {
		if strings.Contains(line, "10.77.9.2") {
			t.Errorf("found off the link: %s", line)
		}
	}
}

// Two links, one machine on each: what is on one is not told of the other.
func TestLooksOnItsLinkOnly(t *testing.T) {
	lan, second := avahi.New(t), avahi.New(t)
	ws := lan.Host("ws", "10.77.1.1/24")
	second.Plug(ws, "eth1", "10.77.2.1/24")
	near, far := lan.Host("near", "10.77.1.2/24"), second.Host("far", "10.77.2.2/24")
	watch := ws.Start(mode("watch"), os.Args[0])
	watch.Await("browsing mdns/eth0")
	installer(t, far)
	installer(t, near)
	watch.Await(`"Addr":"10.77.1.2:22"`)
	once := ws.Start(mode("once"), os.Args[0])
	once.End()
	once.Await(`"Addr":"10.77.1.2:22"`)
	for _, line := range append(watch.Lines(), once.Lines()...) {
		if strings.Contains(line, "10.77.2.2") {
			t.Errorf("found on the other link: %s", line)
		}
	}
}

func TestInterfaceThatIsNotThere(t *testing.T) {
	source := &mdns.Source{Interface: &net.Interface{Index: 1 << 30, Name: "nx-none"}}
	err := source.Find(t.Context(), func(c discovery.Candidate) { t.Errorf("found %v", c) })
	if err == nil || !strings.Contains(err.Error(), `"nx-none"`) {
		t.Errorf("Find = %v, want an error that names the interface", err)
	}
}
