"""Turns results into tables, texts, pictures and pages for people to read."""
