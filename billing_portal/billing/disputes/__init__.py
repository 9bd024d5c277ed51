"""What customers say is billed wrongly: `subjects` knows what it can be about, `cases` what becomes of it."""
