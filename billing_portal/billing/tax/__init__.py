"""Who invoices are made out to, and the tax on them."""
