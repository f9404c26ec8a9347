"""The site: what the repository says and found, as static pages that need neither network nor server."""
