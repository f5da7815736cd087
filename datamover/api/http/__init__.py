"""HTTP as callers speak it, before anybody knows what is called."""
