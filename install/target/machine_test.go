package target

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// A machine is a real OpenSSH server on loopback. Its systemd is a stand-in.
type machine struct {
	addr  string
	dir   string // holds bin and units
	host  ssh.PublicKey
	login ssh.Signer
	set   settings
}

func newKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

func write(t *testing.T, name string, content []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, content, mode); err != nil {
		t.Fatal(err)
	}
}

// newMachine starts sshd with shell as its sh. Lines of config replace the one for
// the SFTP subsystem.
func newMachine(t *testing.T, shell string, config ...string) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: sshd logs in as root")
	}
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		t.Skip("needs sshd: apt-get install openssh-server")
	}
	dir := t.TempDir()
	for _, d := range []string{"/run/sshd", dir + "/bin", dir + "/units", dir + "/jobs", dir + "/systemd"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range []string{"systemd-run", "systemctl"} {
		script, err := os.ReadFile("testdata/bin/" + tool)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "bin", tool), script, 0o755)
	}
	if err := os.Symlink(shell, dir+"/bin/sh"); err != nil {
		t.Fatal(err)
	}
	host, hostPEM := newKey(t)
	login, _ := newKey(t)
	write(t, dir+"/host", hostPEM, 0o600)
	write(t, dir+"/authorized", ssh.MarshalAuthorizedKey(login.PublicKey()), 0o600)
	m := &machine{addr: freeAddr(t), dir: dir, host: host.PublicKey(), login: login, set: usual}
	m.set.run, m.set.systemd = dir+"/jobs", dir+"/systemd"
	m.set.backOff = 20 * time.Millisecond
	if len(config) == 0 {
		config = []string{"Subsystem sftp internal-sftp"}
	}
	m.start(t, sshd, strings.Join(config, "\n"))
	return m
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (m *machine) start(t *testing.T, sshd, config string) {
	t.Helper()
	ip, port, _ := net.SplitHostPort(m.addr)
	write(t, m.dir+"/sshd_config", fmt.Appendf(nil, `ListenAddress %s
Port %s
HostKey %[3]s/host
PidFile none
AuthorizedKeysFile %[3]s/authorized
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv PATH=%[3]s/bin:/usr/sbin:/usr/bin:/sbin:/bin
%s
`, ip, port, m.dir, config), 0o600)
	cmd := exec.Command(sshd, "-D", "-e", "-f", m.dir+"/sshd_config")
	log := &logWriter{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("sshd: %s", log)
		}
	})
	await(t, func() bool {
		c, err := net.Dial("tcp", m.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// await waits until cond holds; the test's own time limit is the bound.
func await(t *testing.T, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

type logWriter struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logWriter) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// target returns a target that reaches the machine at addr.
func (m *machine) target(t *testing.T, addr string) *Target {
	t.Helper()
	tg := newTarget("test", m.set, func(ctx context.Context) (*ssh.Client, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		c, chans, reqs, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
			User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(m.login)}, HostKeyCallback: ssh.FixedHostKey(m.host),
		})
		if err != nil {
			conn.Close()
			return nil, err
		}
		return ssh.NewClient(c, chans, reqs), nil
	})
	t.Cleanup(func() { tg.Close() })
	return tg
}

// A link is a TCP proxy with faults.
type link struct {
	net.Listener
	to    string
	delay time.Duration // each way

	mu    sync.Mutex
	up    int64 // when more bytes than this have gone to the machine: cut; 0 never
	down  int64 // the same for bytes from the machine
	times int   // how many cuts are still to come
	cuts  int
	conns map[*pair]bool
}

type pair struct {
	client, server net.Conn
	up, down       int64
	hole           bool
}

func newLink(t *testing.T, to string, set func(*link)) *link {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{Listener: ln, to: to, conns: map[*pair]bool{}}
	if set != nil {
		set(l)
	}
	t.Cleanup(func() { ln.Close() })
	go l.serve()
	return l
}

func (l *link) serve() {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", l.to)
		if err != nil {
			client.Close()
			continue
		}
		p := &pair{client: client, server: server}
		l.mu.Lock()
		l.conns[p] = true
		l.mu.Unlock()
		go l.copy(p, server, client, &p.up, &l.up)
		go l.copy(p, client, server, &p.down, &l.down)
	}
}

// copy passes bytes on after the delay, while later ones are read already.
func (l *link) copy(p *pair, dst, src net.Conn, passed, limit *int64) {
	type piece struct {
		data []byte
		due  time.Time
	}
	pieces := make(chan piece, 1<<16)
	go func() {
		defer dst.Close()
		for x := range pieces {
			<-time.After(time.Until(x.due))
			if l.pass(p, int64(len(x.data)), passed, limit) {
				dst.Write(x.data)
			}
		}
	}()
	defer close(pieces)
	for {
		b := make([]byte, 32<<10)
		n, err := src.Read(b)
		if n > 0 {
			pieces <- piece{b[:n], time.Now().Add(l.delay)}
		}
		if err != nil {
			return
		}
	}
}

// pass counts n bytes and reports whether they get through.
func (l *link) pass(p *pair, n int64, passed, limit *int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	*passed += n
	if *limit > 0 && *passed > *limit && l.times > 0 {
		l.times--
		l.cuts++
		p.client.Close()
		p.server.Close()
		return false
	}
	return !p.hole
}

// hole makes the connections of now swallow everything. New ones work.
func (l *link) hole() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range l.conns {
		p.hole = true
	}
}

func (l *link) addr() string { return l.Listener.Addr().String() }
