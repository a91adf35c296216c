"""The page that shows what a preparation did: page.py fills report.html."""
