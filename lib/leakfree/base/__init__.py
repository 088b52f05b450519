"""What every room uses: files, hashes of files, processes, escaping, what code and packages made a result."""
