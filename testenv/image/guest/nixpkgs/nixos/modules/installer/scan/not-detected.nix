# NixOS turns firmware on here.
{ }
