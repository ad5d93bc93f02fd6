// Package install turns a wanted host into a [Plan] and carries it out.
//
// A plan is data made by [New] from the facts of the machine and the wishes of the
// user, without touching the machine: what a dry run prints is what a run executes,
// and every refusal happens before the first write. [Plan.Run] carries it out on a
// [Machine] and reports each step as [Event] values.
package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nixctl/nixctl/agent/facts"
	"github.com/nixctl/nixctl/install/command"
	"github.com/nixctl/nixctl/install/disk"
	"github.com/nixctl/nixctl/install/target"
)

// Where things are on the machine during an installation.
const (
	Root      = "/mnt"           // the new system's root
	ConfigDir = "/mnt/etc/nixos" // its configuration
	HostKey   = "/mnt/etc/ssh/ssh_host_ed25519_key"
	hardware  = ConfigDir + "/hardware-configuration.nix"
)

// ErrUnfit is wrapped by every refusal that is about the machine and not about the
// disk, such as a wrong architecture or too little memory.
var ErrUnfit = errors.New("this machine does not fit")

// A Spec is what the user asked for, on which machine.
type Spec struct {
	Run     string      // id of this run, made of letters, digits and "_"
	Host    string      // the name of the host to be
	Machine facts.Facts // where it is to be installed
	Disk    facts.Disk  // on which of its disks
	Layout  disk.Layout
	Wipe    bool // what is on the disk may be destroyed

	System     System
	HostKey    []byte // private SSH host key of the installed host, in OpenSSH format
	HostPublic []byte // its public half, as an authorized_keys line
	Passphrase []byte // of the encrypted root; used if Layout.Encrypt
	Extra      []target.File
	NoReboot   bool
}

// A System says what is to be installed: a configuration that the machine builds,
// or a store path that is ready.
type System struct {
	Title        string   // for people: "flake .#web1", "a minimal configuration"
	Command      []string // the nixos-install command line
	Files        []target.File
	StorePath    string // of a ready system; empty if the machine builds it
	Architecture string // of the ready system, as Nix names it; empty if unknown
	Closure      *Closure
}

// A Closure is a ready system in the workstation's own store.
type Closure struct {
	Paths []string // each after those that it needs
	Sizes []int64  // of Paths, in bytes
	// Export writes the paths in the format of nix-store --export.
	Export func(ctx context.Context, paths []string, w io.Writer) error
}

// Size returns the bytes of all paths.
func (c *Closure) Size() int64 {
	var n int64
	for _, s := range c.Sizes {
		n += s
	}
	return n
}

// A Step is one thing that a plan does.
type Step struct {
	Name   string // short, lower case: "partition", "install system"
	Detail string // for people, what it is done to
	Action Action
}

// An Action is what a step does: a [Script], an [Upload], a [Send], a [Fetch] or a
// [Reboot].
type Action interface{ action() }

// A Script runs detached from the connection, as root, by a POSIX shell.
type Script struct{ Text string }

// An Upload writes files.
type Upload struct{ Files []target.File }

// A Send puts what is missing of a closure into the store below [Root].
type Send struct{ Closure *Closure }

// A Fetch reads a file of the machine, to be kept with the run's log as Name.
type Fetch struct{ Path, Name string }

// A Reboot restarts the machine and does not wait for it.
type Reboot struct{}

func (Script) action() {}
func (Upload) action() {}
func (Send) action()   {}
func (Fetch) action()  {}
func (Reboot) action() {}

// A Plan is the steps of one installation, in order.
type Plan struct {
	ID    string // of the run
	Host  string
	Disk  facts.Disk
	Pin   disk.Pin
	Spec  Spec
	Steps []Step
}

// New returns the plan for s, or the reason why s can't be installed: an error that
// wraps [disk.ErrRefused] or [ErrUnfit].
func New(s Spec) (*Plan, error) {
	if err := check(s); err != nil {
		return nil, err
	}
	if err := target.CheckFiles(uploads(s)); err != nil {
		return nil, fmt.Errorf("files to upload: %w", err)
	}
	pin := disk.NewPin(s.Disk)
	p := &Plan{ID: s.Run, Host: s.Host, Disk: s.Disk, Pin: pin, Spec: s}
	if s.Layout.Encrypt {
		p.add("send passphrase", "kept in memory on the machine until the disk is formatted", Upload{[]target.File{
			secret(p.passphrase(), s.Passphrase)}})
	}
	p.add(PrepareStep, s.Disk.Path+": "+s.Layout.String()+", mounted at "+Root, Script{disk.PrepareAndMount(pin, s.Layout, p.passphrase(), s.Wipe)})
	p.add("detect hardware", "nixos-generate-config", Script{detect(len(s.System.Files) > 0)})
	p.add("fetch hardware", "hardware-configuration.nix", Fetch{hardware, "hardware-configuration.nix"})
	p.add("upload", uploadDetail(s), Upload{uploads(s)})
	if s.System.Closure != nil {
		p.add("send system", fmt.Sprintf("%d store paths", len(s.System.Closure.Paths)), Send{s.System.Closure})
	}
	p.add("install system", s.System.Title+"; what it left is checked", Script{installScript(s.System.Command) + checkScript(s, p.systemFile())})
	p.add("fetch system", "the path of the installed system", Fetch{p.systemFile(), SystemFile})
	p.add("unmount", Root, Script{disk.Unmount(pin, s.Layout)})
	if !s.NoReboot {
		p.add("reboot", "into the installed system", Reboot{})
	}
	return p, nil
}

// Notes lists what a person should know about the plan before saying yes.
func (p *Plan) Notes() []string {
	var notes []string
	if p.Pin.Weak() {
		notes = append(notes, "the disk has neither a serial number nor a WWN: it is known again by its size and place only")
	}
	if p.Spec.Layout.Encrypt && p.Spec.Layout.Swap > 0 {
		notes = append(notes, "the swap partition is left empty; use it with randomEncryption in your configuration")
	}
	for _, f := range p.Spec.System.Files {
		if f.Path == hardware {
			notes = append(notes, "your hardware-configuration.nix is used; the one detected on this machine is kept with the run's log")
		}
	}
	if p.Spec.Machine.SecureBoot {
		notes = append(notes, "Secure Boot is on: the installed system must be signed for it, or it will not start")
	}
	if skew := time.Since(p.Spec.Machine.Clock).Abs(); !p.Spec.Machine.Clock.IsZero() && skew > time.Hour {
		notes = append(notes, fmt.Sprintf("the machine's clock is wrong by %s: fetching over HTTPS may fail", skew.Round(time.Minute)))
	}
	return notes
}

// PrepareStep is the name of the step that destroys what is on the disk. Before it
// nothing is written to one.
const PrepareStep = "prepare disk"

// SystemFile is the name under which a [Fetch] keeps the store path of the system
// that was installed.
const SystemFile = "system"

func (p *Plan) add(name, detail string, a Action) {
	p.Steps = append(p.Steps, Step{Name: name, Detail: detail, Action: a})
}

func (p *Plan) dir() string        { return "/run/nixctl/" + p.ID }
func (p *Plan) passphrase() string { return p.dir() + "/passphrase" }
func (p *Plan) systemFile() string { return p.dir() + "/" + SystemFile }

// A Machine carries out actions. Package target has the one that works over SSH.
type Machine interface {
	Run(ctx context.Context, job target.Job, out func(line string)) error
	Upload(ctx context.Context, files []target.File, progress func(done, total int64)) error
	Output(ctx context.Context, c command.Command) ([]byte, error)
	Pipe(ctx context.Context, c command.Command, stdin io.Reader, out func(line string)) error
	ReadFile(ctx context.Context, path string, max int64) ([]byte, error)
	Reboot(ctx context.Context) error
}

var _ Machine = (*target.Target)(nil)
