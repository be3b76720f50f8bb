"""
Commands. No logic: each one reads its arguments, calls what does the work, and prints.

1. What was asked for goes to standard output, everything else to standard error.
2. It ends with 0 if it came as asked, with 1 if not, with 2 for a command that cannot be understood.
3. A user's fault is a line that says what to mend, never a traceback; several are told at once.
4. Only `migrate` makes a store. A command, or a server, that found none would otherwise begin an empty one, and an
   empty one knows of no lock.
"""
