"""One engine as several processes of one machine, to use more than one core: the parent's side and the child's."""
