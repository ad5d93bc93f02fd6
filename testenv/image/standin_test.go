package image

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A bench runs the stand-ins on this machine. The programs that would change it
// are replaced by ones that note how they were called.
type bench struct {
	t    *testing.T
	root string // --root, readable for all
	bin  string
	log  string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("needs bash")
	}
	dir := t.TempDir()
	b := &bench{t, filepath.Join(dir, "mnt"), filepath.Join(dir, "bin"), filepath.Join(dir, "log")}
	for at := dir; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(b.root, "etc/nixos/configuration.nix"), "{ }")
	write(t, filepath.Join(b.root, "flake/flake.nix"), "{ }")
	for _, name := range []string{"nix", "nix-build", "nix-env", "nixos-enter"} {
		// --out-link is where the script looks for the result
		script(t, filepath.Join(b.bin, name), fmt.Sprintf(`#!/bin/bash
echo "%s $*" >>%s
while [ $# -gt 1 ]; do [ "$1" != --out-link ] || ln -s /nix/store/built "$2"; shift; done
`, name, b.log))
	}
	script(t, filepath.Join(b.bin, "udevadm"), "#!/bin/sh\n")
	return b
}

// script writes a program.
func script(t *testing.T, name, text string) {
	t.Helper()
	write(t, name, text)
	if err := os.Chmod(name, 0o755); err != nil {
		t.Fatal(err)
	}
}

// run returns the exit code, what was printed, and the calls of other programs,
// with the root's own path as ROOT.
func (b *bench) run(script string, args ...string) (code int, said, calls string) {
	b.t.Helper()
	cmd := exec.Command("bash", append([]string{"guest/root/usr/local/bin/" + script}, args...)...)
	cmd.Env = []string{"PATH=" + b.bin + ":" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	log, err := os.ReadFile(b.log)
	if err != nil && !os.IsNotExist(err) {
		b.t.Fatal(err)
	}
	if err := os.RemoveAll(b.log); err != nil {
		b.t.Fatal(err)
	}
	plain := strings.NewReplacer(b.root, "ROOT")
	return cmd.ProcessState.ExitCode(), plain.Replace(string(out)), plain.Replace(string(log))
}

func TestNixosInstallRefusals(t *testing.T) {
	b := newBench(t)
	private := filepath.Join(b.root, "private")
	if err := os.Mkdir(private, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--bogus"}, "unknown option `--bogus'"},
		{[]string{"--root", b.root + "/none"}, "mount point ROOT/none doesn't exist"},
		{[]string{"--root", private}, "path ROOT/private should have permissions 755, but had permissions 750. Consider running 'chmod o+rx ROOT/private'."},
		{[]string{"--root", b.root + "/etc"}, "configuration file ROOT/etc/etc/nixos/configuration.nix doesn't exist"},
		{[]string{"--root", b.root, "--flake", b.root + "/flake"}, "Please specify the name of the NixOS configuration to be installed"},
		{[]string{"--root", b.root, "--flake", b.root + "/flake#"}, "as a URI fragment in the flake-uri"},
		{[]string{"--root", b.root, "--file", b.root + "/none.nix"}, "file ROOT/none.nix doesn't exist"},
		{[]string{"--flake"}, "requires 1 argument"},
		{[]string{"--option", "cores"}, "requires 2 argument"},
	} {
		code, said, calls := b.run("nixos-install", tc.args...)
		if code != 1 || !strings.Contains(said, tc.want) || calls != "" {
			t.Errorf("%q: exit %d, said %q, called %q; want exit 1, %q and no call", tc.args, code, said, calls, tc.want)
		}
	}
}

func TestNixosInstall(t *testing.T) {
	const (
		profile = "nix-env --store ROOT --extra-substituters auto?trusted=1 -p ROOT/nix/var/nix/profiles/system --set "
		enter   = "nixos-enter --root ROOT -c /run/current-system/bin/switch-to-configuration boot\n"
	)
	for _, tc := range []struct {
		args  string
		said  string
		calls string
	}{
		{"", "building the configuration in ROOT/etc/nixos/configuration.nix...\ninstalling the boot loader...\ninstallation finished!\n",
			"nix-build --out-link TMP/system --store ROOT --extra-substituters auto?trusted=1 <nixpkgs/nixos> -A system -I nixos-config=ROOT/etc/nixos/configuration.nix\n" +
				profile + "/nix/store/built\n" + enter},
		{"--flake ROOT/flake#web --no-write-lock-file -v --impure", "building the flake in ROOT/flake...\ninstalling the boot loader...\ninstallation finished!\n",
			`nix --extra-experimental-features nix-command flakes build ROOT/flake#nixosConfigurations."web".config.system.build.toplevel ` +
				"--store ROOT --extra-substituters auto?trusted=1 -v --impure --no-write-lock-file --out-link TMP/system\n" +
				"nix-env --store ROOT --impure --extra-substituters auto?trusted=1 -p ROOT/nix/var/nix/profiles/system --set /nix/store/built -v\n" + enter},
		{"--system /nix/store/ready --no-bootloader", "installation finished!\n", profile + "/nix/store/ready\n"},
		{"--file ROOT/flake/flake.nix --attr hosts.web", "building the configuration in ROOT/flake/flake.nix...\ninstalling the boot loader...\ninstallation finished!\n",
			"nix-build --out-link TMP/system --store ROOT --extra-substituters auto?trusted=1 ROOT/flake/flake.nix -A hosts.web.config.system.build.toplevel\n" +
				profile + "/nix/store/built\n" + enter},
		{"--system /nix/store/ready -j 2 --cores 1 -I a=b --substituters s --option o v --no-root-passwd --no-root-password --no-channel-copy --no-bootloader " +
			"--closure /nix/store/last --recreate-lock-file --no-update-lock-file --no-registries --commit-lock-file --update-input i --override-input i u " +
			"--show-trace --keep-going --verbose --channel c", "installation finished!\n",
			"nix-env --store ROOT -j 2 --cores 1 -I a=b --substituters s --option o v --show-trace --keep-going --extra-substituters auto?trusted=1 " +
				"-p ROOT/nix/var/nix/profiles/system --set /nix/store/last --verbose\n"},
	} {
		b := newBench(t)
		args := strings.Fields(strings.ReplaceAll(tc.args, "ROOT", b.root))
		code, said, calls := b.run("nixos-install", append([]string{"--root", b.root}, args...)...)
		calls = tmpName(calls)
		if code != 0 || said != tc.said || calls != tc.calls {
			t.Errorf("%q: exit %d\nsaid  %q\nwant  %q\ncalls %s\nwant  %s", tc.args, code, said, tc.said, calls, tc.calls)
		}
		if _, err := os.Stat(filepath.Join(b.root, "etc/NIXOS")); err != nil {
			t.Errorf("%q: %v", tc.args, err)
		}
		if left, err := filepath.Glob(filepath.Join(b.root, "tmp.*")); err != nil || len(left) > 0 {
			t.Errorf("%q: left behind %q, %v", tc.args, left, err)
		}
	}
}

// tmpName replaces the random folder that nixos-install works in.
func tmpName(calls string) string {
	before, after, ok := strings.Cut(calls, "ROOT/tmp.")
	if !ok {
		return calls
	}
	return before + "TMP" + after[strings.Index(after, "/"):]
}

// TestNixosInstallFails checks that nothing is said to be finished when nix
// fails.
func TestNixosInstallFails(t *testing.T) {
	for program, want := range map[string]string{"nix-build": "building", "nix-env": "building", "nixos-enter": "boot loader"} {
		b := newBench(t)
		write(t, filepath.Join(b.bin, program), "#!/bin/sh\necho No space left on device >&2\nexit 1\n")
		code, said, _ := b.run("nixos-install", "--root", b.root)
		if code != 1 || !strings.Contains(said, want) || !strings.Contains(said, "No space left") || strings.Contains(said, "finished") {
			t.Errorf("%s fails: exit %d, %q", program, code, said)
		}
	}
}

func TestNixosEnter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	b := newBench(t)
	if code, said, _ := b.run("nixos-enter", "--bogus"); code != 1 || !strings.Contains(said, "unknown option") {
		t.Errorf("exit %d, %q", code, said)
	}
	if code, said, _ := b.run("nixos-enter", "--root", b.root, "-c", "true"); code != 126 || !strings.Contains(said, "‘ROOT’ is not a NixOS installation") {
		t.Errorf("without etc/NIXOS: exit %d, %q", code, said)
	}

	// a system of busybox alone
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox (static)")
	}
	system := filepath.Join(b.root, "nix/var/nix/profiles/system")
	if err := copyFile(busybox, filepath.Join(system, "sw/bin/busybox"), 0o755); err != nil {
		t.Fatal(err)
	}
	const shell = "/nix/var/nix/profiles/system/sw/bin/busybox sh"
	write(t, filepath.Join(b.root, "etc/NIXOS"), "")
	script(t, filepath.Join(system, "sw/bin/bash"), "#!"+shell+"\nexec "+shell+` "$@"`)
	script(t, filepath.Join(system, "activate"), "#!"+shell+"\necho activated $IN_NIXOS_ENTER\n")
	for _, tc := range []struct {
		args []string
		code int
		said string
	}{
		{[]string{"-c", "echo in $0; [ -e /etc/NIXOS ] && [ -c /dev/null ] || exit 1"}, 0, "activated 1\nin"},
		{[]string{"--silent", "--command", "exit 7"}, 7, ""},
		{[]string{"--silent", "--", "/nix/var/nix/profiles/system/sw/bin/busybox", "echo", "a  b"}, 0, "a  b\n"},
	} {
		code, said, _ := b.run("nixos-enter", append([]string{"--root", b.root}, tc.args...)...)
		if code != tc.code || !strings.HasPrefix(said, tc.said) || (tc.said == "" && said != "") {
			t.Errorf("%q: exit %d, %q; want %d, %q", tc.args, code, said, tc.code, tc.said)
		}
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), b.root) {
		t.Errorf("mounts stay behind: %v", err)
	}
}

func TestNixosGenerateConfig(t *testing.T) {
	b := newBench(t)
	root := filepath.Join(b.root, "new")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	written := "writing ROOT/new/etc/nixos/hardware-configuration.nix...\n"
	for _, tc := range []struct {
		args []string
		code int
		said string
	}{
		{[]string{"--bogus"}, 1, "unrecognized argument ‘--bogus’"},
		{nil, 0, written + "writing ROOT/new/etc/nixos/configuration.nix...\nFor more hardware-specific settings"},
		{nil, 0, written + "warning: not overwriting existing ROOT/new/etc/nixos/configuration.nix\n"},
		{[]string{"--force"}, 0, written + "writing ROOT/new/etc/nixos/configuration.nix...\n"},
		{[]string{"--flake"}, 0, written + "writing ROOT/new/etc/nixos/flake.nix...\nwarning: not overwriting existing"},
		{[]string{"--dir", "/conf"}, 0, "writing ROOT/new/conf/hardware-configuration.nix...\n"},
		{[]string{"--show-hardware-config"}, 0, "# Do not modify this file!"},
	} {
		code, said, _ := b.run("nixos-generate-config", append([]string{"--root", root}, tc.args...)...)
		if code != tc.code || !strings.Contains(said, tc.said) {
			t.Errorf("%q: exit %d, %q; want %d, %q", tc.args, code, said, tc.code, tc.said)
		}
	}
	_, all, _ := b.run("nixos-generate-config", "--root", root, "--show-hardware-config")
	_, few, _ := b.run("nixos-generate-config", "--root", root, "--show-hardware-config", "--no-filesystems")
	if !strings.Contains(all, "swapDevices") || strings.Contains(few, "swapDevices") {
		t.Errorf("--no-filesystems: %q and %q", all, few)
	}
}
