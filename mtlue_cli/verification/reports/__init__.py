"""The result document of a verification as JUnit XML, Markdown and one HTML page."""
