"""Every fixed bound on what a client, another's server, or a user of the console may send, hold or wait for.

What an operator may want to change is a key of ``[limits]`` instead: what exceeds one of these is a mistake or an
attack. A bound is checked before any work that grows with the input. Tuning, such as the pause between two polls or the
size of a batch, stands with the code that it tunes. docs/security.md lists the bounds that users meet.

``calls`` has those of calls and their answers, ``door`` those of a connection to the interface before a call is read,
``work`` those of what calls and jobs cause in a process, ``console``, ``servers`` and ``datasets`` those of what comes
from there. Lengths of text are in characters unless a comment says otherwise.
"""
