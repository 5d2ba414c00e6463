"""`make bench`: how fast the project is, beside what it is measured against."""
