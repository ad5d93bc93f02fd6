package main

import (
	"context"
	"os"
	"time"

	"github.com/nixctl/nixctl/testenv/hostpkgs"
	"github.com/nixctl/nixctl/testenv/image"
)

// setup brings the machine into a state in which the lab runs: its packages, and the
// guest image. The second time there is nothing to do.
func setup(ctx context.Context, args []string) error {
	if len(args) > 0 {
		return errUsage
	}
	start := time.Now()
	if err := hostpkgs.Ensure(ctx, os.Stdout); err != nil {
		return err
	}
	img, err := image.Ensure(ctx, func(line string) { say("     %s", line) })
	if err != nil {
		return err
	}
	say("ok   lab image %s (%s)", img.Dir, time.Since(start).Round(time.Second/10))
	return nil
}
