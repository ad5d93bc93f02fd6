// Package login finds out how the user logs in to a machine: which keys are
// offered, in which order, and under which name.
//
// Keys come from -i files, ssh-agent, ~/.ssh/config, the usual files of ~/.ssh and
// the key store. Each is offered once, and a refusal says which ones were.
package login

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/nixctl/nixctl/controller/keystore"
	"golang.org/x/crypto/ssh"
)

// Config says where to look. Its zero value finds what OpenSSH would for root.
type Config struct {
	Host       string   // name that ~/.ssh/config may know
	Address    string   // looked up there too, after Host
	User       string   // empty: as ~/.ssh/config says, or else root
	Identities []string // private keys named by the user, or public keys that ssh-agent has
	KeyStore   string   // folder; empty: none
	Home       string   // empty: the user's
	Agent      string   // socket; empty: SSH_AUTH_SOCK

	// Ask reads a passphrase from the user; nil if nobody can be asked. It is called
	// for keys of Identities only.
	Ask func(ctx context.Context, prompt string) ([]byte, error)
}

// A Login is a way to log in. It stays valid, so that a lost connection can be
// dialled again; an agent is asked anew each time.
type Login struct {
	User      string
	Methods   []ssh.AuthMethod
	HostName  string   // of ~/.ssh/config; empty if it has none
	Port      string   // likewise
	ProxyJump string   // likewise; not used here
	Notes     []string // what was left out and why, for the user to know

	keys     []key
	keyStore string
	offered  atomic.Bool
}

// A key is offered to the machine.
type key struct {
	ssh.Signer
	from    string // for people: "ssh-agent (ann@laptop)", a file name
	comment string
}

func (k key) String() string { return ssh.FingerprintSHA256(k.PublicKey()) + " from " + k.from }

// New collects the keys. A key of cfg.Identities that is not usable is an error,
// any other one a note.
func New(ctx context.Context, cfg Config) (*Login, error) {
	c, err := newCollector(cfg)
	if err != nil {
		return nil, err
	}
	err = c.collect(func(name string) ([]byte, error) {
		if cfg.Ask == nil {
			return nil, fmt.Errorf("it has a passphrase: load it with ssh-add %q", name)
		}
		return cfg.Ask(ctx, fmt.Sprintf("passphrase of %q", name))
	})
	if err != nil {
		return nil, err
	}
	l := &Login{
		User: c.user, HostName: c.conf.get("HostName"), Port: c.conf.get("Port"), ProxyJump: c.conf.get("ProxyJump"),
		Notes: c.notes, keys: c.keys, keyStore: cfg.KeyStore,
	}
	l.Methods = []ssh.AuthMethod{ssh.PublicKeysCallback(l.signers)}
	return l, nil
}

func (l *Login) signers() ([]ssh.Signer, error) {
	l.offered.Store(true)
	signers := make([]ssh.Signer, len(l.keys))
	for i, k := range l.keys {
		signers[i] = k.Signer // not k, which hides how RSA keys sign
	}
	return signers, nil
}

// A RefusedError tells which keys were offered to a machine that took none.
type RefusedError struct {
	User    string
	Offered []string // fingerprint and where each comes from
	Notes   []string
	Advice  string
	Err     error
}

func (e *RefusedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "permission denied for %q: ", e.User)
	if len(e.Offered) == 0 {
		b.WriteString("there was no key to offer")
	} else {
		b.WriteString("offered " + strings.Join(e.Offered, ", "))
	}
	for _, n := range append(e.Notes, e.Advice) {
		b.WriteString("\n" + n)
	}
	return b.String()
}

// Unwrap returns what the SSH library said.
func (e *RefusedError) Unwrap() error { return e.Err }

// maxTries is how many keys sshd looks at by default, MaxAuthTries in sshd_config(5).
const maxTries = 6

// Explain makes a [*RefusedError] of err if it ended a login with the keys of l,
// and returns any other error as it is.
func (l *Login) Explain(err error) error {
	var network net.Error
	if err == nil || !l.offered.Load() || errors.As(err, &network) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	e := &RefusedError{User: l.User, Notes: l.Notes, Err: err}
	for _, k := range l.keys {
		e.Offered = append(e.Offered, k.String())
	}
	authorized := "the machine's authorized keys"
	if l.keyStore != "" {
		authorized = fmt.Sprintf("%q and make the ISO anew", filepath.Join(l.keyStore, "authorized_keys"))
	}
	e.Advice = "name the right key with -i, or add yours to " + authorized
	if len(l.keys) >= maxTries {
		e.Advice = fmt.Sprintf("the machine may have stopped after %d keys: name the right one with -i and set IdentitiesOnly in ~/.ssh/config", maxTries)
	}
	return e
}

// PublicKeys returns the public halves of the keys that [New] would offer, those
// with a passphrase included. Nobody is asked.
func PublicKeys(cfg Config) ([]keystore.AuthorizedKey, error) {
	c, err := newCollector(cfg)
	if err != nil {
		return nil, err
	}
	c.publicOnly = true
	if err := c.collect(nil); err != nil {
		return nil, err
	}
	var keys []keystore.AuthorizedKey
	for _, k := range c.keys {
		keys = append(keys, keystore.AuthorizedKey{Key: k.PublicKey(), Comment: k.comment, File: k.from})
	}
	return keys, nil
}

func same(a, b ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), b.Marshal()) }
