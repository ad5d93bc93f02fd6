package controller

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/nixctl/nixctl/controller/login"
	"github.com/nixctl/nixctl/controller/terminal"
	"github.com/nixctl/nixctl/discovery"
	"github.com/nixctl/nixctl/discovery/survey"
	"github.com/nixctl/nixctl/discovery/verify"
	"github.com/nixctl/nixctl/install"
	"github.com/nixctl/nixctl/install/command"
	"golang.org/x/crypto/ssh"
)

// A Proof is the evidence that the host is up and is the one that was installed. It
// is part of the result of "install --json".
type Proof struct {
	Host     string  `json:"host"`
	Address  string  `json:"address"`  // where it answers now
	HostKey  string  `json:"host_key"` // the fingerprint it proved
	BootID   string  `json:"boot_id"`  // differs from that of the installer
	System   string  `json:"system"`   // /run/current-system, and what was installed
	Seconds  float64 `json:"seconds"`  // from the reboot to the proof
	KnownAs  string  `json:"known_hosts"`
	LoginCmd string  `json:"login"`
}

const (
	searchEvery = 4 * time.Second // between searches for a machine that reboots
	knockEvery  = 2 * time.Second // between tries of its old address
)

// prove waits until the machine is found again, by every source and at whatever
// address, and runs what was installed.
func (o *installOptions) prove(ctx context.Context, c *console, p *progress, plan *install.Plan, m *reached, j *journal) (*Proof, error) {
	key, _, _, _, err := ssh.ParseAuthorizedKey(plan.Spec.HostPublic)
	if err != nil {
		return nil, fmt.Errorf("read the public key of %q: %w", plan.Host, err)
	}
	began := time.Now()
	w := &witness{
		plan: plan, opts: o, console: c, login: m.login,
		identity: verify.Identity{Name: plan.Host, Key: key},
		system:   strings.TrimSpace(string(j.kept[install.SystemFile])),
	}
	p.stage("waiting up to %s for %s to come up", terminal.Duration(o.Wait), plan.Host)
	wctx, cancel := context.WithTimeout(ctx, o.Wait)
	defer cancel()
	inst, boot, err := w.wait(wctx, m.Installer.Addr())
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w\nits screen or serial console tells more; the run's log: nixctl logs %s", errNoBoot, err, plan.Host)
	}
	proof := &Proof{Host: plan.Host, Address: inst.Addr().Addr().String(), HostKey: ssh.FingerprintSHA256(inst.Key()),
		BootID: boot, System: w.system, Seconds: time.Since(began).Seconds()}
	j.Report(install.Event{Time: time.Now(), Kind: install.Proved, Step: len(plan.Steps) + 1, Name: "prove",
		Line: fmt.Sprintf("%s runs %s at %s", plan.Host, proof.System, proof.Address), Seconds: proof.Seconds})
	if err := o.welcome(c, p, proof, inst); err != nil {
		c.note("nixctl: %v", err)
	}
	return proof, nil
}

// A witness looks for the installed system.
type witness struct {
	*console
	plan     *install.Plan
	login    *login.Login // as at the installer: nobody may be there to be asked again
	opts     *installOptions
	identity verify.Identity
	system   string // the store path that must run
	last     error  // why the last machine that answered is not the proof
}

// wait returns the machine once it is proved, and its boot id.
func (w *witness) wait(ctx context.Context, old netip.AddrPort) (*verify.Installer, string, error) {
	w.last = errors.New("nothing answered with its host key")
	tried := time.Time{}
	for {
		if inst := w.knock(ctx, old); inst != nil {
			if boot, ok := w.examine(ctx, inst); ok {
				return inst, boot, nil
			}
		}
		if time.Since(tried) > searchEvery {
			tried = time.Now()
			for _, inst := range w.search(ctx, old) {
				if boot, ok := w.examine(ctx, inst); ok {
					return inst, boot, nil
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil, "", w.last
		case <-time.After(knockEvery):
		}
	}
}

// knock tries one address.
func (w *witness) knock(ctx context.Context, addr netip.AddrPort) *verify.Installer {
	v := newVerifier([]verify.Identity{w.identity})
	v.Timeout = 5 * time.Second
	inst, err := v.Verify(ctx, discovery.Candidate{Addr: addr, Route: discovery.LAN})
	if errors.Is(err, verify.ErrKeyMismatch) {
		w.last = err
	}
	return inst
}

// search looks everywhere else.
func (w *witness) search(ctx context.Context, old netip.AddrPort) []*verify.Installer {
	s, err := w.opts.survey(w.console, []verify.Identity{w.identity})
	if err != nil {
		w.last = err
		return nil
	}
	machines := make(map[int]survey.Machine)
	s.Run(ctx, func(m survey.Machine) { machines[m.ID] = m }) // what one source can't see another may
	var found []*verify.Installer
	for _, m := range machines {
		if m.Verified() && m.Installer.Addr() != old && (m.MAC == "" || hasMAC(w.plan.Spec.Machine, m.MAC)) {
			found = append(found, m.Installer)
		}
	}
	return found
}

// examine logs in to a machine with the right host key and looks at what it runs.
func (w *witness) examine(ctx context.Context, inst *verify.Installer) (boot string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	t, err := connect(ctx, inst, w.login)
	if err != nil {
		w.last = fmt.Errorf("%s answers with the host key of %q, but logging in to look at it went wrong: %w", inst.Addr(), w.plan.Host, err)
		return "", false
	}
	defer t.Close()
	f, err := inspectBoot(ctx, t)
	before := w.plan.Spec.Machine
	switch {
	case err != nil:
		w.last = fmt.Errorf("ask %s what it runs: %w", inst.Addr(), err)
	case f.bootID == before.BootID:
		w.last = fmt.Errorf("%s has not been restarted yet", inst.Addr())
	case f.system != w.system:
		w.last = fmt.Errorf("%s was restarted and runs %q, but %q was installed; did it boot from another disk?", inst.Addr(), f.system, w.system)
	default:
		return f.bootID, true
	}
	return "", false
}

// welcome tells the user how to log in and writes known_hosts.
func (o *installOptions) welcome(c *console, p *progress, proof *Proof, inst *verify.Installer) error {
	file, err := remember(proof.Host, inst.Addr(), inst.Key())
	proof.KnownAs = file
	login := []string{"ssh", "-o", "UserKnownHostsFile=" + file}
	if p := inst.Addr().Port(); p != 22 {
		login = append(login, "-p", strconv.Itoa(int(p)))
	}
	proof.LoginCmd = command.New(append(login, "root@"+proof.Address)...).String()
	p.stage("proved: %s runs %s at %s, with its own host key, %s after the reboot\nlog in: nixctl ssh %s\n    or: %s",
		proof.Host, proof.System, proof.Address, seconds(proof.Seconds), proof.Host, proof.LoginCmd)
	return err
}
