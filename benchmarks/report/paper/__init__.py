"""Tables laid out as papers print them: a TOML of rows and columns into Markdown, CSV, LaTeX and HTML."""
