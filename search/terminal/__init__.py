"""What is shown and read on the terminal. Begin with output.py: tables and JSON.

progress_bars.py shows long work, search_progress.py a search, durations.py times as people write them, config_file.py
reads hpsearch.toml, help_sections.py groups options, value_range.py is a shared one, streams.py is output that no
missing letter or reader ends, column_widths.py fits tables into narrow terminals.
"""
