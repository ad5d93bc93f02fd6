package install

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/nixctl/nixctl/install/command"
	"github.com/nixctl/nixctl/install/target"
)

// environment makes a unit's shell see what a login shell of NixOS sees, NIX_PATH
// above all.
const environment = "if [ -r /etc/set-environment ]; then . /etc/set-environment; fi\n"

// detect writes hardware-configuration.nix. The configuration.nix that comes with
// it is dropped if the user brings one.
func detect(own bool) string {
	s := "set -eu\n" + environment + "nixos-generate-config --root " + Root + "\n"
	if own {
		s += "rm -f " + ConfigDir + "/configuration.nix\n"
	}
	return s
}

func installScript(argv []string) string {
	return "set -eu\n" + environment + command.New(argv...).String() + "\n"
}

// checkScript is run after installScript. It looks at what nixos-install left, while the installer still runs: a
// machine that would not boot is better found here. It leaves the path of the
// installed system in file.
func checkScript(s Spec, file string) string {
	profile := Root + "/nix/var/nix/profiles/system"
	b := &strings.Builder{}
	b.WriteString(`fail() { echo "check: $1" >&2; exit 1; }
link=$(readlink ` + profile + `) || fail "no system profile was made"
case $link in /*) system=$link ;; *) system=$(readlink "` + Root + `/nix/var/nix/profiles/$link") ;; esac
for f in init kernel initrd; do
  t=$(readlink "` + Root + `$system/$f" || echo "$system/$f")
  [ -e "` + Root + `$t" ] || fail "$system has no $f"
done
[ "$(stat -c %a:%u ` + HostKey + `)" = 600:0 ] || fail "the host key is not private to root"
`)
	if s.System.StorePath != "" {
		fmt.Fprintf(b, "[ \"$system\" = %s ] || fail \"the profile holds $system\"\n", command.Quote(s.System.StorePath))
	}
	if s.Layout.UEFI() {
		fmt.Fprintf(b, "[ -n \"$(find %s/boot -iname '*.efi' -print -quit)\" ] || fail \"no boot loader on the EFI system partition\"\n", Root)
	} else {
		fmt.Fprintf(b, "[ -e %[1]s/boot/grub/grub.cfg ] || [ -e %[1]s/boot/extlinux/extlinux.conf ] || fail \"no boot loader in /boot\"\n", Root)
	}
	fmt.Fprintf(b, "printf %%s \"$system\" > %s\necho \"installed $system\"\n", file)
	return b.String()
}

// uploads lists what goes to the new root: configuration, host key, extra files.
func uploads(s Spec) []target.File {
	files := append([]target.File(nil), s.System.Files...)
	files = append(files, secret(HostKey, s.HostKey), Data(HostKey+".pub", 0o644, s.HostPublic))
	return append(files, s.Extra...)
}

func uploadDetail(s Spec) string {
	d := "host key"
	if n := len(s.System.Files); n > 0 {
		d = fmt.Sprintf("%d files of the configuration, host key", n)
	}
	if n := len(s.Extra); n > 0 {
		d += fmt.Sprintf(", %d extra files", n)
	}
	return d
}

func secret(path string, content []byte) target.File { return Data(path, 0o600, content) }

// Data returns a file to upload, owned by root, whose content is in memory.
func Data(path string, mode fs.FileMode, content []byte) target.File {
	return target.File{Path: path, Mode: mode, Size: int64(len(content)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }}
}
