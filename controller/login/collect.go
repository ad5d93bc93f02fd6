package login

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// usualFiles are the private keys that OpenSSH tries by default, ssh(1) option -i.
var usualFiles = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

// A collector gathers keys, each once.
type collector struct {
	Config
	conf  sshConfig
	user  string
	agent []key
	keys  []key
	notes []string

	publicOnly bool // the public halves will do
}

func newCollector(cfg Config) (*collector, error) {
	c := &collector{Config: cfg}
	if c.Home == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("find ~/.ssh: %w", err)
		}
		c.Home = home
	}
	c.conf, c.notes = readConfig([]string{c.Host, c.Address}, filepath.Join(c.Home, ".ssh/config"), "/etc/ssh/ssh_config")
	c.user = "root"
	for _, u := range []string{c.conf.get("User"), c.User} {
		if u != "" {
			c.user = u
		}
	}
	if socket := c.socket(); socket != "" {
		var err error
		if c.agent, err = agentKeys(socket); err != nil {
			c.note("no key from ssh-agent: %v", err)
		}
	}
	return c, nil
}

func (c *collector) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// socket is that of the agent: IdentityAgent of ssh_config(5) comes first.
func (c *collector) socket() string {
	usual := c.Agent
	if usual == "" {
		usual = os.Getenv("SSH_AUTH_SOCK")
	}
	switch s := c.conf.get("IdentityAgent"); {
	case s == "" || s == "SSH_AUTH_SOCK":
		return usual
	case s == "none":
		return ""
	case strings.HasPrefix(s, "$") && !strings.HasPrefix(s, "${"):
		return os.Getenv(s[1:])
	default:
		return c.path(s)
	}
}

func (c *collector) path(p string) string { return expand(p, c.Home, c.Host, c.user) }

func (c *collector) add(k key) {
	if !slices.ContainsFunc(c.keys, func(o key) bool { return same(o.PublicKey(), k.PublicKey()) }) {
		c.keys = append(c.keys, k)
	}
}

// collect adds what the user named first, so that it is offered before sshd has had
// enough of keys. ask reads the passphrase of such a key.
func (c *collector) collect(ask func(name string) ([]byte, error)) error {
	for _, name := range c.Identities {
		k, err := c.load(c.path(name), ask)
		if err != nil {
			return fmt.Errorf("key %q: %w", name, err)
		}
		c.add(k)
	}
	c.rest()
	return nil
}

// rest adds what the user did not name.
func (c *collector) rest() {
	listed := c.files(c.conf.all("IdentityFile"))
	if strings.EqualFold(c.conf.get("IdentitiesOnly"), "yes") {
		c.addFiles(listed)
	} else {
		for _, k := range c.agent {
			c.add(k)
		}
		c.addFiles(listed)
	}
	if len(listed) == 0 {
		var usual []string
		for _, name := range usualFiles {
			usual = append(usual, filepath.Join(c.Home, ".ssh", name))
		}
		c.addFiles(usual)
	}
	if c.KeyStore != "" {
		c.addFiles(StoreKeys(c.KeyStore))
	}
}

func (c *collector) files(names []string) (paths []string) {
	for _, n := range names {
		if n != "none" {
			paths = append(paths, c.path(n))
		}
	}
	return paths
}

// StoreKeys returns the files of a key store that hold plain private keys of users.
func StoreKeys(store string) (files []string) {
	for _, users := range []string{"users", "home"} {
		dirs, err := os.ReadDir(filepath.Join(store, users))
		if err != nil {
			continue // there need be none
		}
		for _, d := range dirs {
			file := filepath.Join(store, users, d.Name(), "id_ed25519")
			if _, err := os.Stat(file); err == nil {
				files = append(files, file)
			}
		}
	}
	return files
}

// addFiles adds those keys that are there and usable without asking.
func (c *collector) addFiles(files []string) {
	for _, name := range files {
		k, err := c.load(name, func(name string) ([]byte, error) {
			return nil, fmt.Errorf("it has a passphrase: load it with ssh-add %q, or name it with -i", name)
		})
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			c.note("key %q is left out: %v", name, err)
		default:
			c.add(k)
		}
	}
}

// load reads a private key, or a public key whose private half the agent has. For
// an encrypted key too the agent is preferred to asking.
func (c *collector) load(name string, ask func(name string) ([]byte, error)) (key, error) {
	if c.publicOnly {
		return publicOf(name)
	}
	b, err := readSmall(name)
	if err != nil {
		return key{}, err
	}
	if public, _, _, _, err := ssh.ParseAuthorizedKey(b); err == nil {
		if k, ok := c.held(public); ok {
			return k, nil
		}
		return key{}, errors.New("it is a public key, and ssh-agent does not hold the private one")
	}
	info, err := os.Stat(name)
	if err != nil {
		return key{}, err
	}
	if info.Mode()&0o077 != 0 {
		return key{}, fmt.Errorf("others may read it (mode %04o): run chmod 600 %q", info.Mode().Perm(), name)
	}
	signer, err := ssh.ParsePrivateKey(b)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return c.unlock(name, b, locked.PublicKey, ask)
	}
	if err != nil {
		return key{}, err
	}
	return key{Signer: signer, from: name}, nil
}

func (c *collector) unlock(name string, b []byte, public ssh.PublicKey, ask func(string) ([]byte, error)) (key, error) {
	if public != nil {
		if k, ok := c.held(public); ok {
			return k, nil
		}
	}
	passphrase, err := ask(name)
	if err != nil {
		return key{}, err
	}
	defer clear(passphrase)
	signer, err := ssh.ParsePrivateKeyWithPassphrase(b, passphrase)
	if err != nil {
		return key{}, err
	}
	return key{Signer: signer, from: name}, nil
}

// held returns the agent's key for public.
func (c *collector) held(public ssh.PublicKey) (key, bool) {
	i := slices.IndexFunc(c.agent, func(k key) bool { return same(k.PublicKey(), public) })
	if i < 0 {
		return key{}, false
	}
	return c.agent[i], true
}

// A public half cannot sign.
type publicHalf struct {
	ssh.Signer
	public ssh.PublicKey
}

func (p publicHalf) PublicKey() ssh.PublicKey { return p.public }

// publicOf reads a public key, or that of a private one, which may be locked: the
// file tells, or a .pub beside it.
func publicOf(name string) (key, error) {
	b, err := readSmall(name)
	if err != nil {
		return key{}, err
	}
	var locked *ssh.PassphraseMissingError
	if signer, err := ssh.ParsePrivateKey(b); err == nil {
		return key{Signer: signer, from: name}, nil
	} else if errors.As(err, &locked) && locked.PublicKey != nil {
		return key{Signer: publicHalf{public: locked.PublicKey}, from: name}, nil
	}
	for _, candidate := range []string{name, name + ".pub"} {
		b, err := readSmall(candidate)
		if err != nil {
			continue
		}
		if public, comment, _, _, err := ssh.ParseAuthorizedKey(b); err == nil {
			return key{publicHalf{public: public}, name, oneLine(comment)}, nil
		}
	}
	return key{}, errors.New("neither a private nor a public key")
}
