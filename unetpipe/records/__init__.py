"""What each JSON record says: one typed model a record, written and read here."""
