# NixOS leaves documentation out here.
{ }
