"""Run the whole study: ``python run_all.py --help``."""

from leakfree_study.compendium.study import main

if __name__ == "__main__":
    raise SystemExit(main())
