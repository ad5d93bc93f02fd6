package arp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nixctl/nixctl/discovery"
	"github.com/nixctl/nixctl/discovery/arp"
	"golang.org/x/sys/unix"
)

// The lab is a LAN of network namespaces: a bridge, a workstation, machines
// with a real sshd each, and a crowd of hosts whose port 22 is closed or
// filtered. The test binary runs itself inside the workstation.

// An errand is what the binary is to do inside.
type errand struct {
	Do       string // "find", "duration", "interfaces" or "noise"
	Prefixes []netip.Prefix
	Rate     int
	Every    time.Duration
	Linger   time.Duration
	Timeout  time.Duration // if not 0
	UID      int
}

// A line is what it prints then.
type line struct {
	Addr, MAC, Source, Route string
	Fallback                 string // what Source.Fallback was called with
	Hint                     bool   // whether that was an ErrNoRawSocket
	Error                    string
	TooLarge                 bool
	Unasked                  int
	Takes                    time.Duration // as Source.Duration tells
	Done                     bool
}

const errandEnv = "NXARP_ERRAND"

func TestMain(m *testing.M) {
	if os.Getenv(errandEnv) == "" {
		os.Exit(m.Run())
	}
	var e errand
	if err := json.Unmarshal([]byte(os.Getenv(errandEnv)), &e); err != nil {
		panic(err)
	}
	if e.UID != 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(e.UID), syscall.Setuid(e.UID)); err != nil {
			panic(err)
		}
	}
	out := json.NewEncoder(os.Stdout)
	switch e.Do {
	case "find":
		e.find(out)
	case "duration":
		out.Encode(line{Takes: e.source().Duration()})
	case "interfaces":
		list, err := arp.Interfaces()
		for _, i := range list {
			out.Encode(line{Addr: i.Name})
		}
		if err != nil {
			out.Encode(line{Error: err.Error()})
		}
	case "noise":
		noise(out)
	}
}

// noise sends what no decent host sends, until the test closes our stdin.
func noise(out *json.Encoder) {
	iface, err := net.InterfaceByName("eth0")
	if err != nil {
		panic(err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		panic(err)
	}
	done := make(chan bool)
	go func() {
		bufio.NewReader(os.Stdin).ReadByte()
		close(done)
	}()
	all, ws := "\xff\xff\xff\xff\xff\xff", "\x02\x00\x00\x00\x00\x01"
	reply := "\x08\x06\x00\x01\x08\x00\x06\x04\x00\x02"
	synAck := "\x08\x00\x45\x00\x00\x28\x00\x00\x40\x00\x40\x06\x00\x00\x0a\x4d\x00"
	for n := 0; ; n++ {
		mac := string([]byte{2, 9, byte(n >> 16), byte(n >> 8), byte(n), 9})
		for _, f := range []string{
			all + mac + reply + mac + "\x0a\x4d\x00\x63" + ws + "\x0a\x4d\x00\x01",                              // ever new claims to .99
			ws + mac + reply + mac + "\xc0\xa8\x00\x63" + ws + "\x0a\x4d\x00\x01",                               // who was not asked
			ws + mac + reply + all + "\x0a\x4d\x00\x0b" + ws + "\x0a\x4d\x00\x01",                               // everybody is .11
			ws + mac + reply + mac + "\x0a\x4d",                                                                 // cut
			ws + mac + "\x08\x06" + strings.Repeat("\xff", 100),                                                 // lengths of 255
			ws + mac + synAck + "\x63\x0a\x4d\x00\x01\x00\x16" + mac + mac + "\x50\x12\x00\x00\x00\x00\x00\x00", // a guess
		} {
			if err := unix.Sendto(fd, []byte(f), 0, &unix.SockaddrLinklayer{Ifindex: iface.Index}); err != nil {
				panic(err)
			}
		}
		if n == 0 {
			out.Encode(line{})
		}
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

func (e errand) source() *arp.Source {
	iface, err := net.InterfaceByName("eth0")
	if err != nil {
		panic(err)
	}
	return &arp.Source{Interface: iface, Prefixes: e.Prefixes, Rate: e.Rate, Every: e.Every, Linger: e.Linger}
}

func (e errand) find(out *json.Encoder) {
	ctx, cancel := context.WithCancel(context.Background())
	if e.Timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, e.Timeout)
	}
	go func() { // until the test closes our stdin
		bufio.NewReader(os.Stdin).ReadByte()
		cancel()
	}()
	s := e.source()
	s.Fallback = func(err error) {
		out.Encode(line{Fallback: err.Error(), Hint: errors.Is(err, arp.ErrNoRawSocket)})
	}
	err := s.Find(ctx, func(c discovery.Candidate) {
		out.Encode(line{Addr: c.Addr.String(), MAC: c.MAC, Source: c.Source, Route: string(c.Route)})
	})
	end := line{Done: true, TooLarge: errors.Is(err, arp.ErrTooLarge)}
	if unasked := (*arp.UnaskedError)(nil); errors.As(err, &unasked) {
		end.Unasked, end.Takes = unasked.N, unasked.Needs
	}
	if err != nil {
		end.Error = err.Error()
	}
	out.Encode(end)
}

type lab struct {
	prefix string // of the names of the namespaces
	bits   int
	keys   string // a folder
	nets   int
}

const machines = 4

// newLab makes a LAN 10.77.0.0/bits. Live in a /24 are the workstation .1, the
// machines from .11 on, .100, and .128 to .191, of which 16 filter port 22.
func newLab(t *testing.T, bits int) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	for _, tool := range []string{"ip", "nft", "ssh-keygen", "/usr/sbin/sshd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs ", tool)
		}
	}
	l := &lab{prefix: fmt.Sprintf("nxarp-%d-", os.Getpid()), bits: bits, keys: t.TempDir()}
	l.netns(t, "bridge")
	l.in(t, "bridge", "ip link add br0 type bridge")
	l.in(t, "bridge", "ip link set br0 up")
	l.join(t, "ws", "10.77.0.1", "02:00:00:00:00:01")
	l.join(t, "crowd", "10.77.0.100", "02:00:00:00:00:64")
	l.in(t, "crowd", "ip route add local 10.77.0.128/26 dev lo")
	if bits <= 22 {
		l.in(t, "crowd", "ip route add local 10.77.1.0/24 dev lo")
	}
	l.drop(t, "crowd", "ip", "input", "ip daddr 10.77.0.128/28 tcp dport 22 drop")
	for i := range machines {
		l.machine(t, i)
		l.in(t, l.name(i), "ip link set eth0 up")
	}
	return l
}

func (l *lab) name(i int) string       { return fmt.Sprint("m", i) }
func machineAddr(i int) string         { return fmt.Sprintf("10.77.0.%d", 11+i) }
func machineMAC(i int) string          { return fmt.Sprintf("b8:27:eb:00:00:%02x", i) }
func (l *lab) path(name string) string { return l.prefix + name }

// machine makes a machine with its own host key and sshd; its link is down yet.
func (l *lab) machine(t *testing.T, i int) {
	t.Helper()
	name, key := l.name(i), filepath.Join(l.keys, l.name(i))
	l.join(t, name, machineAddr(i), machineMAC(i))
	l.in(t, name, "ip link set eth0 down")
	run(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	l.sshd(t, name, key)
}

// sshd starts an SSH server and waits for it to listen.
func (l *lab) sshd(t *testing.T, name, key string) {
	t.Helper()
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", l.path(name), "/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", "-h", key, "-o", "PidFile=none")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	log := bufio.NewScanner(stderr)
	for listening := 0; listening < 2; { // on IPv4 and on IPv6
		if !log.Scan() {
			t.Fatalf("sshd in %s ended: %v", name, log.Err())
		}
		if strings.Contains(log.Text(), "Server listening") {
			listening++
		}
	}
	go func() {
		for log.Scan() {
		}
	}()
}

// netns makes a namespace whose IPv6 addresses are good at once.
func (l *lab) netns(t *testing.T, name string) {
	t.Helper()
	run(t, "", "ip", "netns", "add", l.path(name))
	t.Cleanup(func() { run(t, "", "ip", "netns", "del", l.path(name)) })
	l.in(t, name, "ip link set lo up")
	l.in(t, name, "sysctl -qw net.ipv6.conf.default.accept_dad=0")
}

// join makes a namespace with an interface eth0 on the bridge.
func (l *lab) join(t *testing.T, name, addr, mac string) {
	t.Helper()
	l.netns(t, name)
	l.nets++
	port := fmt.Sprint("p", l.nets)
	l.in(t, "bridge", fmt.Sprintf("ip link add %s type veth peer name eth0 address %s netns %s", port, mac, l.path(name)))
	l.in(t, "bridge", fmt.Sprintf("ip link set %s master br0 up", port))
	l.in(t, name, fmt.Sprintf("ip addr add %s/%d dev eth0", addr, l.bits))
	l.in(t, name, "ip link set eth0 up")
}

// lose makes the bridge lose permille of the frames in each direction.
func (l *lab) lose(t *testing.T, permille int) {
	t.Helper()
	l.drop(t, "bridge", "bridge", "forward", fmt.Sprintf("numgen random mod 1000 < %d drop", permille))
}

// drop adds rules to a namespace's packet filter.
func (l *lab) drop(t *testing.T, name, family, hook, rules string) {
	t.Helper()
	table := fmt.Sprintf("table %s f {\nchain c {\ntype filter hook %s priority 0\n%s\n}\n}\n", family, hook, rules)
	run(t, table, "ip", "netns", "exec", l.path(name), "nft", "-f", "-")
}

// in runs a command in a namespace and returns what it prints.
func (l *lab) in(t *testing.T, name, command string) string {
	t.Helper()
	return run(t, "", "ip", append([]string{"netns", "exec", l.path(name)}, strings.Fields(command)...)...)
}

// mayPing sets the groups that may ask for an echo without privilege.
func (l *lab) mayPing(t *testing.T, name, groups string) {
	t.Helper()
	run(t, "", "ip", "netns", "exec", l.path(name), "sysctl", "-qw", "net.ipv4.ping_group_range="+groups)
}

func run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// A runner is the test binary on an errand.
type runner struct {
	lines *bufio.Scanner
	stop  func()
}

// start sends the binary into a namespace.
func (l *lab) start(t *testing.T, name string, e errand) *runner {
	t.Helper()
	what, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", l.path(name), os.Args[0])
	cmd.Env = append(os.Environ(), errandEnv+"="+string(what), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%+v: %v", e, err)
		}
	})
	return &runner{bufio.NewScanner(stdout), func() { stdin.Close() }}
}

// next returns the next line, and false after the last one.
func (r *runner) next(t *testing.T) (l line, ok bool) {
	t.Helper()
	if !r.lines.Scan() {
		return l, false
	}
	if err := json.Unmarshal(r.lines.Bytes(), &l); err != nil {
		t.Fatalf("%q: %v", r.lines.Text(), err)
	}
	return l, true
}

// await reads lines until one has the address addr.
func (r *runner) await(t *testing.T, addr string) line {
	t.Helper()
	for {
		l, ok := r.next(t)
		if !ok || l.Done {
			t.Fatalf("ended without %s: %+v", addr, l)
		}
		if l.Addr == addr {
			return l
		}
	}
}

// find runs Find to its end: the addresses and MACs it found, and the lines
// that are about something else.
func (l *lab) find(t *testing.T, e errand) (found map[string][]string, others []line) {
	t.Helper()
	e.Do = "find"
	r := l.start(t, "ws", e)
	found = make(map[string][]string)
	for {
		n, ok := r.next(t)
		switch {
		case !ok:
			return found, others
		case n.Addr == "":
			others = append(others, n)
		case n.Source != "arp" || n.Route != "lan":
			t.Errorf("candidate %+v is not from arp on the lan", n)
		default:
			found[n.Addr] = append(found[n.Addr], n.MAC)
		}
	}
}
