package main

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/nixctl/nixctl"

type pkg struct {
	ImportPath, Dir string
	Imports, Deps   []string
	GoFiles         []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,Deps,GoFiles", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

// under reports whether path is prefix or lies below it.
func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// TestLayers checks which packages must never depend on which.
func TestLayers(t *testing.T) {
	const self = module + "/"
	rules := []struct {
		from  []string // these packages and those below them
		never []string
		why   string
	}{
		{[]string{self + "discovery/beacon", self + "discovery/words", self + "discovery/oui", self + "install/command", self + "install/disk", self + "agent/facts"},
			[]string{"golang.org/x", "github.com/google", "github.com/hashicorp", "tailscale.com"},
			"they are plain data and plain computing"},
		{[]string{self + "nix"},
			[]string{"github.com/google", "github.com/hashicorp", "tailscale.com", self + "discovery", self + "controller", self + "agent"},
			"it knows nix and nothing else"},
		{[]string{self + "agent"},
			[]string{self + "discovery/arp", self + "discovery/mdns", self + "discovery/tailnet", self + "discovery/verify", self + "discovery/survey", self + "install", self + "nix", self + "controller"},
			"the agent announces; it neither searches nor installs"},
		{[]string{self + "discovery"},
			[]string{self + "agent", self + "install", self + "nix", self + "controller"},
			"finding a machine knows nothing of what is done with it"},
		{[]string{self + "install"},
			[]string{self + "agent/announce", self + "agent/status", self + "controller", "tailscale.com", "github.com/hashicorp", "github.com/google/gopacket", "github.com/urfave/cli"},
			"installing needs a verified installer and SSH, not how it was found; of the agent it knows the facts alone"},
		{[]string{self + "controller"},
			[]string{self + "agent/announce", self + "agent/join"},
			"the workstation never announces itself"},
		{[]string{self + "controller/vm", self + "controller/terminal", self + "controller/keystore", self + "controller/login"},
			[]string{self + "install", self + "agent", "github.com/urfave/cli"},
			"they serve the commands and do not know them"},
		{[]string{self + "agent", self + "discovery", self + "install", self + "nix", self + "controller"},
			[]string{self + "testenv"},
			"test machinery stays out of the programs"},
	}
	for _, p := range list(t) {
		for _, r := range rules {
			applies := false
			for _, f := range r.from {
				applies = applies || under(p.ImportPath, f)
			}
			if !applies {
				continue
			}
			for _, d := range p.Deps {
				for _, n := range r.never {
					if under(d, n) {
						t.Errorf("%s depends on %s: %s", p.ImportPath, d, r.why)
					}
				}
			}
		}
	}
}

// TestOwners checks that each heavy dependency has the importers it is meant
// to have.
func TestOwners(t *testing.T) {
	owners := map[string][]string{
		"tailscale.com/tsnet":               {"agent/join"},
		"github.com/google/gopacket":        {"discovery/arp"},
		"github.com/google/gopacket/layers": {"discovery/arp"},
		"github.com/hashicorp/mdns":         {"discovery/mdns", "agent/announce"},
		"github.com/pkg/sftp":               {"install/target"},
		"github.com/urfave/cli/v2":          {"controller"},
	}
	for _, p := range list(t) {
		for _, imp := range p.Imports {
			want, ok := owners[imp]
			if !ok {
				continue
			}
			found := false
			for _, w := range want {
				found = found || p.ImportPath == module+"/"+w
			}
			if !found {
				t.Errorf("%s imports %s, which only %v may", p.ImportPath, imp, want)
			}
		}
	}
}

// TestPackageDocs checks that every package says once what it is for.
func TestPackageDocs(t *testing.T) {
	for _, p := range list(t) {
		docs := 0
		for _, f := range p.GoFiles {
			a, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if a.Doc != nil {
				docs++
			}
		}
		if docs != 1 {
			t.Errorf("%s: %d files with a package comment, want 1", p.ImportPath, docs)
		}
		switch base := filepath.Base(p.Dir); base {
		case "util", "utils", "common", "helper", "helpers", "types", "misc", "base", "shared", "lib":
			t.Errorf("%s: name a package after what it provides", p.ImportPath)
		}
	}
}
