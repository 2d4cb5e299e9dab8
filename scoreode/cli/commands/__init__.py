"""What the shell's commands do, given parsed options; by group, as `scoreode.cli` takes them."""
