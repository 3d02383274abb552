"""The course's exercises: one file a notebook, each with checks, hints, solutions and the mistakes they must catch."""
