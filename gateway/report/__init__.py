"""What a replay comes to: exchanges counted as they pass by, whichever engine judged them; told as JSON, tables or a page."""
