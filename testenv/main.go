// Command testenv is the lab: it builds the machines and the network on which nixctl
// is tried and tested, and runs what CI runs.
//
//	go run ./testenv setup           install what the lab needs and build the guest image
//	go run ./testenv demo            the main job, on machines it makes itself
//	go run ./testenv lab up          the same machines, to try things by hand
//	go run ./testenv test [-short]   all that CI runs
//	go run ./testenv bench NAME      discovery or install, against the tools people use
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// A command is a word after "go run ./testenv".
type command struct {
	usage string
	run   func(ctx context.Context, args []string) error
}

var commands = map[string]command{
	"setup": {"setup", setup},
	"demo":  {"demo", demo},
	"lab":   {"lab up|down|status|shell|console [GUEST]", runLab},
	"test":  {"test [-short]", test},
	"bench": {"bench discovery|install", bench},
}

var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if c, ok := commands[args[0]]; ok {
			err := c.run(ctx, args[1:])
			if errors.Is(err, errUsage) {
				return fmt.Errorf("%w: go run ./testenv %s", err, c.usage)
			}
			return err
		}
	}
	return fmt.Errorf("%w: go run ./testenv setup|demo|lab|test|bench", errUsage)
}
