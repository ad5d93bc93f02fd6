//go:build linux

package lan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// AddHosts adds a machine that has every address of the given networks: each
// answers ARP and ping and refuses connections, but those in silent (if valid)
// drop what is sent to port 22, as firewalls do. It is one namespace however
// many there are, since Linux takes a local route as an address (AnyIP).
func (l *LAN) AddHosts(ctx context.Context, silent netip.Prefix, networks ...netip.Prefix) error {
	role := fmt.Sprintf("hosts%d", l.nextPort())
	if err := l.addMachine(ctx, role, netip.Addr{}, ""); err != nil {
		return err
	}
	routes := []string{fmt.Sprintf("route add %s dev eth0", l.network)}
	for _, n := range networks {
		routes = append(routes, fmt.Sprintf("route add local %s dev lo", n))
	}
	if err := l.ip(ctx, role, routes...); err != nil || !silent.IsValid() {
		return err
	}
	return l.nft(ctx, role, fmt.Sprintf("table ip silent {\nchain c {\ntype filter hook input priority 0\n"+
		"ip daddr %s tcp dport 22 drop\n}\n}\n", silent))
}

// A Server is a machine on the LAN with OpenSSH's server on port 22.
type Server struct {
	Addr    netip.Addr
	MAC     string // a random one if empty
	HostKey string // path of its private key file
}

// AddServer adds a server and returns when it answers. Nobody can log in to
// it: it is there to be found and to prove its host key.
func (l *LAN) AddServer(ctx context.Context, s Server) error {
	role := fmt.Sprintf("ssh%d", l.nextPort())
	if err := l.addMachine(ctx, role, s.Addr, s.MAC); err != nil {
		return err
	}
	sshd, err := l.startSSHD(role, s)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- sshd.Wait() }() // it ends when the namespace is removed
	up, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() { stop(fmt.Errorf("sshd on %s: %w", s.Addr, errors.Join(<-ended, readLog(l.log(role))))) }()
	if _, err := l.WaitSSH(up, func() (netip.Addr, bool) { return s.Addr, true }); err != nil {
		return context.Cause(up)
	}
	return nil
}

func (l *LAN) log(role string) string { return filepath.Join(l.Dir(), role+".log") }

func (l *LAN) startSSHD(role string, s Server) (*exec.Cmd, error) {
	config := filepath.Join(l.Dir(), role+".conf")
	text := fmt.Sprintf("HostKey %s\nListenAddress %s\nPidFile none\nAuthenticationMethods publickey\nAuthorizedKeysFile none\n", s.HostKey, s.Addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	// Where the service has not run yet, its privilege separation folder lacks.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		return nil, err
	}
	bin, err := exec.LookPath("sshd")
	if err != nil {
		bin = "/usr/sbin/sshd" // sshd insists on an absolute path; sbin may not be searched
	}
	argv := append(enter(l.namespace(role)), bin, "-D", "-f", config, "-E", l.log(role))
	cmd := exec.Command(argv[0], argv[1:]...) // its life is the LAN's, not a ctx's
	return cmd, cmd.Start()
}

func readLog(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return errors.New(strings.TrimSpace(string(b)))
}

// WaitSSH waits until a machine sends an SSH version line to the workstation,
// and returns it. The machine is where addr says, if it knows, at each try.
func (l *LAN) WaitSSH(ctx context.Context, addr func() (netip.Addr, bool)) (string, error) {
	last := errors.New("it has no address")
	for {
		if a, ok := addr(); ok {
			banner, err := l.banner(ctx, netip.AddrPortFrom(a, 22))
			if err == nil {
				return banner, nil
			}
			last = err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return "", fmt.Errorf("wait for an SSH server: %w (last: %v)", context.Cause(ctx), last)
		}
	}
}

func (l *LAN) banner(ctx context.Context, addr netip.AddrPort) (string, error) {
	// A machine that is still booting may swallow a connection.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := l.Dial(ctx, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	line := make([]byte, 255) // the longest that RFC 4253 section 4.2 allows
	n, err := c.Read(line)
	if !strings.HasPrefix(string(line[:n]), "SSH-") {
		return "", errors.Join(err, fmt.Errorf("%q is no SSH version line", line[:n]))
	}
	return strings.TrimSpace(string(line[:n])), nil
}
