"""What people look at: reports, contact sheets, films."""
