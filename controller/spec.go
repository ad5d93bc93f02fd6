package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"github.com/nixctl/nixctl/agent/facts"
	"github.com/nixctl/nixctl/controller/keystore"
	"github.com/nixctl/nixctl/controller/login"
	"github.com/nixctl/nixctl/controller/terminal"
	"github.com/nixctl/nixctl/install"
	"github.com/nixctl/nixctl/install/disk"
	"github.com/nixctl/nixctl/install/target"
	"github.com/nixctl/nixctl/nix"
	"golang.org/x/crypto/ssh"
)

// spec puts together what install.New needs: what the user wants, and what the
// machine is.
func (o *installOptions) spec(ctx context.Context, c *console, name string, f facts.Facts) (install.Spec, error) {
	s := install.Spec{Run: newRun(), Host: name, Machine: f, Wipe: o.Wipe, NoReboot: o.NoReboot}
	var err error
	if s.Layout, err = o.layout(f, s.Run); err != nil {
		return s, err
	}
	if s.Disk, err = disk.Find(f.Disks, o.Disk); err != nil {
		return s, err
	}
	if s.Host, s.System, err = o.system(ctx, c, name, s); err != nil {
		return s, err
	}
	if s.Extra, err = o.extraFiles(); err != nil {
		return s, err
	}
	return s, nil
}

// withSecrets returns the plan with what is asked of the user or made in the key
// store once the answer is yes: nothing of it is for a machine that is refused.
func (o *installOptions) withSecrets(ctx context.Context, c *console, s install.Spec) (*install.Plan, error) {
	var err error
	if o.Encrypt {
		if s.Passphrase, err = o.passphrase(ctx, c); err != nil {
			return nil, err
		}
	}
	if s.HostKey, s.HostPublic, err = hostKey(c, s.Host); err != nil {
		return nil, err
	}
	return install.New(s)
}

// layout reads the flags that shape the disk.
func (o *installOptions) layout(f facts.Facts, run string) (disk.Layout, error) {
	l := disk.Layout{FileSystem: disk.FileSystem(o.Layout), Encrypt: o.Encrypt, Firmware: disk.Firmware(f.Firmware), ID: run}
	switch l.FileSystem {
	case disk.Ext4, disk.Btrfs, disk.XFS:
	default:
		return l, fmt.Errorf("%w: --layout %q: want ext4, btrfs or xfs", errUsage, o.Layout)
	}
	switch o.Boot {
	case "auto":
	case "uefi", "bios":
		l.Firmware = disk.Firmware(o.Boot)
	default:
		return l, fmt.Errorf("%w: --boot %q: want auto, uefi or bios", errUsage, o.Boot)
	}
	var err error
	if o.Swap != "" {
		l.Swap, err = parseSize(o.Swap)
	}
	return l, err
}

// parseSize reads a size such as 512M or 4G, with powers of 1024.
func parseSize(s string) (int64, error) {
	units := map[byte]int64{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}
	number := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(s), "B"), "I")
	unit := int64(0)
	if number != "" {
		unit = units[number[len(number)-1]]
	}
	if unit != 0 {
		if n, err := strconv.ParseInt(number[:len(number)-1], 10, 64); err == nil && n > 0 && n <= math.MaxInt64/unit {
			return n * unit, nil
		}
	}
	return 0, fmt.Errorf("%w: %q is no size; write it like 512M or 4G", errUsage, s)
}

// system says what is to be installed, and under which name.
func (o *installOptions) system(ctx context.Context, c *console, name string, s install.Spec) (string, install.System, error) {
	switch {
	case o.Flake != "":
		return o.flake(ctx, c, name)
	case o.Config != "":
		tree, err := nix.ReadConfig(ctx, o.Config)
		if err != nil {
			return "", install.System{}, err
		}
		sys, err := uploaded(c, tree, "the configuration in "+o.Config, nix.Installation{Root: install.Root})
		return name, sys, err
	case o.System != "":
		sys, err := ready(ctx, o.System)
		return name, sys, err
	default:
		sys, err := o.minimal(ctx, c, name, s)
		return name, sys, err
	}
}

func (o *installOptions) flake(ctx context.Context, c *console, name string) (string, install.System, error) {
	ref, err := nix.ParseFlakeRef(o.Flake)
	if err != nil {
		return "", install.System{}, fmt.Errorf("%w: --flake: %w", errUsage, err)
	}
	host := or(ref.Name, name)
	in := nix.Installation{Root: install.Root, Host: host}
	if ref.URL != "" {
		in.Flake = ref.URL
		argv, err := in.Command()
		return host, install.System{Title: fmt.Sprintf("%s of flake %s, fetched by the machine", host, ref.URL), Command: argv}, err
	}
	tree, err := nix.ReadFlake(ctx, ref)
	if err != nil {
		return "", install.System{}, err
	}
	in.Flake = tree.FlakeRef(install.ConfigDir)
	sys, err := uploaded(c, tree, fmt.Sprintf("%s of the flake in %s", host, ref.Path), in)
	return host, sys, err
}

// uploaded is a system whose configuration is a folder of this workstation.
func uploaded(c *console, tree *nix.Tree, title string, in nix.Installation) (install.System, error) {
	argv, err := in.Command()
	if err != nil {
		return install.System{}, err
	}
	c.warn(tree.Untracked, "is not tracked by git and stays here")
	c.warn(tree.Submodules, "is a git submodule and stays here")
	c.warn(tree.Escaping, "is a symlink out of the folder")
	s := install.System{Title: fmt.Sprintf("%s, %d files, %s", title, len(tree.Files), terminal.Bytes(tree.Size())), Command: argv}
	for _, f := range tree.Files {
		s.Files = append(s.Files, target.File{Path: path.Join(install.ConfigDir, f.Name), Mode: f.Mode, Size: f.Size, Link: f.Link,
			Open: func() (io.ReadCloser, error) { return tree.Open(f) }})
	}
	return s, nil
}

// warn tells something about the first few of names.
func (c *console) warn(names []string, what string) {
	const shown = 5
	for _, n := range names[:min(shown, len(names))] {
		c.note("nixctl: %q %s", n, what)
	}
	if more := len(names) - shown; more > 0 {
		c.note("nixctl: so do %d more", more)
	}
}

// ready is a store path that is built already: in the store of this workstation, or
// in that of the machine.
func ready(ctx context.Context, ref string) (install.System, error) {
	p, err := nix.StorePath(ref)
	if err != nil {
		if !nix.IsStorePath(ref) {
			return install.System{}, fmt.Errorf("%w: --system: %w", errUsage, err)
		}
		p = ref
	}
	argv, err := nix.Installation{Root: install.Root, System: p}.Command()
	if err != nil {
		return install.System{}, err
	}
	s := install.System{Title: p, Command: argv, StorePath: p}
	if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) {
		s.Title += ", from the machine's own store"
		return s, nil
	}
	var local nix.Store
	if s.Architecture, err = local.SystemArchitecture(p); err != nil {
		return s, err
	}
	paths, err := local.Requisites(ctx, p)
	if err != nil {
		return s, err
	}
	sizes, err := local.Sizes(ctx, paths)
	if err != nil {
		return s, err
	}
	s.Closure = &install.Closure{Paths: paths, Sizes: sizes, Export: local.Export}
	s.Title += fmt.Sprintf(", %d store paths of this workstation, %s", len(paths), terminal.Bytes(s.Closure.Size()))
	return s, nil
}

// minimal writes the configuration of a user who has none.
func (o *installOptions) minimal(ctx context.Context, c *console, name string, s install.Spec) (install.System, error) {
	keys, err := o.authorizedKeys(c)
	if err != nil {
		return install.System{}, err
	}
	m := nix.Minimal{Host: name, UEFI: s.Layout.UEFI(), BootDisk: disk.NewPin(s.Disk).Path, AuthorizedKeys: keys, Release: s.Machine.NixOSVersion}
	files, err := m.Files()
	if err != nil {
		return install.System{}, err
	}
	argv, err := nix.Installation{Root: install.Root}.Command()
	if err != nil {
		return install.System{}, err
	}
	sys := install.System{Title: fmt.Sprintf("a minimal configuration: sshd, and root may log in with %d keys", len(keys)), Command: argv}
	for file, content := range files {
		sys.Files = append(sys.Files, install.Data(path.Join(install.ConfigDir, file), 0o644, content))
	}
	return sys, nil
}

// authorizedKeys lists who may log in to a host with the minimal configuration: those
// of the key store, else those that this user logs in with.
func (o *installOptions) authorizedKeys(c *console) ([]string, error) {
	store, err := keystore.Open(c.keys)
	if err != nil {
		return nil, err
	}
	keys, err := store.AuthorizedKeys()
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		if keys, err = login.PublicKeys(login.Config{Identities: o.Identity.Value(), KeyStore: c.keys}); err != nil {
			return nil, err
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("nobody could log in to the installed machine: there is no public key\nput yours into %s, or load it into ssh-agent", filepath.Join(c.keys, "authorized_keys"))
	}
	var lines []string
	for _, k := range keys {
		lines = append(lines, k.String())
	}
	return lines, nil
}

// hostKey returns the key pair of the installed host from the key store, where it is
// made if it is not there.
func hostKey(c *console, host string) (private, public []byte, err error) {
	store, err := keystore.Open(c.keys)
	if err != nil {
		return nil, nil, err
	}
	h, err := store.Host(host)
	if errors.Is(err, fs.ErrNotExist) {
		if h, err = store.New(host, false); err == nil {
			c.note("nixctl: made a host key for %q in the key store", host)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	private, err = store.PrivateKey(host)
	return private, ssh.MarshalAuthorizedKey(h.Key), err
}

// maxPassphrase bounds the passphrase: cryptsetup takes 512 characters
// interactively (cryptsetup(8)).
const maxPassphrase = 512

// passphrase reads the passphrase of the encrypted root, without its last newline.
func (o *installOptions) passphrase(ctx context.Context, c *console) ([]byte, error) {
	var secret []byte
	var err error
	switch o.PassphraseFile {
	case "":
		secret, err = c.askNewSecret(ctx, "passphrase of the encrypted root")
	case "-":
		secret, err = io.ReadAll(io.LimitReader(c.in, maxPassphrase+2))
	default:
		var file *os.File
		if file, err = os.Open(o.PassphraseFile); err == nil {
			secret, err = io.ReadAll(io.LimitReader(file, maxPassphrase+2))
			file.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the passphrase: %w", err)
	}
	secret = bytes.TrimSuffix(secret, []byte("\n"))
	switch {
	case len(secret) == 0:
		return nil, fmt.Errorf("%w: the passphrase is empty", errUsage)
	case len(secret) > maxPassphrase || bytes.ContainsFunc(secret, unicode.IsControl):
		return nil, fmt.Errorf("%w: the passphrase must be one line of at most %d bytes that can be typed", errUsage, maxPassphrase)
	}
	return secret, nil
}

// askNewSecret asks twice.
func (c *console) askNewSecret(ctx context.Context, what string) ([]byte, error) {
	first, err := c.askSecret(ctx, what)
	if err != nil {
		return nil, err
	}
	again, err := c.askSecret(ctx, "the same again")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, again) {
		return nil, errors.New("the two passphrases differ")
	}
	return first, nil
}
