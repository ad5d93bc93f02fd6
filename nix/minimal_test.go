package nix

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	edKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl alice@example.org"
	skKey = `no-pty,from="10.0.0.0/8, ssh-ed25519" sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIJ+s3Dm5nKJXjKsX1Ek2a5sPnDYLW1nLSYfMGPuUoGyXAAAABHNzaDo= "quoted ${name}"`
)

var minimals = map[string]Minimal{
	"uefi": {Host: "web1", UEFI: true, AuthorizedKeys: []string{edKey}, Release: "25.11.20251101.abcdef"},
	"bios": {Host: "old-1", BootDisk: "/dev/disk/by-id/ata-QEMU_HARDDISK_${x}", AuthorizedKeys: []string{edKey, skKey}},
}

func TestMinimalGolden(t *testing.T) {
	for name, m := range minimals {
		files, err := m.Files()
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", "minimal-"+name+".nix")
		if *update {
			if err := os.WriteFile(golden, files["configuration.nix"], 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(files["configuration.nix"]); got != string(want) || len(files) != 1 {
			t.Errorf("%s differs (go test -update writes it anew):\n%s", golden, got)
		}
	}
}

// TestMinimalEvaluates has Nix evaluate what was written.
func TestMinimalEvaluates(t *testing.T) {
	needs(t, "nix-instantiate")
	for name, m := range minimals {
		files, err := m.Files()
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		path := filepath.Join(dir, "configuration.nix")
		if err := os.WriteFile(path, files["configuration.nix"], 0o600); err != nil {
			t.Fatal(err)
		}
		var got struct {
			Host, State, Boot string
			Keys              []string
			Passwords         bool
		}
		eval(t, `let c = import `+path+` { lib = { mkDefault = x: x; }; config = { }; pkgs = { }; modulesPath = ""; }; in
			builtins.seq (map baseNameOf c.imports == [ "hardware-configuration.nix" ] || abort "imports") {
			Host = c.networking.hostName;
			State = c.system.stateVersion;
			Boot = if c.boot.loader ? grub then c.boot.loader.grub.device else "systemd-boot";
			Keys = c.users.users.root.openssh.authorizedKeys.keys;
			Passwords = c.services.openssh.settings.PasswordAuthentication;
		}`, &got)
		boot, state := m.BootDisk, "25.05"
		if m.UEFI {
			boot, state = "systemd-boot", "25.11"
		}
		if got.Host != m.Host || got.Boot != boot || got.State != state || got.Passwords ||
			strings.Join(got.Keys, "\n") != strings.Join(m.AuthorizedKeys, "\n") {
			t.Errorf("%s: nix read %+v of %+v", name, got, m)
		}
	}
}

func TestMinimalRefuses(t *testing.T) {
	good := minimals["uefi"]
	for name, c := range map[string]struct {
		change func(*Minimal)
		why    string
	}{
		"no name":        {func(m *Minimal) { m.Host = "" }, "not a host name"},
		"domain":         {func(m *Minimal) { m.Host = "web1.example.org" }, "not a host name"},
		"name with tail": {func(m *Minimal) { m.Host = "web1-" }, "not a host name"},
		"code in name":   {func(m *Minimal) { m.Host = "x\n}; evil" }, "not a host name"},
		"long name":      {func(m *Minimal) { m.Host = strings.Repeat("a", 64) }, "not a host name"},
		"no disk":        {func(m *Minimal) { m.UEFI = false }, "boot disk"},
		"no keys":        {func(m *Minimal) { m.AuthorizedKeys = nil }, "nobody could"},
		"two lines":      {func(m *Minimal) { m.AuthorizedKeys = []string{edKey + "\n" + edKey} }, "control characters"},
		"cut key":        {func(m *Minimal) { m.AuthorizedKeys = []string{"ssh-ed25519 AAAAC3Nz"} }, "not such a key"},
		"no blob":        {func(m *Minimal) { m.AuthorizedKeys = []string{"ssh-ed25519"} }, "no public key"},
		"wrong type":     {func(m *Minimal) { m.AuthorizedKeys = []string{strings.Replace(edKey, "ssh-ed25519", "ssh-rsa", 1)} }, "not such a key"},
		"comment line":   {func(m *Minimal) { m.AuthorizedKeys = []string{"# keys"} }, "no public key"},
	} {
		m := good
		c.change(&m)
		if _, err := m.Files(); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.why)
		}
	}
}

func FuzzCheckAuthorizedKey(f *testing.F) {
	f.Add(edKey)
	f.Add(skKey)
	f.Add("ssh-ed25519 /////w==")
	f.Fuzz(func(t *testing.T, line string) {
		if checkAuthorizedKey(line) == nil && strings.Contains(line, "\n") {
			t.Errorf("%q is more than a line", line)
		}
	})
}
