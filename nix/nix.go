// Package nix knows the Nix side of an installation: how strings are written in
// the Nix language, which files make up a host's configuration, which commands
// install it, and what of a ready system has to be sent. The .nix files beside it
// make the installer image.
//
// Nothing here talks to a machine. Functions that need the workstation's git or nix
// say so and run them with bounded output.
package nix
