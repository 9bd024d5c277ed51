"""Mutation testing of the ledger: every small change to its code must make a test fail.

mutmut makes the mutants; its own runner is not used. That one starts a pytest session for each mutant, and it leaves
alone what is decorated, what stands outside of functions, and SQL: `reserve`, the tasks, the rules, the laws of
`verification`. Here a session with its database is made once, and forked for each mutant, whose code is grafted onto
the live functions; the child runs the tests that reach the changed line, until one fails.

`catalogue` makes the mutants of a file, `grafting` puts one in place, `session` runs them, `survivors.toml` says why
those that no test can tell from the original live on, and `python -m tests.mutation` judges.
"""
