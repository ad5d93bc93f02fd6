package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nixctl/nixctl/controller/terminal"
	"github.com/nixctl/nixctl/discovery/beacon"
	"github.com/nixctl/nixctl/discovery/oui"
	"github.com/nixctl/nixctl/discovery/survey"
	"github.com/nixctl/nixctl/discovery/words"
	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"
)

// With --watch a sweep starts every watchEvery, and a machine that three of them did
// not see is gone.
const (
	watchEvery  = 15 * time.Second
	watchExpire = 3*watchEvery + 5*time.Second
)

type discoverOptions struct {
	findOptions
	All  bool
	JSON bool
}

func discoverCommand(c *console) *cli.Command {
	var o discoverOptions
	return &cli.Command{
		Name:  "discover",
		Usage: "list booted installers and prove who they are",
		Description: `Looks for SSH servers on the networks of this workstation, by ARP and mDNS at once,
and has each prove its host key. Machines whose key is in the key store are listed by
name. Nobody is logged in to.

The four words are made from the host key: the machine's own screen shows the same.

Exit codes: 0 found; 1 failed; 2 usage; 3 nothing found; 130 interrupted.`,
		Flags: append(o.flags(),
			&cli.BoolFlag{Name: "watch", Usage: "go on looking and show what comes and goes", Destination: &o.watch},
			&cli.BoolFlag{Name: "all", Usage: "list machines that are not verified too", Destination: &o.All},
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object a machine and line", Destination: &o.JSON},
		),
		Action: func(ctx *cli.Context) error {
			if _, err := arguments(ctx, 0, 0); err != nil {
				return err
			}
			return discover(ctx.Context, c, &o)
		},
	}
}

func discover(ctx context.Context, c *console, o *discoverOptions) error {
	ids, err := o.identities(c, "")
	if err != nil {
		return err
	}
	s, err := o.survey(c, ids)
	if err != nil {
		return err
	}
	if o.watch {
		s.Timeout, s.Expire = 0, watchExpire
	}
	view := newRoster(c, o)
	stop := view.tick()
	srcErr := s.Run(ctx, view.update)
	stop()
	view.finish()
	if err := ctx.Err(); err != nil {
		return err
	}
	if srcErr != nil {
		c.note("nixctl: %v", srcErr)
	}
	if view.shown() == 0 && !o.watch {
		return nothing(c, view, len(ids))
	}
	return nil
}

// nothing explains an empty list.
func nothing(c *console, view *roster, identities int) error {
	var hints []string
	switch others := len(view.machines); {
	case identities == 0:
		hints = append(hints, fmt.Sprintf("the key store %q has no host yet: nixctl keys new NAME", c.keys))
	case others > 0:
		hints = append(hints, fmt.Sprintf("%d SSH servers answered with keys that are not in the key store: nixctl discover --all", others))
	}
	hints = append(hints,
		"is the installer booted? its screen shows its address and key",
		"is it on the same network as this workstation? try --interface, --cidr or a longer --timeout")
	return fmt.Errorf("%w: no verified installer\n%s", errNotFound, strings.Join(hints, "\n"))
}

// A roster is the list of machines as it is shown.
type roster struct {
	*console
	o        *discoverOptions
	machines map[int]survey.Machine
	words    map[string]string // by fingerprint: they are slow to compute
	live     *terminal.Live

	mu      sync.Mutex // for all of it, with tick and settled
	changed map[int]int
	printed map[int]bool
}

// settle is how long a machine stays as it is before --json prints it: what other
// sources know of it comes within that time.
const settle = 100 * time.Millisecond

func newRoster(c *console, o *discoverOptions) *roster {
	r := &roster{console: c, o: o, machines: make(map[int]survey.Machine), words: make(map[string]string),
		changed: make(map[int]int), printed: make(map[int]bool)}
	if !o.JSON {
		r.live = c.live(c.out)
	}
	return r
}

// tick redraws a live table each second, so that its last column is true, until stop
// is called.
func (r *roster) tick() (stop func()) {
	if r.live == nil {
		return func() {}
	}
	t, end := time.NewTicker(time.Second), make(chan struct{})
	go func() {
		defer t.Stop()
		for {
			select {
			case <-t.C:
				r.mu.Lock()
				r.draw()
				r.mu.Unlock()
			case <-end:
				return
			}
		}
	}()
	return func() { close(end) }
}

func (r *roster) draw() { r.live.Set(r.lines(r.live.Screen())) }

// update takes in what the survey tells of a machine.
func (r *roster) update(m survey.Machine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, known := r.machines[m.ID]
	r.machines[m.ID] = m
	switch {
	case m.Gone:
		delete(r.machines, m.ID)
	case known && same(old, m):
		return
	}
	switch {
	case r.live != nil:
		r.draw()
	case r.o.watch && (r.wanted(m) || known && r.wanted(old)): // that it lost its mark is news too
		r.print(m)
	case r.o.JSON && r.wanted(m):
		r.changed[m.ID]++
		state := r.changed[m.ID]
		time.AfterFunc(settle, func() { r.settled(m, state) })
	}
}

// settled prints a machine about which nothing has changed since state.
func (r *roster) settled(m survey.Machine, state int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed[m.ID] == state && !m.Pending && !r.printed[m.ID] {
		r.printed[m.ID] = true
		r.print(m)
	}
}

// same reports whether two states of a machine look alike, apart from when it was
// last seen.
func same(a, b survey.Machine) bool {
	return a.MAC == b.MAC && a.Claim == b.Claim && a.Verified() == b.Verified() &&
		slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Via, b.Via)
}

func (r *roster) wanted(m survey.Machine) bool { return m.Verified() || r.o.All }

func (r *roster) shown() int { return len(r.sorted()) }

// sorted lists the wanted machines: verified first, by name and address.
func (r *roster) sorted() []survey.Machine {
	var list []survey.Machine
	for _, m := range r.machines {
		if r.wanted(m) {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b survey.Machine) int {
		if a.Verified() != b.Verified() {
			if a.Verified() {
				return -1
			}
			return 1
		}
		if d := strings.Compare(machineName(a), machineName(b)); d != 0 {
			return d
		}
		return a.Addresses[0].Compare(b.Addresses[0])
	})
	return list
}

// finish prints what was not printed while it was found.
func (r *roster) finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live != nil {
		lines := r.lines(r.live.Screen())
		r.live.Close()
		r.live.Print(lines...)
		return
	}
	if r.o.watch {
		return
	}
	if r.o.JSON {
		for _, m := range r.sorted() {
			if !r.printed[m.ID] {
				r.printed[m.ID] = true
				r.print(m)
			}
		}
		return
	}
	for _, l := range r.lines(terminal.Screen{}) {
		fmt.Fprintln(r.out, l)
	}
}

// print prints one machine on a line of its own.
func (r *roster) print(m survey.Machine) {
	if r.o.JSON {
		b, err := json.Marshal(r.row(m))
		if err == nil {
			fmt.Fprintf(r.out, "%s\n", b)
		}
		return
	}
	sign := "+"
	if m.Gone {
		sign = "-"
	}
	fmt.Fprintln(r.out, sign, strings.Join(r.cells(m), "  "))
}

// A row is what --json prints of a machine.
type row struct {
	Name      string        `json:"name"`
	Verified  bool          `json:"verified"`
	HostKey   string        `json:"host_key"`
	Words     string        `json:"words"`
	Addresses []string      `json:"addresses"`
	MAC       string        `json:"mac"`
	Vendor    string        `json:"vendor"`
	Via       []string      `json:"via"`
	RTT       float64       `json:"rtt_ms"`
	Claim     *beacon.Claim `json:"claim"`
	Gone      bool          `json:"gone,omitempty"`
}

func (r *roster) row(m survey.Machine) row {
	out := row{Name: machineName(m), Verified: m.Verified(), HostKey: ssh.FingerprintSHA256(m.Key), Words: r.wordsOf(m),
		Addresses: addresses(m), MAC: m.MAC, Vendor: oui.Vendor(m.MAC), Via: m.Via,
		RTT: float64(m.RTT.Microseconds()) / 1000, Gone: m.Gone}
	if m.Claim != (beacon.Claim{}) {
		out.Claim = &m.Claim
	}
	return out
}

func (r *roster) wordsOf(m survey.Machine) string {
	f := ssh.FingerprintSHA256(m.Key)
	if r.words[f] == "" {
		r.words[f] = words.Of(f)
	}
	return r.words[f]
}

// lines is the table as it fits on the screen.
func (r *roster) lines(screen terminal.Screen) []string {
	table := terminal.Table{Header: []string{"NAME", "IDENTITY", "WORDS", "ADDRESS", "MAC", "VIA", "SEEN"}, Width: screen.Width, Color: screen.Colour}
	for _, m := range r.sorted() {
		table.Add(r.cells(m)...)
	}
	lines := table.Lines()
	if len(lines) == 1 {
		lines = nil
	}
	if r.live != nil {
		lines = append(lines, r.summary())
	}
	return lines
}

func (r *roster) summary() string {
	verified := 0
	for _, m := range r.machines {
		if m.Verified() {
			verified++
		}
	}
	s := fmt.Sprintf("%d verified", verified)
	if n := len(r.machines) - verified; n > 0 {
		s += fmt.Sprintf(", %d with other keys", n)
		if !r.o.All {
			s += " (--all shows them)"
		}
	}
	if r.o.watch {
		s += ", watching"
	}
	return s
}

// cells is a machine's line of the table.
func (r *roster) cells(m survey.Machine) []string {
	mark := "verified"
	if !m.Verified() {
		mark = "UNVERIFIED " + ssh.FingerprintSHA256(m.Key)
	}
	mac := m.MAC
	if v := oui.Vendor(mac); v != "" {
		mac += " (" + v + ")"
	}
	return []string{machineName(m), mark, r.wordsOf(m), strings.Join(addresses(m), " "), mac, strings.Join(m.Via, ","),
		terminal.Duration(time.Since(m.Seen)) + " ago"}
}

// machineName is the proved name. An unverified machine has none: what it claims is
// shown with a question mark.
func machineName(m survey.Machine) string {
	switch {
	case m.Verified():
		return m.Installer.Name()
	case m.Claim.Name != "":
		return m.Claim.Name + "?"
	default:
		return "-"
	}
}

// addresses lists the addresses of m, without the port where it is SSH's.
func addresses(m survey.Machine) []string {
	var list []string
	for _, a := range m.Addresses {
		if a.Port() == 22 {
			list = append(list, a.Addr().String())
		} else {
			list = append(list, a.String())
		}
	}
	return list
}
