"""What only this compendium uses: its notebooks, its runs, its book."""
