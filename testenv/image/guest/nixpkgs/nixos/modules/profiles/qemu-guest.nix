# NixOS adds virtio drivers to the initrd here; the tiny system's has them.
{ }
