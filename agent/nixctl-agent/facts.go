//go:build linux

package main

import (
	"context"
	"encoding/json"
	"flag"

	"github.com/nixctl/nixctl/agent/facts"
)

// factsFlags prints [facts.Facts] as one JSON object.
func factsFlags(*flag.FlagSet) func(context.Context, streams) error {
	return func(ctx context.Context, s streams) error {
		f, err := facts.Gather(ctx)
		if err != nil {
			return err
		}
		out := json.NewEncoder(s.out)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		return out.Encode(f)
	}
}
