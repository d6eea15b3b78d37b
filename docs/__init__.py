"""The documentation: pages in Markdown, and what builds them into a site. Nothing here is installed with Samplit."""
