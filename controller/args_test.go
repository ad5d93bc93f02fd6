package controller

import (
	"errors"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestFlagsFirst(t *testing.T) {
	app := &cli.App{
		Flags: []cli.Flag{&cli.StringFlag{Name: "keys"}, &cli.BoolFlag{Name: "v"}},
		Commands: []*cli.Command{{
			Name: "install",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "disk", Aliases: []string{"d"}},
				&cli.BoolFlag{Name: "yes"},
			},
		}, {
			Name:        "keys",
			Subcommands: []*cli.Command{{Name: "new", Flags: []cli.Flag{&cli.BoolFlag{Name: "force"}}}},
		}},
	}
	tests := []struct{ in, want string }{
		{"nixctl install rona --disk /dev/sda", "nixctl install --disk /dev/sda rona"},
		{"nixctl install --disk /dev/sda rona", "nixctl install --disk /dev/sda rona"},
		{"nixctl install rona -d=/dev/sda --yes", "nixctl install -d=/dev/sda --yes rona"},
		{"nixctl install --yes rona -d /dev/sda", "nixctl install --yes -d /dev/sda rona"},
		{"nixctl install rona -- --yes", "nixctl install -- rona --yes"},
		{"nixctl install rona --nope", "nixctl install --nope rona"},
		{"nixctl -v install rona --yes", "nixctl -v install --yes rona"},
		{"nixctl --keys install install rona --yes", "nixctl --keys install install --yes rona"},
		{"nixctl keys new web1 --force", "nixctl keys new --force web1"},
		{"nixctl install rona --yes --generate-bash-completion", "nixctl install rona --yes --generate-bash-completion"},
		{"nixctl other rona --yes", "nixctl other rona --yes"},
	}
	for _, tt := range tests {
		args, err := flagsFirst(app, strings.Fields(tt.in))
		if got := strings.Join(args, " "); got != tt.want || err != nil {
			t.Errorf("%s\n got %s, %v\nwant %s", tt.in, got, err, tt.want)
		}
	}
	if _, err := flagsFirst(app, strings.Fields("nixctl install rona --disk")); !errors.Is(err, errUsage) {
		t.Errorf("missing value: error %v, want %v", err, errUsage)
	}
}
