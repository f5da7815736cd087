"""What engines take from the queue, and write back."""
