// Package status writes what an installer shows on its own screen: who it is, how
// to reach it and the words that prove its key to the eye.
package status

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// A Status is what is shown. Empty fields are left out or said to be missing.
type Status struct {
	Name        string
	Addresses   []string // that people can connect to
	Port        int      // of sshd; 0 means 22
	Fingerprint string   // of the SSH host key, "SHA256:..."
	Words       string   // of the fingerprint, as nixctl discover shows them
	State       string   // such as "ready" or "installing"
	Version     string   // of the agent
}

// Print writes s as plain text, at most 80 columns wide unless a name or
// fingerprint is longer.
func Print(w io.Writer, s Status) error {
	_, err := io.WriteString(w, text(s))
	return err
}

func text(s Status) string {
	b := &strings.Builder{}
	title := "nixctl installer"
	if s.Version != "" {
		title += " " + s.Version
	}
	fmt.Fprintf(b, "\n  %s\n\n", title)
	row := func(key, value string) {
		if value != "" {
			fmt.Fprintf(b, "  %-10s %s\n", key, value)
		}
	}
	row("name", s.Name)
	addresses := s.Addresses
	if len(addresses) == 0 {
		addresses = []string{"none yet; check the cable or the Wi-Fi"}
	}
	key := "address"
	for _, a := range addresses {
		row(key, a)
		key = ""
	}
	if s.Port != 0 && s.Port != 22 {
		row("port", fmt.Sprint(s.Port))
	}
	row("state", s.State)
	if s.Fingerprint == "" {
		row("host key", "none yet")
	} else {
		row("host key", s.Fingerprint)
	}
	row("words", s.Words)
	if s.Words != "" {
		b.WriteString("\n  \"nixctl discover\" shows the same words for this machine, or it is another one.\n")
	}
	b.WriteByte('\n')
	return b.String()
}

// clearScreen moves to the top left and erases all (ECMA-48: CUP, ED).
const clearScreen = "\x1b[H\x1b[2J"

// A Screen is where [Screen.Watch] shows a status.
type Screen struct {
	W io.Writer
	// Terminal says that W understands control sequences and is redrawn in place.
	// On a serial console, whose output is often kept, the text is only added.
	Terminal bool
	Every    time.Duration // between looks; if 0, two seconds
}

// Watch shows what current returns, and again whenever it changes, until ctx is
// done. It then returns nil.
func (s Screen) Watch(ctx context.Context, current func() Status) error {
	every := s.Every
	if every == 0 {
		every = 2 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	shown := ""
	for {
		if next := text(current()); next != shown {
			shown = next
			if s.Terminal {
				next = clearScreen + next
			}
			if _, err := io.WriteString(s.W, next); err != nil {
				return fmt.Errorf("show the status: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
