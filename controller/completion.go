package controller

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// The scripts ask nixctl itself what may follow: cli answers
// --generate-bash-completion with one word a line.
var completions = map[string]string{
	"bash": `_nixctl() {
  local IFS=$'\n'
  COMPREPLY=($(compgen -W "$("${COMP_WORDS[@]:0:COMP_CWORD}" --generate-bash-completion 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _nixctl nixctl
`,
	"zsh": `#compdef nixctl
_nixctl() {
  local -a replies
  replies=("${(@f)$(${words[1,CURRENT-1]} --generate-bash-completion 2>/dev/null)}")
  compadd -a replies || _files
}
compdef _nixctl nixctl
`,
	"fish": `complete -c nixctl -a '(set -l w (commandline -opc); $w --generate-bash-completion 2>/dev/null)'
`,
}

func completionCommand(c *console) *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print the completion script of a shell", ArgsUsage: "bash|zsh|fish",
		Description: `Put it where your shell looks, for example:
  nixctl completion bash > ~/.local/share/bash-completion/completions/nixctl

Exit codes: 0 done; 2 usage.`,
		Action: withArgs(1, 1, func(args []string) error {
			script, ok := completions[args[0]]
			if !ok {
				return fmt.Errorf("%w: no completion for %q; want bash, zsh or fish", errUsage, args[0])
			}
			_, err := fmt.Fprint(c.out, script)
			return err
		}),
	}
}
