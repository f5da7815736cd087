"""One engine as several processes of one machine, so that more than one core works: who starts them, who is started."""
