"""Write a few hundred small synthetic images into a folder, to try an extension on."""

import argparse
from pathlib import Path

from leakfree.base.files import replacing
from leakfree.data.sources.phantom import PhantomSettings, PhantomSource

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path, metavar="FOLDER", help="gets part/class/film.jpeg")
parser.add_argument("--films", type=int, default=320, metavar="N", help="how many (default: 320)")
parser.add_argument("--size", type=int, default=48, metavar="N", help="side in pixels (default: 48)")
given = parser.parse_args()

# No copies and no wrong labels: what an audit finds later is what was planted later.
planted = {"exact_duplicates": 0, "near_duplicates": 0, "conflicting_labels": 0}
source = PhantomSource(PhantomSettings(n_images=given.films, size=given.size, **planted))
for film in source:
    with replacing(given.folder / film.file) as temporary:
        temporary.write_bytes(film.data)
print(f"{len(source)} images in {given.folder}")
